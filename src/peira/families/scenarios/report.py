"""The batch told in words and tables: the sections of the report.

Invariant: every number shown comes from `Results`; what is exploratory is headed so, and each
section says what its intervals are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from peira.families.scenarios.effects import SUCCESS, Effect
from peira.families.scenarios.summaries import numeric, success_rate
from peira.report.analysis import Column, Table
from peira.report.tables import markdown_text
from peira.stats.result import Estimate

if TYPE_CHECKING:
    from peira.families.scenarios.analysis import Results

SIMULATED = "> **Simulated subjects: no real model took part in these trials.**"
Rows = list[dict[str, Any]]


@dataclass
class Story:
    """Answer, tables, sections and limits, in the order in which they are told."""

    answer: str
    tables: dict[str, Table] = field(default_factory=dict)
    sections: dict[str, str] = field(default_factory=dict)
    limits: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, results: Results) -> Story:
        """Tell the results."""
        story = cls(answer(results))
        for title, tell in SECTIONS.items():
            body = list(tell(results, story))
            if body:
                story.sections[title] = "\n\n".join(body)
        story.limits = list(limits(results))
        return story

    def place(
        self, name: str, title: str, columns: Sequence[Column], rows: Rows, note: str = ""
    ) -> str:
        """Add a table and return the line that places it."""
        self.tables[name] = Table(name, title, tuple(columns), tuple(rows), note)
        return f"[table: {name}]"


# -- numbers as prose: three figures, whole per cent; what is undefined says so ---
def number(value: float | None, digits: int = 3) -> str:
    """A number for prose; `undefined` when there is none."""
    return "undefined" if value is None else f"{value:.{digits}g}"


def percent(value: float | None) -> str:
    """A share in whole per cent."""
    return "undefined" if value is None else f"{100 * value:.0f} %"


def between(low: float | None, high: float | None, *, share: bool = False) -> str:
    """`[low, high]`, or nothing."""
    if low is None or high is None:
        return ""
    return f" [{percent(low)}, {percent(high)}]" if share else f" [{number(low)}, {number(high)}]"


# -- the answer ---
def answer(results: Results) -> str:
    """The batch in one or two sentences, with intervals."""
    batch = results.batch
    rate = success_rate(batch.trials, bool(batch.criteria))
    what = "met all criteria" if batch.criteria else "ran to the end"
    hits = round((rate.estimate or 0.0) * rate.n)
    of = "planned" if batch.criteria else "started"
    words = (
        f"{hits} of {rate.n} {of} trials {what}"
        f" ({percent(rate.estimate)}{between(rate.low, rate.high, share=True)})."
    )
    strong = [
        e for e in results.effects.confirmatory
        if e.p_adjusted is not None and e.p_adjusted < 0.05 and e.estimate.estimate is not None
    ]  # fmt: skip
    if strong:
        strongest = min(strong, key=lambda e: (e.p_adjusted or 1.0, e.outcome == SUCCESS))
        return f"{words} {_told(strongest)}"
    if results.effects.confirmatory:
        return f"{words} No declared effect was found ({len(results.effects.confirmatory)} tested)."
    return words


def _told(effect: Effect) -> str:
    e = effect.estimate
    what = "the success rate" if effect.outcome == SUCCESS else effect.outcome
    return (
        f"With {effect.factor} {effect.b} instead of {effect.a}, {what} changes by"
        f" {number(e.estimate)}{between(e.low, e.high)} (Holm p = {number(effect.p_adjusted, 2)})."
    )


# -- sections ---
def success(results: Results, story: Story) -> Iterator[str]:
    """Success over planned trials, overall and by variation."""
    batch = results.batch
    if batch.criteria:
        yield "Success means that all of these hold at the end:"
        yield "\n".join(
            f"- **{markdown_text(name)}**: "
            + markdown_text(", ".join(f"{metric} {text}" for metric, text in condition.items()))
            for name, condition in batch.criteria.items()
        )
    else:
        yield "No success criteria are declared: the rate is that of completion (done / started)."
    counts = batch.counts()
    yield (
        f"Planned {counts['planned']} = done {counts['done']} + failed {counts['failed']} + halted"
        f" {counts['halted']} + pending {counts['pending']}. Trials that did not finish count as"
        " not met; intervals are Wilson's, 95 %."
    )
    rows = [
        {
            "id": key, "description": text, "done": entry["done"], "planned": entry["planned"],
            "rate": success_rate(batch.of(key), bool(batch.criteria)),
            "bounds": entry["success_bounds"] and " to ".join(map(percent, entry["success_bounds"])),
        }
        for key, text in batch.variations.items() for entry in [results.variations[str(key)]]
    ]  # fmt: skip
    columns = [
        Column.whole("id", "variation"), Column.text("description"),
        Column("rate", "success" if batch.criteria else "completion", kind="percent"),
        Column.whole("done"), Column.whole("planned"),
    ]  # fmt: skip
    if batch.criteria and counts["done"] < counts["planned"]:
        columns.append(Column.text("bounds", "if the lost trials all failed / all succeeded"))
    title = "Success by variation" if batch.criteria else "Completion"
    yield story.place("success", title, columns, rows)


def metrics(results: Results, story: Story) -> Iterator[str]:
    """Every metric over all done trials."""
    rows = [
        {
            "metric": f"{name} ({metric.unit})" if metric.unit else name,
            "mean": _estimate(entry), "std": entry["std"], "median": entry["median"],
            "values": _values(entry),
            "n": entry["n"], "missing": _missing(entry),
        }
        for name, metric in results.batch.metrics.items() for entry in [results.metrics[name]]
    ]  # fmt: skip
    if not rows:
        yield "The scenario defines no metrics."
        return
    yield "Over done trials; missing values are left out and counted, with their reasons."
    columns = (
        Column.text("metric"),
        Column.estimate("mean", "mean [95 % interval]"), Column("std", "std"),
        Column("median", "median"), Column.text("values", "range, or shares"),
        Column.whole("n"), Column.text("missing", "missing, and why"),
    )  # fmt: skip
    note = "Intervals are t, over replicate means when there are several variations."
    yield story.place("metrics", "Run values of the metrics", columns, rows, note)
    crossed = Counter((m, lv) for trial in results.batch.done for m, lv, _ in trial.crossed)
    if crossed:
        said = "; ".join(f"{m} {lv} in {n} trials" for (m, lv), n in sorted(crossed.items()))
        yield f"Thresholds crossed: {markdown_text(said)}."


def _estimate(entry: Mapping[str, Any]) -> Estimate | None:
    """The mean of an entry, with its interval."""
    if entry.get("mean") is None:
        return None
    low, high = entry["ci"] or (None, None)
    return Estimate(entry["mean"], low, high, n=entry["n"], missing=entry["missing"], method="t",
                    reason=entry.get("reason"))  # fmt: skip


def _missing(entry: Mapping[str, Any]) -> str:
    reasons = entry["missing_reasons"]
    said = ", ".join(reasons if len(reasons) == 1 else (f"{why} {n}" for why, n in reasons.items()))
    return f"{entry['missing']}: {said}" if said else str(entry["missing"])


def _values(entry: Mapping[str, Any]) -> str:
    """The shares of the levels, else the range."""
    levels = entry.get("levels") or {}
    shares = ", ".join(f"{name} {percent(v['share'])}" for name, v in levels.items() if v["n"])
    if shares or entry["min"] is None:
        return shares
    return f"{number(entry['min'])} to {number(entry['max'])}"


def comparison(results: Results, story: Story) -> Iterator[str]:
    """Variation means of each numeric metric, and all pairs."""
    batch = results.batch
    shown = varying(results)
    if len(batch.variations) < 2:
        return
    names = [name for name, metric in batch.metrics.items() if numeric(metric)]
    chosen = [name for name in names if name in shown]
    if len(chosen) < len(names):
        said = ", ".join(markdown_text(name) for name in names if name not in shown)
        yield f"Left out here and below, since no value or one and the same was found: {said}."
    if not chosen:
        return
    rows = [
        {"id": key, "description": text}
        | {name: _estimate(results.variations[str(key)]["metrics"][name]) for name in chosen}
        for key, text in batch.variations.items()
    ]
    columns = [Column.whole("id", "variation"), Column.text("description")]
    columns += [
        Column(name, name, unit=batch.metrics[name].unit, kind="estimate") for name in chosen
    ]
    yield story.place("variations", "Means by variation", columns, rows, "95 % t intervals.")
    if batch.drawn:
        yield "[figure: comparison]"
    pairs = [
        e for e in results.effects.all
        if e.kind == "pair" and e.estimate.estimate is not None and e.outcome in shown
    ]  # fmt: skip
    if pairs:
        yield story.place("pairs", "Pairs of variations, by replicate (exploratory)", EFFECT_COLUMNS,
                          [_effect_row(e) for e in pairs][:200])  # fmt: skip


def varying(results: Results) -> set[str]:
    """Outcomes that have at least two different values; the others have nothing to compare."""
    return {
        name
        for name, column in results.effects.columns.items()
        if len({value for value in column.values if value is not None}) > 1
    }


EFFECT_COLUMNS = (
    Column.text("outcome"), Column.text("factor"),
    Column.text("levels", "b - a"), Column.estimate("effect", "difference"),
    Column("p", "p"), Column("p_adjusted", "adjusted p"),
)  # fmt: skip


def _effect_row(effect: Effect) -> dict[str, Any]:
    levels = {
        "interaction": f"{effect.a}; {effect.b}",
        "omnibus": f"any level; widest {effect.b} - {effect.a}",
    }.get(effect.kind, f"{effect.b} - {effect.a}")
    return {
        "outcome": effect.outcome, "factor": effect.factor, "levels": levels,
        "effect": effect.estimate.with_(p=None), "p": effect.p, "p_adjusted": effect.p_adjusted,
    }  # fmt: skip


def effects(results: Results, story: Story) -> Iterator[str]:
    """What the factors do, confirmatory first, and where the variance lies."""
    if not results.batch.factors:
        return
    yield (
        "Contrasts are averaged equally over the other factors' cells, by least squares on cells and"
        " replicate blocks, with HC2 t intervals; p values permute labels within replicate and cell."
    )
    declared = results.effects.confirmatory
    if declared:
        yield f"**Confirmatory** ({len(declared)} hypotheses, Holm): success and primary metrics."
        rows = [_effect_row(e) | {"planted": results.truth_of(e)} for e in declared]
        known = any(row["planted"] is not None for row in rows)
        columns = (*EFFECT_COLUMNS, *([Column("planted", "planted")] if known else []))
        yield story.place("confirmatory", "Confirmatory effects", columns, rows)
    rest = [
        e for e in results.effects.all
        if e.role == "exploratory" and e.kind in ("effect", "omnibus", "interaction")
        and e.estimate.estimate is not None and e.outcome in varying(results)
    ]  # fmt: skip
    if rest:
        yield f"**Exploratory** ({len(rest)} contrasts, Benjamini-Hochberg): read as hints."
        yield story.place("exploratory", "Exploratory effects", EFFECT_COLUMNS,
                          [_effect_row(e) for e in rest])  # fmt: skip
    yield from _categories(results, story)
    yield from _variance(results, story)
    if len(results.batch.varied) >= 2 and results.batch.drawn:
        yield "[figure: heat]"


def _categories(results: Results, story: Story) -> Iterator[str]:
    tests = [e for e in results.effects.all if e.b == "levels" and e.p is not None]
    if tests:
        said = ", ".join(
            f"{e.outcome} by {e.factor}: p = {number(e.p, 2)}, adjusted {number(e.p_adjusted, 2)}"
            for e in tests
        )
        yield f"Categories against factors, permutation χ²: {markdown_text(said)}."


def _variance(results: Results, story: Story) -> Iterator[str]:
    shown = varying(results)
    rows = [
        {"outcome": name, "term": term, **share,
         "interval": between(*share["ci"]) if share["ci"] else None}
        for name, entry in results.metrics.items() if name in shown
        for term, share in entry.get("variance", {}).items()
    ]  # fmt: skip
    if rows:
        columns = (
            Column.text("outcome"), Column.text("term"),
            Column.whole("df"), Column("ss", "sum of squares"), Column("eta2", "η²", digits=3),
            Column("omega2", "ω²", digits=3), Column("partial_eta2", "partial η²", digits=3),
            Column.text("interval", "its 95 % interval"),
        )  # fmt: skip
        note = "Type II. The residual is the noise between replicates; ω² may be negative."
        yield story.place("variance", "Where the variance lies", columns, rows, note)


def trajectories(results: Results, story: Story) -> Iterator[str]:
    """How the metrics move over the turns."""
    batch = results.batch
    shown = varying(results) | {e for e in results.metrics if f"{e} change" in varying(results)}
    chosen = [name for name, metric in batch.metrics.items() if metric.numeric and name in shown]
    if not chosen or batch.length < 2:
        return
    last, rows = str(batch.length), []
    for name in chosen:
        for key in batch.variations:
            turns = results.metrics[name]["trajectory"].get(str(key), {})
            end = turns.get(last, {})
            rows.append({"metric": name, "id": key, "start": turns.get("0", {}).get("mean"),
                         "end": _estimate(end), "ended": end.get("ended", 0)})  # fmt: skip
    columns = (
        Column.text("metric"), Column.whole("id", "variation"),
        Column("start", "mean at turn 0"), Column.estimate("end", f"mean at turn {last}"),
        Column.whole("ended", "ended earlier"),
    )  # fmt: skip
    yield story.place("trajectories", "From the first turn to the last", columns, rows,
                      "Pointwise 95 % t intervals.")  # fmt: skip
    if batch.drawn:
        yield "[figure: trajectories]"


def patterns(results: Results, story: Story) -> Iterator[str]:
    """What goes with success, what stands in its way, which variation did best."""
    found = results.patterns
    if found["success_basis"] == "criteria":
        yield (
            f"{found['tested']} candidates were searched on odd replicates and tried again on even"
            " ones. Only assigned levels may be called causes."
        )
        if not found["success_factors"]:
            yield "None was found on one half and confirmed on the other."
        yield from _factors(found, story)
    modes = found["failure_modes"]
    if modes:
        columns = (
            Column.text("mode"), Column.text("kind"),
            Column.whole("n", "trials"), Column("share", "share of planned", kind="percent"),
            Column.text("interval", "95 % interval"),
        )  # fmt: skip
        rows = [{**mode, "interval": between(*mode["ci"], share=True).strip()} for mode in modes]
        yield story.place("failure-modes", "How trials fall short", columns, rows)
    best = found["best_variation"]
    if best:
        tied = ", ".join(map(str, best["tied_with"]))
        yield (
            f"Highest rate: variation {best['variation_id']} ({markdown_text(best['description'])}),"
            f" {percent(best['success_rate'])}{between(*best['ci'], share=True)}"
            f" ({best['interval']}){f', as in {tied}' if tied else ''}; shrunken towards the mean"
            f" {percent(best['shrunken'])}."
        )


def _factors(found: Mapping[str, Any], story: Story) -> Iterator[str]:
    rows = [
        {**row, "what": f"{row['factor']}: {row['level']}",
         "status": "confirmed" if row["confirmed"] else "candidate",
         "odds": _odds(row), "simpson": "yes" if row["simpson"] else "no"}
        for row in (*found["success_factors"], *found["candidates"])
    ]  # fmt: skip
    if rows:
        columns = (
            Column.text("what"), Column.text("kind"),
            Column.estimate("odds", "odds ratio"),
            Column("p_found", "found (p)"), Column("p_confirmed", "confirmed (p)"),
            Column.text("simpson", "reversed in a stratum"),
            Column.text("status"),
        )  # fmt: skip
        yield story.place("success-factors", "What goes with success", columns, rows)


def _odds(row: Mapping[str, Any]) -> Estimate:
    low, high = row["ci"] or (None, None)
    return Estimate(row["odds_ratio"], low, high, n=row["n"], method="Mantel-Haenszel",
                    reason=row["reason"])  # fmt: skip


def cost(results: Results, story: Story) -> Iterator[str]:
    """What trials and successes cost."""
    if results.batch.spent <= 0:
        yield "All seats were free: nothing was spent, so nothing can be said per dollar."
        return
    rows = [
        {
            **row, "description": results.batch.variations[row["variation_id"]],
            "interval": between(*row["ci"]).strip() if row["ci"] else None,
            "on": "yes" if row["pareto"] else "no",
        }
        for row in results.patterns["cost_efficiency"]
    ]  # fmt: skip
    columns = (
        Column.whole("variation_id", "variation"),
        Column.text("description"),
        Column("usd_per_run", "per done trial", kind="usd"),
        Column("runs_per_dollar", "done trials per dollar"),
        Column("usd_per_success", "per success", kind="usd"),
        Column.text("interval", "95 % bootstrap interval"),
        Column.text("on", "on the Pareto line"),
    )  # fmt: skip
    yield story.place("cost", "Cost efficiency (US dollars)", columns, rows)
    if results.batch.drawn:
        yield "[figure: cost]"


def quality(results: Results, story: Story) -> Iterator[str]:
    """How answers were read, what was refused, what the checks found."""
    rungs: dict[tuple[str, str], Counter[str]] = {}
    for trial in results.batch.done:
        for seat, kinds in trial.rungs.items():
            for kind, counts in kinds.items():
                rungs.setdefault((seat, kind), Counter()).update(counts)
    names = list(dict.fromkeys(rung for row in rungs.values() for rung in row))
    if rungs:
        rows = [{"seat": seat, "kind": kind, **{name: row[name] for name in names}}
                for (seat, kind), row in sorted(rungs.items())]  # fmt: skip
        columns = (Column.text("seat"), Column.text("kind", "call"), *map(Column.whole, names))
        yield story.place("rungs", "How answers were read", columns, rows)
    with_defaults = sum(1 for trial in results.batch.done if trial.defaults)
    yield f"{with_defaults} of {len(results.batch.done)} done trials hold a default answer."
    yield from _without_defaults(results, with_defaults)
    yield from _checks(results)


def _without_defaults(results: Results, held: int) -> Iterator[str]:
    """The primary numbers again, without trials that hold defaults."""
    if not held:
        return
    clean = [t for t in results.batch.done if not t.defaults]
    for name, metric in results.batch.metrics.items():
        if metric.primary and numeric(metric):
            values = [float(v) for t in clean if (v := t.final.get(name)) is not None]
            mean = sum(values) / len(values) if values else None
            whole = results.metrics[name]["mean"]
            yield (
                f"Without them {markdown_text(name)} has mean {number(mean)} (n {len(values)}), with"
                f" them {number(whole)}."
            )


def _checks(results: Results) -> Iterator[str]:
    totals: Counter[str] = Counter()
    for trial in results.batch.done:
        totals.update(trial.quality)
    if totals:
        said = ", ".join(f"{word} {n}" for word, n in sorted(totals.items()))
        yield f"Quality checks: {said}. An unreadable verdict is unknown, never a pass."
    quotes = sum(t.quotes[0] for t in results.batch.done)
    lost = sum(t.quotes[1] for t in results.batch.done)
    if quotes:
        yield f"Readings by a model: {lost} of {quotes} quotes are not in the text they quote."


SECTIONS = {
    "Success": success, "Metrics": metrics, "Comparison of variations": comparison,
    "Effects and variance": effects, "Trajectories": trajectories, "Patterns": patterns,
    "Cost efficiency": cost, "Quality": quality,
}  # fmt: skip


def limits(results: Results) -> Iterator[str]:
    """What this evidence cannot carry."""
    batch = results.batch
    yield from results.warnings
    yield "The unit is one trial (variation and seed); turns and messages of a trial are not units."
    if batch.replicates < 20:
        yield (
            f"{batch.replicates} replicates per variation: intervals are wide and rest on normality."
        )
    if not batch.criteria:
        yield "Without success criteria, completion says whether trials ran, not how they went."
    lost = batch.counts()["planned"] - batch.counts()["done"]
    if lost:
        yield f"{lost} planned trials are not done; means are over the others."
