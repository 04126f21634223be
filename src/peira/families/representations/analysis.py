"""Tables and findings over the trials of a run.

The unit is the context within a trial; from six seeds on the seed is the cluster. With one seed the
graph was drawn once, and the notes say that findings are conditional on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from peira.families.representations.files import read_npz, summary_of
from peira.families.representations.inference import means, nanmean, q_values
from peira.report.analysis import Analysis, Column, Finding, Table
from peira.stats.result import Estimate

if TYPE_CHECKING:
    from peira.store.records import Record, RunView

Trial = tuple["Record", dict[str, Any]]
ENOUGH_SEEDS = 6
PAIRED = ("ratio_influence", "energy_influence", "cross_dist_influence", "within_dist_influence",
          "loss_influence")  # fmt: skip


def trials_of(run: RunView) -> list[Trial]:
    """Finished trials with their summaries."""
    return [(r, s) for r in run.done() if (s := summary_of(run, r)) is not None]


def analyse(run: RunView) -> Analysis:
    """The run's answer, tables and findings."""
    found = trials_of(run)
    if not found:
        return Analysis("No trial of this run is done yet.")
    findings = [f for t in found for f in _findings(t, _apart(t, found))]
    tables = [layer_table(found), css_table(found)]
    if any("loo" in s["curves"] for _, s in found):
        tables += [loo_table(found), *agreement_tables(run, found)]
        findings += condition_findings(run, found)
    findings += seed_findings(found) + size_findings(found)
    return Analysis(answer(found), tuple(_short(t, found) for t in tables), tuple(findings), notes(found),
                    sections={"Models": models_text(found)})  # fmt: skip


def answer(found: Sequence[Trial]) -> str:
    """The answer of the one trial, or of the first with a count of the others."""
    first = str(found[0][1]["answer"])
    if len(found) == 1:
        return first
    claimed = sum(1 for _, s in found if s["diagnostics"]["claims"]["cells"])
    return f"{claimed} of {len(found)} trials show order-dependent geometry. First of them: {first}"


def models_text(found: Sequence[Trial]) -> str:
    """Which models were used, plainly."""
    lines = []
    for _, data in found:
        kind = {"tiny": "a tiny trained model: evidence on methods, not on language models",
                "simulated": "simulated: planted, no model at all", None: "a language model"}  # fmt: skip
        lines.append(f"{data['model']} ({kind[data['label']]}; {data['details']['dtype']},"
                     f" {data['details']['device']})")  # fmt: skip
    return "; ".join(dict.fromkeys(lines)) + "."


def notes(found: Sequence[Trial]) -> tuple[str, ...]:
    """Limits of the evidence."""
    out = ["Sensitivity scores (CSS) are correlational: they say where loss and geometry vary together.",
           "Structure needs two paired differences, from shuffled contexts and from an untrained twin;"
           " without a twin the wording is `order-dependent`."]  # fmt: skip
    if len({r.seed for r, _ in found}) < ENOUGH_SEEDS:
        out.append("The graph was drawn once per seed; with fewer than six seeds findings are"
                   " conditional on the graphs drawn.")  # fmt: skip
    few = [s["n_contexts"] for _, s in found if s["n_contexts"] < 20]
    if few:
        out.append(f"Intervals over fewer than 20 contexts (here {min(few)}) are unreliable.")
    broken = sum(sum(s["diagnostics"]["nonfinite_contexts"].values()) for _, s in found)
    if broken:
        out.append(
            f"{broken} (context, layer) cells overflowed and are left out; --dtype bfloat16 avoids it."
        )
    return tuple(out)


def _apart(trial: Trial, found: Sequence[Trial]) -> str:
    """What tells a trial from the others in words: its condition if that does, else its slug."""
    record, data = trial
    if len(found) == 1:
        return ""
    alone = [s["condition"] for _, s in found].count(data["condition"]) == 1
    return str(data["condition"]) if alone else record.slug


def _short(table: Table, found: Sequence[Trial]) -> Table:
    """A table whose trials are named by what tells them apart; one trial needs no column."""
    names = {t[0].slug: _apart(t, found) for t in found}
    rows = tuple({**row, "trial": names[row["trial"]]} for row in table.rows)
    columns = tuple(c for c in table.columns if c.key != "trial" or len(found) > 1)
    return replace(table, columns=columns, rows=rows)


def _findings(trial: Trial, apart: str) -> list[Finding]:
    record, data = trial
    out = []
    for raw in data["findings"]:
        estimate = dict(raw["estimate"])
        estimate["flags"] = tuple(estimate["flags"])
        name = f"{record.slug}: {raw['name']}" if apart else raw["name"]
        claim = f"{apart}, {raw['claim']}" if apart else raw["claim"]
        out.append(
            Finding(**{**raw, "name": name, "claim": claim, "estimate": Estimate(**estimate)})
        )
    return out


def layer_table(found: Sequence[Trial]) -> Table:
    """The main fields by layer at the longest N."""
    rows = []
    for record, data in found:
        for key, cell in data["results"].items():
            rows.append({
                "trial": record.slug, "layer": key.removeprefix("layer_"), "n": cell["dirichlet_energy_n"],
                "energy": _estimate(cell, "dirichlet_energy"),
                "shuffled": cell.get("dirichlet_energy_shuffled"),
                "separation": _estimate(cell, "cluster_separation"),
                "position": cell.get("dirichlet_position"), "overlap": cell.get("population_overlap_2"),
                "mass": cell.get("neighbour_mass"), "claim": cell.get("claim") or "",
            })  # fmt: skip
    columns = (
        Column("trial", "trial", kind="text"), Column("layer", "layer", kind="text"),
        Column("energy", "energy R", 3, kind="estimate"), Column("shuffled", "R shuffled", 3),
        Column("separation", "separation F", 2, kind="estimate"),
        Column("position", "position", 3), Column("overlap", "overlap", 3),
        Column("mass", "mass", 3), Column("claim", "claim", kind="text"),
    )  # fmt: skip
    return Table("layers", "Geometry by layer at the longest context", columns, tuple(rows),
                 "R and F are 1 without structure; lower R, higher F is more. Overlap: the population's"
                 " plane with the graph's. Mass: on neighbours. Intervals: 95 % t over contexts.")  # fmt: skip


def _estimate(cell: Mapping[str, Any], name: str) -> Estimate:
    value, limits = cell.get(name), cell.get(f"{name}_ci")
    n = int(cell.get(f"{name}_n") or 0)
    if value is None:
        return Estimate(None, n=n, reason="not_identified")
    low, high = limits or (None, None)
    return Estimate(value, low, high, n=n, method="t over contexts",
                    reason=None if limits else "single_unit" if n < 2 else "zero_variance")  # fmt: skip


def css_table(found: Sequence[Trial]) -> Table:
    """Where sensitivity is firm: positions at q < .05 by layer."""
    rows = []
    for record, data in found:
        for key, cell in data["results"].items():
            q = [(x, t) for t, x in enumerate(cell["css_q"]) if x is not None]
            hit = [t + 1 for x, t in q if x < 0.05]
            best = min(q)[1] if q else None
            rows.append({
                "trial": record.slug, "layer": key.removeprefix("layer_"), "tested": len(q),
                "found": len(hit), "where": ", ".join(map(str, hit[:12])) + (" …" if len(hit) > 12 else ""),
                "best": None if best is None else best + 1,
                "r": None if best is None else cell["css_r"][best],
            })  # fmt: skip
    columns = (
        Column("trial", "trial", kind="text"), Column("layer", "layer", kind="text"),
        Column("tested", "positions"), Column("found", "q < .05"), Column("where", "at", kind="text"),
        Column("best", "strongest at"), Column("r", "r there", 2),
    )  # fmt: skip
    return Table("sensitivity", "Context sensitivity (Φ = separation)", columns, tuple(rows),
                 "BH over layers × positions of a trial. Correlational.")  # fmt: skip


# -- leave-one-out across conditions --------------------------------------------------------------


def loo_table(found: Sequence[Trial]) -> Table:
    """Metric × condition × layer."""
    rows = []
    for record, data in found:
        for key, cell in data["results"].items():
            for metric in PAIRED:
                gap = cell.get(f"{metric}_bridge_minus_anchor", {})
                rows.append({"trial": record.slug, "condition": data["condition"],
                             "layer": key.removeprefix("layer_"), "metric": metric,
                             "mean": _estimate(cell, metric), "gap": _curve_estimate(gap),
                             "q": gap.get("q")})  # fmt: skip
    columns = (
        Column("trial", "trial", kind="text"), Column("condition", "condition", kind="text"),
        Column("layer", "layer", kind="text"), Column("metric", "influence", kind="text"),
        Column("mean", "mean over items", 4, kind="estimate"),
        Column("gap", "bridge − anchor", 4, kind="estimate"), Column("q", "q", 3),
    )  # fmt: skip
    return Table("leave_one_out", "Influence of single items at the longest context", columns,
                 tuple(rows), "Positive ratio, energy and loss influence: the item helped.")  # fmt: skip


def _curve_estimate(cell: Mapping[str, Any]) -> Estimate:
    if cell.get("mean") is None:
        return Estimate(None, n=int(cell.get("n") or 0), reason="not_identified")
    reason = None if cell["low"] is not None else "single_unit"
    return Estimate(cell["mean"], cell["low"], cell["high"], n=cell["n"], reason=reason,
                    method="t over contexts")  # fmt: skip


def _per_context(run: RunView, record: Record, metric: str) -> Any:
    """(C, L): mean over items at the longest N."""
    arrays = read_npz(run.artifacts(record.number)["contexts.npz"])
    values = arrays[f"loo.{metric}"][:, :, -1].astype(float)
    return nanmean(values, -1)


def _condition_pairs(found: Sequence[Trial]) -> list[tuple[Trial, Trial]]:
    """Pairs of trials that differ in condition only, in the order of the conditions."""
    out = []
    for a, b in combinations(found, 2):
        alike = (a[1]["model"], a[0].seed) == (b[1]["model"], b[0].seed)
        if alike and a[1]["condition"] != b[1]["condition"] and "loo" in a[1]["curves"]:
            out.append((a, b))
    return out


def condition_findings(run: RunView, found: Sequence[Trial]) -> list[Finding]:
    """First − second condition (semantic − unrelated), paired over contexts, BH over metric × layer."""
    out = []
    for (first, one), (second, two) in _condition_pairs(found):
        keys = list(one["results"])
        gaps = [
            means(_paired(_per_context(run, first, m), _per_context(run, second, m)))
            for m in PAIRED
        ]
        q = q_values(np.stack([g.p for g in gaps]))
        for k, (metric, gap) in enumerate(zip(PAIRED, gaps, strict=True)):
            out.append(Finding(
                f"{metric}_{one['condition']}_minus_{two['condition']}",
                f"{keys[-1]}: mean {metric} of items, {one['condition']} − {two['condition']}, same walks",
                gap.estimate(-1, estimand=f"{metric}, {one['condition']} − {two['condition']}"),
                unit="context", q=float(q[k, -1]) if np.isfinite(q[k, -1]) else None,
            ))  # fmt: skip
    return out


def _paired(a: Any, b: Any) -> Any:
    size = min(len(a), len(b))
    return a[:size] - b[:size]


def agreement_tables(run: RunView, found: Sequence[Trial]) -> list[Table]:
    """Spearman correlation over items between kinds of influence, last layer, longest N."""
    from peira.stats.intervals import correlation

    rows = []
    for record, data in found:
        if "loo" not in data["curves"]:
            continue
        by_item = {
            m: np.array(data["curves"]["loo"][m]["by_position"]["mean"], float)[-1] for m in PAIRED
        }
        for a, b in combinations(PAIRED, 2):
            rows.append({"trial": record.slug, "first": a, "second": b,
                         "rank": correlation(by_item[a], by_item[b], kind="spearman")})  # fmt: skip
    columns = (
        Column("trial", "trial", kind="text"), Column("first", "influence on", kind="text"),
        Column("second", "and on", kind="text"), Column("rank", "rank correlation", 2, kind="estimate"),
    )  # fmt: skip
    return [Table("agreement", "Do the kinds of influence rank items alike?", columns, tuple(rows),
                  "Over positions, of means over contexts: descriptive, positions are not units.")]  # fmt: skip


# -- across seeds and sizes -----------------------------------------------------------------------


def seed_findings(found: Sequence[Trial]) -> list[Finding]:
    """Energy difference with the seed as the cluster, for every cell with six seeds or more."""
    groups: dict[tuple[str, str], list[float]] = {}
    for _, data in found:
        raw = next((f for f in data["findings"] if f["name"] == "energy_minus_shuffled"), None)
        if raw and raw["estimate"]["estimate"] is not None:
            groups.setdefault((data["model"], data["condition"]), []).append(
                raw["estimate"]["estimate"]
            )
    return [
        Finding(
            f"energy_minus_shuffled over seeds, {model}, {condition}",
            f"energy in the best layer, natural − shuffled, mean over {len(values)} seeds (graphs)",
            means(np.array(values)).estimate((), estimand="R, natural − shuffled"), unit="seed",
        )
        for (model, condition), values in groups.items() if len(values) >= ENOUGH_SEEDS
    ]  # fmt: skip


def size_findings(found: Sequence[Trial]) -> list[Finding]:
    """Power law of the transition length in graph size, from four sizes."""
    points = {}
    for _, data in found:
        told = data["diagnostics"].get("transition", {})
        if told.get("estimate"):
            points[len(data["curves"]["graph"]["clusters"])] = told["estimate"]
    if len(points) < 4:
        return []
    from peira.stats.regression import slope

    estimate = slope(np.log(list(points)), np.log(list(points.values())))
    return [Finding(
        "transition_power_law", "exponent of the transition length in the number of nodes",
        estimate.with_(method="least squares in logs, t", estimand="exponent"), unit="graph size",
    )]  # fmt: skip
