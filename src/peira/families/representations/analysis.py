"""Tables and findings over the trials of a run.

The unit is the context within a trial; from six seeds on the seed is the cluster. With one seed the
graph was drawn once, and the notes say that findings are conditional on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from peira.families.representations.files import Trial, read_npz, trials_of
from peira.report.analysis import Analysis, Column, Finding, Table
from peira.stats.columns import means, nanmean, q_values
from peira.stats.intervals import correlation
from peira.stats.regression import slope
from peira.stats.result import NOT_IDENTIFIED, SINGLE_UNIT, ZERO_VARIANCE, Estimate, undefined

if TYPE_CHECKING:
    from peira.store.records import Record, RunView

ENOUGH_SEEDS = 6
PAIRED = ("ratio_influence", "energy_influence", "cross_dist_influence", "within_dist_influence",
          "loss_influence")  # fmt: skip


def analyse(run: RunView) -> Analysis:
    """The run's answer, tables and findings."""
    found = trials_of(run)
    if not found:
        return Analysis("No trial of this run is done yet.")
    findings = [f for t in found for f in _findings(t, _apart(t, found))]
    tables = [layer_table(found), css_table(found)]
    if any("loo" in s["curves"] for _, s in found):
        tables += [loo_table(found), agreement_table(found)]
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


def _cells(found: Sequence[Trial]) -> Iterator[tuple[dict[str, Any], Mapping[str, Any]]]:
    """What names each trial's layers in a table, and their results."""
    for record, data in found:
        for key, cell in data["results"].items():
            yield {"trial": record.slug, "layer": key.removeprefix("layer_")}, cell


NAMED = (Column("trial", "trial", kind="text"), Column("layer", "layer", kind="text"))


def layer_table(found: Sequence[Trial]) -> Table:
    """The main fields by layer at the longest N."""
    rows = [
        named | {
            "n": cell["dirichlet_energy_n"], "energy": _estimate(cell, "dirichlet_energy"),
            "shuffled": cell.get("dirichlet_energy_shuffled"),
            "separation": _estimate(cell, "cluster_separation"),
            "position": cell.get("dirichlet_position"), "overlap": cell.get("population_overlap_2"),
            "mass": cell.get("neighbour_mass"), "claim": cell.get("claim") or "",
        } for named, cell in _cells(found)
    ]  # fmt: skip
    columns = (
        *NAMED, Column("energy", "energy R", 3, kind="estimate"), Column("shuffled", "R shuffled", 3),
        Column("separation", "separation F", 2, kind="estimate"),
        Column("position", "position", 3), Column("overlap", "overlap", 3),
        Column("mass", "mass", 3), Column("claim", "claim", kind="text"),
    )  # fmt: skip
    return Table("layers", "Geometry by layer at the longest context", columns, tuple(rows),
                 "R and F are 1 without structure; lower R, higher F is more. Overlap: the population's"
                 " plane with the graph's. Mass: on neighbours. Intervals: 95 % t over contexts.")  # fmt: skip


def _estimate(cell: Mapping[str, Any], name: str) -> Estimate:
    value, n = cell.get(name), int(cell.get(f"{name}_n") or 0)
    if value is None:
        return undefined(NOT_IDENTIFIED, n=n)
    low, high = cell.get(f"{name}_ci") or (None, None)
    alone = SINGLE_UNIT if n < 2 else ZERO_VARIANCE
    return Estimate(value, low, high, n=n, method="t over contexts",
                    reason=alone if low is None else None)  # fmt: skip


def css_table(found: Sequence[Trial]) -> Table:
    """Where sensitivity is firm: positions at q < .05 by layer."""
    rows = []
    for named, cell in _cells(found):
        q = [(x, t) for t, x in enumerate(cell["css_q"]) if x is not None]
        hit = [t + 1 for x, t in q if x < 0.05]
        best = min(q)[1] if q else None
        rows.append(named | {
            "tested": len(q), "found": len(hit),
            "where": ", ".join(map(str, hit[:12])) + (" …" if len(hit) > 12 else ""),
            "best": None if best is None else best + 1, "r": None if best is None else cell["css_r"][best],
        })  # fmt: skip
    columns = (
        *NAMED, Column("tested", "positions"), Column("found", "q < .05"),
        Column("where", "at", kind="text"), Column("best", "strongest at"), Column("r", "r there", 2),
    )  # fmt: skip
    return Table("sensitivity", "Context sensitivity (Φ = separation)", columns, tuple(rows),
                 "BH over layers × positions of a trial. Correlational.")  # fmt: skip


# -- leave-one-out across conditions --------------------------------------------------------------


def loo_table(found: Sequence[Trial]) -> Table:
    """Metric × condition × layer."""
    rows = []
    for trial in found:
        for named, cell in _cells([trial]):
            for metric in PAIRED:
                gap = cell.get(f"{metric}_bridge_minus_anchor", {})
                told = {"gap": gap.get("mean"), "gap_ci": (gap.get("low"), gap.get("high")),
                        "gap_n": gap.get("n")}  # fmt: skip
                rows.append(named | {"condition": trial[1]["condition"], "metric": metric,
                                     "mean": _estimate(cell, metric), "gap": _estimate(told, "gap"),
                                     "q": gap.get("q")})  # fmt: skip
    columns = (
        NAMED[0], Column("condition", "condition", kind="text"), NAMED[1],
        Column("metric", "influence", kind="text"),
        Column("mean", "mean over items", 4, kind="estimate"),
        Column("gap", "bridge − anchor", 4, kind="estimate"), Column("q", "q", 3),
    )  # fmt: skip
    return Table("leave_one_out", "Influence of single items at the longest context", columns,
                 tuple(rows), "Positive ratio, energy and loss influence: the item helped.")  # fmt: skip


def _per_context(run: RunView, record: Record, metric: str) -> Any:
    """(C, L): mean over items at the longest N."""
    arrays = read_npz(run.artifact(record.number, "contexts.npz") or b"")
    values = arrays[f"loo.{metric}"][:, :, -1].astype(float)
    return nanmean(values, -1)


def _condition_pairs(found: Sequence[Trial]) -> list[tuple[Trial, Trial]]:
    """Pairs of trials that differ in condition only, in the order of the conditions."""

    def alike(trial: Trial) -> Any:
        settings = {k: v for k, v in trial[0].settings.items() if k != "condition"}
        return settings, trial[0].seed, "loo" in trial[1]["curves"]

    return [(a, b) for a, b in combinations(found, 2)
            if alike(a) == alike(b) and "loo" in a[1]["curves"]]  # fmt: skip


def condition_findings(run: RunView, found: Sequence[Trial]) -> list[Finding]:
    """First − second condition (semantic − unrelated), paired over contexts, BH over metric × layer."""
    out = []
    for (first, one), (second, two) in _condition_pairs(found):
        last = list(one["results"])[-1]
        sides = f"{one['condition']} − {two['condition']}"
        gaps = [means(_paired(*(_per_context(run, r, m) for r in (first, second)))) for m in PAIRED]
        q = q_values(np.stack([gap.p for gap in gaps]))
        for k, (metric, gap) in enumerate(zip(PAIRED, gaps, strict=True)):
            out.append(Finding(
                f"{metric}_{one['condition']}_minus_{two['condition']}",
                f"{last}: mean {metric} of items, {sides}, same walks",
                gap.estimate(-1, estimand=f"{metric}, {sides}"), unit="context",
                q=float(q[k, -1]) if np.isfinite(q[k, -1]) else None,
            ))  # fmt: skip
    return out


def _paired(a: Any, b: Any) -> Any:
    size = min(len(a), len(b))
    return a[:size] - b[:size]


def agreement_table(found: Sequence[Trial]) -> Table:
    """Spearman correlation over items between kinds of influence, last layer, longest N."""
    rows = []
    for record, data in found:
        if "loo" not in data["curves"]:
            continue
        curves = data["curves"]["loo"]
        by_item = {m: np.array(curves[m]["by_position"]["mean"], float)[-1] for m in PAIRED}
        rows += [{"trial": record.slug, "first": a, "second": b,
                  "rank": correlation(by_item[a], by_item[b], kind="spearman")}
                 for a, b in combinations(PAIRED, 2)]  # fmt: skip
    columns = (
        NAMED[0], Column("first", "influence on", kind="text"), Column("second", "and on", kind="text"),
        Column("rank", "rank correlation", 2, kind="estimate"),
    )  # fmt: skip
    return Table("agreement", "Do the kinds of influence rank items alike?", columns, tuple(rows),
                 "Over positions, of means over contexts: descriptive, positions are not units.")  # fmt: skip


# -- across seeds and sizes -----------------------------------------------------------------------


def seed_findings(found: Sequence[Trial]) -> list[Finding]:
    """Energy difference with the seed as the cluster, for every cell with six seeds or more."""
    groups: dict[int, list[Trial]] = {}
    for record, data in found:
        groups.setdefault(record.cell_number, []).append((record, data))
    out = []
    for trials in groups.values():
        data = trials[0][1]
        told = (f["estimate"]["estimate"] for _, d in trials for f in d["findings"]
                if f["name"] == "energy_minus_shuffled")  # fmt: skip
        values = [value for value in told if value is not None]
        if len(values) >= ENOUGH_SEEDS:
            out.append(Finding(
                f"energy_minus_shuffled over seeds, {data['model']}, {_cell_name(trials[0], found)}",
                f"energy in the best layer, natural − shuffled, mean over {len(values)} seeds (graphs)",
                means(values).estimate(estimand="R, natural − shuffled", method="t over seeds"),
                unit="seed",
            ))  # fmt: skip
    return out


def _cell_name(trial: Trial, found: Sequence[Trial]) -> str:
    """A cell's condition, or its slug without the seed where others share that."""
    record, data = trial
    others = {r.cell_number for r, d in found if d["condition"] == data["condition"]}
    return str(data["condition"] if len(others) == 1 else record.slug.rpartition("/")[0])


def size_findings(found: Sequence[Trial]) -> list[Finding]:
    """Power law of the transition length in graph size, from four sizes of one kind of graph."""
    kinds: dict[tuple[str, str], dict[int, list[float]]] = {}
    for _, data in found:
        found_at = data["diagnostics"].get("transition", {}).get("estimate")
        if found_at:
            kind = (data["model"], data["graph"].partition(":")[0])
            size = len(data["curves"]["graph"]["clusters"])
            logs = kinds.setdefault(kind, {}).setdefault(size, [])
            logs.append(float(np.log(found_at)))  # of one size: averaged, never more units
    told = {kind: sizes for kind, sizes in kinds.items() if len(sizes) >= 4}
    return [
        Finding(
            ", ".join(("transition_power_law", *(kind if len(told) > 1 else ()))),
            "exponent of the transition length in the number of nodes",
            slope(np.log(list(sizes)), [float(np.mean(logs)) for logs in sizes.values()]).with_(
                method="least squares in logs, t", estimand="exponent"),
            unit="graph size",
        )
        for kind, sizes in told.items()
    ]  # fmt: skip
