"""The tables of a report, from rows and comparisons already made.

Invariant: no mean without n and missing, no comparison without its interval; a table is plain data
and computes nothing that a test needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from peira.families.prompts.costs import costs_json
from peira.families.prompts.data import Item
from peira.families.prompts.effects import Comparison, scored_mean
from peira.families.prompts.evaluated import TrialData
from peira.families.prompts.naming import labels, scopes
from peira.families.prompts.rows import STATUSES
from peira.families.prompts.settings import CONTROL
from peira.families.prompts.significance import Compared, means
from peira.report.analysis import Column, Table
from peira.stats.result import Estimate

FLIPS_SHOWN = 20
BOUNDS = Column.text("bounds")


Rows = Iterable[Mapping[str, Any]]


def _by_trial(
    name: str, title: str, columns: Sequence[Column], rows: Iterable[tuple[TrialData, Rows]],
    note: str,
) -> Table:  # fmt: skip
    """A table of rows from trials, with the trial's name where there are several."""
    told = [(trial.record.slug, own) for trial, own in rows]
    several = len({slug for slug, _ in told}) > 1
    whole = tuple({"trial": slug, **row} for slug, own in told for row in own)
    first = (Column.text("trial"),) if several else ()
    return Table(name, title, (*first, *columns), whole, note)


def items(trials: Sequence[TrialData]) -> Table:
    """The questions asked, by dataset."""
    columns = (
        Column.text("dataset"), Column.text("type"),
        Column.whole("items"), Column.whole("unanswerable"),
        Column.whole("clusters"),
    )  # fmt: skip
    known = {item.key: item for trial in trials for item in trial.items}
    groups: dict[tuple[str, str], list[Item]] = {}
    for item in known.values():
        groups.setdefault((item.dataset, item.type), []).append(item)
    rows = [
        {
            "dataset": dataset, "type": kind, "items": len(group),
            "unanswerable": sum(item.is_unanswerable for item in group),
            "clusters": len({item.cluster for item in group}),
        }
        for (dataset, kind), group in sorted(groups.items())
    ]  # fmt: skip
    note = "Items of one cluster share a passage and are not independent. Open: with a passage."
    return Table("items", "Items", columns, tuple(rows), note)


def completeness(trials: Sequence[TrialData]) -> Table:
    """Rows by status: planned is their sum."""
    columns = (
        Column.text("state"), Column.whole("planned", "planned rows"), *map(Column.whole, STATUSES),
    )  # fmt: skip
    rows = (
        (t, [{"state": str(t.record.state), "planned": len(t.rows), **t.counts}]) for t in trials
    )
    note = "Only `ok` rows are scored; planned is the sum of the others."
    return _by_trial("rows", "Rows by status", columns, rows, note)


def forest(compared: Sequence[Compared], family_size: int) -> Table:
    """Every primary comparison: δ, interval, corrected p, what the lost rows could change."""
    metric = compared[0].stats.primary if compared else "em"
    lost = _any_lost(compared)
    columns = (
        Column.text("comparison"),
        Column("control_mean", "reference", 3), Column("arm_mean", "arm", 3),
        Column.estimate("delta", f"δ {metric}, arm − reference", 3),
        Column("p_adjusted", "Holm p"),
        *((Column("delta_itt", "δ, lost = wrong", 3), BOUNDS) if lost else ()),
        Column.text("verdict"),
    )  # fmt: skip
    note = (
        f"Primary endpoint. Holm over the run's {family_size} primary tests; Holm p is the only"
        " basis of a claim."
        + (
            " Unscored rows are left out of δ; beside it δ with them as not correct."
            if lost
            else " No row was lost."
        )
    )
    rows = tuple(
        _forest_row(part, label) for part, label in zip(compared, labels(compared), strict=True)
    )
    return Table("forest", "Primary comparisons", columns, rows, note)


def _forest_row(part: Compared, label: str) -> dict[str, Any]:
    entry = part.primary
    flags = ", ".join(dict.fromkeys([*part.cell["flags"], *entry["flags"]])).replace("_", " ")
    return {
        "comparison": label, "control_mean": entry["control_mean"],
        "arm_mean": entry["arm_mean"], "delta": part.estimate(part.stats.primary),
        "p_adjusted": entry["p_adjusted"], "delta_itt": entry["delta_itt"],
        "bounds": _bounds(entry),
        "verdict": part.block["verdict"] + (f" ({flags})" if flags else ""),
    }  # fmt: skip


def _any_lost(compared: Sequence[Compared]) -> bool:
    return any(lost for part in compared for lost in part.cell["unscored"].values())


def metrics(compared: Sequence[Compared]) -> Table:
    """The other metrics of all comparisons."""
    columns = (
        Column.text("comparison"), Column.text("metric"),
        Column("control_mean", "reference", 3), Column("arm_mean", "arm", 3),
        Column.estimate("delta", "δ, arm − reference", 3),
        *((BOUNDS,) if (lost := _any_lost(compared)) else ()),
        Column("p_adjusted", "Holm p"), Column("q_value", "BH q"),
    )  # fmt: skip
    note = (
        "Metrics with a Holm p are secondary and stand behind the gate of the primary ones: it is"
        " never below the largest of those. The rest is exploratory."
        + (" Bounds: the least and the most that unscored rows could make of δ." if lost else "")
    )
    return Table("metrics", "Other metrics", columns, tuple(_metric_rows(compared)), note)


def _metric_rows(compared: Sequence[Compared]) -> Iterator[dict[str, Any]]:
    for part, label in zip(compared, labels(compared), strict=True):
        for name, entry in part.block["metrics"].items():
            if entry["delta_mean"] is None or entry["role"] == "primary":
                continue
            exploratory = entry["role"] == "exploratory"
            yield {
                "comparison": label, "metric": name,
                "control_mean": entry["control_mean"], "arm_mean": entry["arm_mean"],
                "delta": part.estimate(name), "bounds": _bounds(entry),
                "p_adjusted": entry.get("p_adjusted"),
                "p_adjusted_reason": "exploratory" if exploratory else None,
                "q_value": entry.get("q_value"),
                "q_value_reason": None if exploratory else "corrected by Holm",
            }  # fmt: skip


def _bounds(entry: Mapping[str, Any]) -> str:
    bounds = entry["bounds"]
    if bounds is None:
        return "n/a"
    return f"{bounds[0]:+.3f} to {bounds[1]:+.3f}".replace("-", "−")


def omnibus(tests: Sequence[tuple[Comparison, dict[str, Any]]]) -> Table:
    """Three arms or more: do they all share one mean?"""
    columns = (
        Column.text("items"), Column.whole("arms"),
        Column.estimate("range", "largest − smallest mean", 3), Column("p", "p"),
        Column.text("method"),
    )  # fmt: skip
    rows = (
        (at.trial, [{
            "items": f"{at.kind}, t={at.temp:g}", "arms": entry["arms"], "p": entry["p_value"],
            "p_reason": "empty", "method": entry["method"],
            "range": Estimate(entry["range"], n=entry["n_items"], reason="no interval"),
        }])
        for at, entry in tests
    )  # fmt: skip
    note = "Are all arms alike? Exploratory, not corrected; claims rest on the comparisons."
    return _by_trial("omnibus", "All arms at once", columns, rows, note)


def arms(trials: Sequence[TrialData]) -> Table:
    """The prompts: hash, length, ratio to the control's."""
    columns = (
        Column.text("arm"), Column.text("path", "file"), Column.text("sha", "SHA-256"),
        Column.whole("tokens"), Column("ratio", "length / control", 2),
    )  # fmt: skip
    methods = " and ".join(dict.fromkeys(trial.token_method for trial in trials))
    rows = ((trial, audit(trial.arms)) for trial in trials)
    return _by_trial("arms", "Arms", columns, rows, f"Tokens are counted by: {methods}.")


def audit(prompts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row an arm from its prompt's path, text, SHA-256 and tokens."""
    control = prompts[CONTROL]["tokens"]
    return [
        {
            "arm": arm, "path": shown_path(prompt["path"]),
            "sha": (prompt["sha256"] or "none")[:12], "tokens": prompt["tokens"],
            "ratio": prompt["tokens"] / control if control else None,
            "ratio_reason": None if control else "no control prompt",
        }
        for arm, prompt in prompts.items()
    ]  # fmt: skip


def shown_path(path: str | None) -> str:
    """A prompt's path as written; of a place found elsewhere the last two parts."""
    if path is None:
        return "(no system message)"
    parts = Path(path).parts
    return "/".join(("…", *parts[-2:])) if Path(path).is_absolute() else path


def ranking(trials: Sequence[TrialData]) -> Table:
    """Arms of each trial by their mean, for trials with three arms or more."""
    columns = (
        Column.text("items"), Column.whole("rank"), Column.text("arm"),
        Column.estimate("mean", digits=3),
    )  # fmt: skip
    rows = ((trial, _ranked(trial) if len(trial.arms) > 2 else ()) for trial in trials)
    note = (
        "Means over items, samples averaged within, intervals by clusters; ranks are no claim (see"
        " the comparisons)."
    )
    return _by_trial("ranking", "Arms in order", columns, rows, note)


def _ranked(trial: TrialData) -> Iterator[dict[str, Any]]:
    metric = trial.settings.analysis.stats.primary
    for temp in trial.settings.temps:
        for kind in trial.types:
            found = means(trial, temp, kind, metric)
            order = sorted(found, key=lambda arm: -(found[arm].estimate or 0.0))
            for rank, arm in enumerate(order, 1):
                where = f"{kind}, t={temp:g}"
                yield {"items": where, "rank": rank, "arm": arm, "mean": found[arm]}


def costs(trials: Sequence[TrialData]) -> Table:
    """Money, tokens and time of each arm."""
    columns = (
        Column.text("arm"), Column.whole("rows"), Column.whole("prompt_tokens", "tokens in"),
        Column.whole("completion_tokens", "tokens out"), Column("usd", "USD", 6, kind="usd"),
        Column("usd_spent", "USD spent", 6, kind="usd"),
        Column("latency", "median latency", 2, unit="s"),
    )  # fmt: skip
    rows = ((trial, _cost_rows(trial)) for trial in trials)
    note = "USD prices the rows an arm uses; USD spent charges a shared row to its first user only."
    return _by_trial("costs", "Cost by condition", columns, rows, note)


def _cost_rows(trial: TrialData) -> Iterator[dict[str, Any]]:
    seconds = trial.column("seconds")
    for place, (arm, part) in enumerate(costs_json(trial)["by_condition"].items()):
        seen = seconds[:, :, place][np.isfinite(seconds[:, :, place])]
        yield {
            "arm": arm, "rows": part["usage_records"],
            **{k: part[k] for k in ("prompt_tokens", "completion_tokens", "usd", "usd_spent")},
            "latency": float(np.median(seen)) if seen.size and not trial.record.simulated else None,
            "latency_reason": "simulated" if trial.record.simulated else "not timed",
        }  # fmt: skip


def selective(compared: Sequence[Compared]) -> Table:
    """Coverage, accuracy of what was answered, accuracy over all: each arm once."""
    columns = (
        Column.text("items"), Column.text("arm"),
        Column.estimate("coverage", digits=3),
        Column.estimate("selective_accuracy", "accuracy where answered", 3),
        Column.estimate("accuracy", "accuracy over all", 3),
    )  # fmt: skip
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    own = [part for part in compared if not part.at.trial.joined]
    for part, where in zip(own, scopes(own), strict=True):
        for arm, risk in part.block["selective_risk"].items():
            rates = {name: _rate(risk, name) for name in DENOMINATORS}
            rows.setdefault((where, arm), {"items": where, "arm": arm, **rates})
    note = (
        "Ratios of sums; intervals by clusters. To abstain is right on an unanswerable item, which"
        " only the accuracy over all counts. An arm that only abstains more trades the first column"
        " for the second."
    )
    return Table("risk_coverage", "Answering and being right", columns, tuple(rows.values()), note)


DENOMINATORS = {"coverage": "n_scored", "selective_accuracy": "n_answered", "accuracy": "n_scored"}


def _rate(risk: dict[str, Any], name: str) -> Estimate:
    low, high = risk[f"{name}_ci_95"] or (None, None)
    reason = None if low is not None else "zero_variance" if risk[name] is not None else "empty"
    return Estimate(
        risk[name], low, high, n=risk[DENOMINATORS[name]], method="ratio of sums, cluster t",
        reason=reason,
    )  # fmt: skip


def flip_rows(trial: TrialData) -> Iterator[dict[str, Any]]:
    """Items whose correctness changed under an arm: one line an item, arm and temperature. With
    several samples an item flips when its mean crosses one half."""
    em = trial.values("em")
    texts = trial.column("text", object)
    control = trial.arm_names.index(CONTROL)
    for temp in trial.settings.temps:
        draws = trial.draws(temp)
        for place, arm in enumerate(trial.arm_names):
            if arm == CONTROL:
                continue
            before, after = (scored_mean(em[:, draws, k]) for k in (control, place))
            for number in np.flatnonzero((before - 0.5) * (after - 0.5) < 0):
                item = trial.items[number]
                yield {
                    "dataset": item.dataset, "item_id": item.id, "type": item.type, "temp": temp,
                    "arm": arm, "direction": "gain" if after[number] > before[number] else "loss",
                    "golds": " | ".join(item.answers),
                    "control_text": texts[number, draws, control][0],
                    "arm_text": texts[number, draws, place][0], "question": item.question,
                }  # fmt: skip


def flips(trial: TrialData) -> Table:
    """Gains and losses with both texts, twenty each."""
    columns = (
        Column.text("direction", "change"), Column.text("arm"),
        Column.text("question"), Column.text("golds", "accepted"),
        Column.text("control_text", "control said"), Column.text("arm_text", "arm said"),
    )  # fmt: skip
    rows = list(flip_rows(trial))
    shown = [
        row
        | {name: _short(row[name]) for name in ("question", "control_text", "arm_text")}
        | {"golds": row["golds"] or "none: unanswerable"}
        for way in ("gain", "loss")
        for row in [r for r in rows if r["direction"] == way][:FLIPS_SHOWN]
    ]
    gains = sum(row["direction"] == "gain" for row in rows)
    note = f"{gains} gains and {len(rows) - gains} losses in all; every one is in flips.csv."
    return Table("flips", "Answers that changed", columns, tuple(shown), note)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 160 else line[:159] + "…"
