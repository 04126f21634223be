"""significance.json of every trial: all comparisons, then one correction over the whole run.

Invariant: the family of primary tests is the run's, planned tests count whether or not they could
be run, and `p_adjusted` is the only basis of a claim.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from peira.families.prompts import extras
from peira.families.prompts.across import joined
from peira.families.prompts.effects import Comparison, metric_entry, sides
from peira.families.prompts.evaluated import Evaluated, TrialData, comparisons
from peira.families.prompts.omnibus import over_datasets, several_arms
from peira.families.prompts.selective import selective_risk
from peira.families.prompts.settings import CONTROL, AnalysisSettings, StatsSettings
from peira.stats.clustered import cluster_mean
from peira.stats.multiplicity import benjamini_hochberg, holm
from peira.stats.result import RESAMPLED, Estimate
from peira.study.seeds import derive

SCHEMA_VERSION = 3
DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Compared:
    """One comparison with its entries in significance.json."""

    at: Comparison
    block: dict[str, Any]
    cell: dict[str, Any]
    reasons: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def stats(self) -> StatsSettings:
        return self.at.stats

    @property
    def primary(self) -> dict[str, Any]:
        entry: dict[str, Any] = self.block["metrics"][self.stats.primary]
        return entry

    def estimate(self, metric: str, estimand: str = "") -> Estimate:
        """A metric's entry as an Estimate."""
        entry, reasons = self.block["metrics"][metric], self.reasons.get(metric, {})
        low, high = entry["ci_95"] or (None, None)
        missing = entry["delta_mean"] is None or low is None
        method = entry["ci_method"]
        if entry["p_method"] not in ("none", method):
            method = f"{method}; p: {entry['p_method']}"
        return Estimate(
            entry["delta_mean"], low, high, p=entry["p_value"], n=entry["n_items"],
            missing=entry["n_missing"], method=method, estimand=estimand,
            reason=reasons.get("delta_mean", reasons.get("ci_95", "empty")) if missing else None,
            mc_error=entry.get("mc_error"),
            extra={name: entry[name] for name in RESAMPLED if name in entry},
        )  # fmt: skip

    @property
    def title(self) -> str:
        """What is compared, for people."""
        return f"{self.at.trial.record.slug}: {self.short}"

    @property
    def short(self) -> str:
        """The same without the trial's name."""
        versus = "" if self.at.reference == CONTROL else f" vs {self.at.reference}"
        temp = self.temp and f", {self.temp}"
        return f"{self.at.arm}{versus} ({self.at.kind}{temp})"

    @property
    def temp(self) -> str:
        """The temperature, where the trial has several."""
        return f"t={self.at.temp:g}" if len(self.at.trial.settings.temps) > 1 else ""


@dataclass
class RunSignificance:
    """Every trial's document, and the comparisons behind them in order."""

    documents: dict[int, dict[str, Any]]
    compared: list[Compared]
    omnibus: list[tuple[Comparison, dict[str, Any]]]
    joined: list[TrialData]
    family_size: int
    alpha: float


def temp_key(temp: float) -> str:
    """Shortest decimal with a point: "0.0", "0.25"."""
    return repr(float(temp))


def run_significance(found: Evaluated) -> RunSignificance:
    """All finished trials compared, and corrected together."""
    documents: dict[int, dict[str, Any]] = {}
    compared: list[Compared] = []
    omnibus: list[tuple[Comparison, dict[str, Any]]] = []
    for trial in found.done:
        results, parts = _results(trial, omnibus)
        documents[trial.record.number] = _document(trial, results)
        compared += parts
    groups = list(joined(found.done))
    for group, trial in groups:
        results, parts = _results(trial, omnibus)
        compared += parts
        document = documents[group[0].record.number]
        document["across_sets"] = {
            "prompt_sets": [one.settings.prompt_set for one in group], "results": results,
        }  # fmt: skip
    size = _adjust(compared)
    for part in compared:
        part.reasons.update((n, e["_reasons"]) for n, e in part.block["metrics"].items())
        _conclude(part)
    for document in documents.values():
        document["primary"]["family_size"] = size
        reasons: dict[str, str] = {}
        _settle(document["results"], "/results", reasons)
        _settle(document.get("across_sets"), "/across_sets", reasons)
        document["reasons"] = reasons
    return RunSignificance(
        documents, compared, omnibus, [trial for _, trial in groups], size,
        found.analysis.stats.alpha,
    )  # fmt: skip


def _results(
    trial: TrialData, omnibus: list[tuple[Comparison, dict[str, Any]]]
) -> tuple[dict[str, Any], list[Compared]]:
    """`results` of a document by temperature and type, and the comparisons in it. Tests of all arms
    at once are added to `omnibus`."""
    results: dict[str, Any] = {temp_key(temp): {} for temp in trial.settings.temps}
    for temp in trial.settings.temps:
        for kind in trial.types:
            at = Comparison(trial, temp, kind, CONTROL, CONTROL, trial.of_type(kind))
            cell = results[temp_key(temp)][kind] = _cell(at)
            omnibus += [(at, cell["omnibus"])] if "omnibus" in cell else []
    parts = []
    for temp, kind, arm, reference in comparisons(trial):
        at = Comparison(trial, temp, kind, arm, reference, trial.of_type(kind))
        cell = results[temp_key(temp)][kind]
        block = _block(at)
        cell["arms"][arm if reference == CONTROL else f"{arm} vs {reference}"] = block
        parts.append(Compared(at, block, cell))
    return results, parts


def _document(trial: TrialData, results: dict[str, Any]) -> dict[str, Any]:
    stats = trial.settings.analysis.stats
    return {
        "schema_version": SCHEMA_VERSION,
        "trial": trial.record.slug,
        "simulated": trial.record.simulated,
        "temps": list(trial.settings.temps),
        "stats": stats.model_dump(mode="json"),
        "primary": {"metric": stats.primary, "family_size": 0, "method": "Holm over the run"},
        "results": results,
    }


def _cell(at: Comparison) -> dict[str, Any]:
    """What all comparisons of one temperature and type share."""
    lost = {}
    for arm in at.trial.arm_names:
        status = at.block(at.trial.status, arm)
        names, counts = np.unique(status.astype(str), return_counts=True)
        lost[arm] = {str(n): int(c) for n, c in zip(names, counts, strict=True) if n != "ok"}
    cell: dict[str, Any] = {
        "n_items": len(at.items),
        "n_clusters": len(set(at.clusters())),
        "unscored": lost,
        "flags": _cell_flags(at),
        "arms": {},
    }
    if len(at.trial.arm_names) >= 3:
        cell["omnibus"] = _omnibus(at)
    return cell


def _omnibus(at: Comparison) -> dict[str, Any]:
    metric = at.stats.primary
    means = np.column_stack(
        [
            sides(Comparison(at.trial, at.temp, at.kind, arm, CONTROL, at.items), metric).arm
            for arm in at.trial.arm_names
        ]
    )
    seed = derive(at.stats.random_seed, at.name, "omnibus")
    return several_arms(means, at.clusters(), at.single, at.stats.permutation_samples, seed)


def _cell_flags(at: Comparison) -> list[str]:
    trial = at.trial
    flags = ["post_hoc"] if trial.post_hoc else []
    shares = [float((at.block(trial.status, arm) != "ok").mean()) for arm in trial.arm_names]
    if max(shares) > at.stats.max_unscored:
        flags.append("unreliable")
    served, asked = trial.column("served", object), trial.column("asked_at")
    models = [frozenset(at.block(served, arm).ravel()) - {""} for arm in trial.arm_names]
    if len({m for m in models if m}) > 1:
        flags.append("served_models_differ")
    times = [at.block(asked, arm) for arm in trial.arm_names]
    medians = [float(np.nanmedian(block)) for block in times if np.isfinite(block).any()]
    if medians and max(medians) - min(medians) > DAY:
        flags.append("asked_over_24h_apart")
    return flags


def _block(at: Comparison) -> dict[str, Any]:
    analysis: AnalysisSettings = at.trial.settings.analysis
    stats, optional = analysis.stats, analysis.optional
    names = list(dict.fromkeys((stats.primary, *stats.secondary, *at.trial.metrics)))
    metrics = {
        name: metric_entry(at, name, _role(name, stats))
        for name in names
        if name in at.trial.metrics or _role(name, stats) != "exploratory"
    }
    block: dict[str, Any] = {"metrics": metrics}
    if (table := extras.mcnemar_block(at, stats.primary)) is not None:
        block["mcnemar"] = table
    block["selective_risk"] = selective_risk(at)
    block["loss_test"] = extras.loss_test(at)
    block["subgroups"] = extras.subgroups(at, stats.primary)
    block |= _optional(at, stats.primary, optional)
    return block


def _optional(at: Comparison, metric: str, optional: Any) -> dict[str, Any]:
    values = sides(at, metric)
    datasets = np.array([at.trial.items[n].dataset for n in at.items], dtype=object)
    parts: dict[str, Any] = {
        "meta": over_datasets(values.arm - values.control, datasets, at.clusters())
    }
    if optional.enable_power_analysis:
        parts["power"] = extras.power(at, metric)
    if optional.enable_unsupported_sensitivity:
        parts["unsupported_sensitivity"] = extras.unsupported_sensitivity(at)
    if optional.enable_mixed_effects:
        parts["models"] = extras.logistic(at, metric)
    if optional.enable_cost_effectiveness:
        parts["cost_effectiveness"] = extras.cost_effectiveness(at, metric)
    return {name: part for name, part in parts.items() if part is not None}


def _role(metric: str, stats: StatsSettings) -> str:
    if metric == stats.primary:
        return "primary"
    return "secondary" if metric in stats.secondary else "exploratory"


# -- one correction over the run ----------------------------------------------------------------
def _entries(compared: list[Compared], role: str) -> Iterator[dict[str, Any]]:
    for part in compared:
        yield from (e for e in part.block["metrics"].values() if e["role"] == role)


def _adjust(compared: list[Compared]) -> int:
    """Holm over the primary tests; Holm over the secondary ones behind the gate that every
    primary is rejected; Benjamini-Hochberg over the rest. Returns the primary family's size."""
    primary = list(_entries(compared, "primary"))
    _put(primary, holm([e["p_value"] for e in primary]).adjusted, "p_adjusted")
    gate = max((1.0 if e["p_adjusted"] is None else e["p_adjusted"] for e in primary), default=1.0)
    secondary = list(_entries(compared, "secondary"))
    gated = [
        None if p is None else max(p, gate)
        for p in holm([e["p_value"] for e in secondary]).adjusted
    ]
    _put(secondary, gated, "p_adjusted")
    if compared and compared[0].stats.enable_fdr:
        rest = list(_entries(compared, "exploratory"))
        _put(rest, benjamini_hochberg([e["p_value"] for e in rest]).adjusted, "q_value")
    return len(primary)


def _put(entries: list[dict[str, Any]], values: Any, name: str) -> None:
    for entry, value in zip(entries, values, strict=True):
        entry[name] = value
        if value is None:
            entry["_reasons"][name] = entry["_reasons"].get("p_value", "empty")


def _conclude(part: Compared) -> None:
    """Name a winner only where δ, corrected, and δ with lost rows as not correct agree."""
    entry, alpha, flags = part.primary, part.stats.alpha, part.cell["flags"]
    claim = entry["p_adjusted"] is not None and entry["p_adjusted"] <= alpha
    itt, itt_p = entry["delta_itt"], entry.get("_itt_p")
    agrees = itt is None or (
        (itt_p is None or itt_p <= alpha) and itt * (entry["delta_mean"] or 0) > 0
    )
    own = ["sensitive_to_unscored"] if claim and not agrees else []
    if itt_p is not None and itt_p <= alpha and not claim and itt is not None:
        own.append("sensitive_to_unscored")
    entry["flags"] = [*entry.get("flags", []), *own]
    named = claim and not own and "unreliable" not in flags
    verdict = "no difference shown"
    if named:
        verdict = "arm higher" if entry["delta_mean"] > 0 else "reference higher"
    elif claim:
        verdict = "no winner named"
    part.block["verdict"] = verdict


def _settle(node: Any, pointer: str, reasons: dict[str, str]) -> None:
    """Take the reasons and notes out of the tree into `reasons`, by JSON pointer."""
    if isinstance(node, list):
        for number, part in enumerate(node):
            _settle(part, f"{pointer}/{number}", reasons)
    if not isinstance(node, dict):
        return
    for key in ("_reasons", "_itt"):
        for name, reason in node.pop(key, {}).items():
            reasons[f"{pointer}/{name}"] = reason
    node.pop("_itt_p", None)
    for name, part in node.items():
        escaped = str(name).replace("~", "~0").replace("/", "~1")
        if part is None:
            reasons.setdefault(f"{pointer}/{escaped}", "empty")
        _settle(part, f"{pointer}/{escaped}", reasons)


def means(trial: TrialData, temp: float, kind: Any, metric: str) -> dict[str, Estimate]:
    """Mean of a metric per arm over the items with any scored row, its interval by clusters."""
    items = trial.of_type(kind)
    at = (Comparison(trial, temp, kind, arm, CONTROL, items) for arm in trial.arm_names)
    return {
        each.arm: cluster_mean(sides(each, metric).arm, each.clusters()).with_(p=None)
        for each in at
    }
