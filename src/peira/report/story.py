"""What a report says of a run, as plain data: the facts, in the order in which they are told.

Invariant: planned = done + failed + halted + pending is printed; what is missing, exploratory or
simulated is said before anyone can miss it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from peira.engine.states import State
from peira.report.analysis import Analysis, Column, Finding, Table
from peira.store.records import Filter, RunView

FAILURES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Story:
    """Everything but the analysis itself. `facts` are (name, value) pairs of "What was run";
    `completeness_table` may have no rows, and is then not shown."""

    title: str
    description: str
    simulated: bool
    facts: tuple[tuple[str, str], ...]
    completeness: str
    completeness_table: Table
    failures: tuple[Table, ...]
    costs: Table
    cost_line: str
    limits: tuple[str, ...]
    commands: tuple[str, ...]
    versions: tuple[tuple[str, str], ...]


def tell(run: RunView, analysis: Analysis) -> Story:
    """Gather the story of a run from run.db."""
    study = run.study
    return Story(
        title=run.name, description=study.description, simulated=run.simulated,
        facts=tuple(_facts(run)), completeness=str(run.tally),
        completeness_table=_unfinished(run), failures=tuple(_failures(run)),
        costs=_costs(run), cost_line=_cost_line(run),
        limits=tuple(_limits(run, analysis)), commands=_commands(run),
        versions=tuple(_versions(run)),
    )  # fmt: skip


# -- what was run -----------------------------------------------------------------------------
def _facts(run: RunView) -> list[tuple[str, str]]:
    study, manifest = run.study, run.meta.get("manifest", {})
    facts = [("Family", study.family), ("Trials", f"{run.tally.planned:,} planned")]
    facts += [(f"Factor {name}", values(list(levels))) for name, levels in study.factors.items()]
    facts.append(("Seeds", values(study.trial_seeds)))
    facts += [("Subjects", values(sorted(manifest.get("subjects", {}))))]
    facts += [
        (f"Fixed {name}", values([value])) for name, value in study.fixed.items() if _plain(value)
    ]
    facts.append(("Started", str(manifest.get("created", "unknown"))))
    return facts


def _plain(value: Any) -> bool:
    """True for what can be said on a line: scalars and lists of them."""
    parts = value if isinstance(value, list | tuple) else [value]
    return value is not None and not any(isinstance(part, dict | list) for part in parts)


def values(items: list[Any], limit: int = 12) -> str:
    """A list of values as a person would write it, shortened."""
    shown = [_short(item) for item in items[:limit]]
    more = f" and {len(items) - limit:,} more" if len(items) > limit else ""
    return ", ".join(shown) + more if shown else "none"


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 80 else text[:79] + "…"


# -- completeness -----------------------------------------------------------------------------
def _unfinished(run: RunView) -> Table:
    """The cells that are not all done; no rows when every cell is."""
    states = ("planned", "done", "failed", "halted", "pending")
    columns = (Column("cell", "cell", kind="text"), *(Column(s, s, digits=0) for s in states))
    cells = progress_by_cell(run)
    rows = tuple(cell for cell in cells if cell["done"] < cell["planned"])
    note = (f"The other {len(cells) - len(rows)} cells are complete. Analyses count failed, halted"
            " and pending trials as missing unless they say otherwise.")  # fmt: skip
    return Table("unfinished", "Cells with unfinished trials", columns, rows, note)


def progress_by_cell(run: RunView) -> list[dict[str, Any]]:
    """Counts by state for each cell, in planned order; one grouped query, whatever the size."""
    import orjson

    from peira.report.default_analysis import cell_label

    rows = run.query(
        "SELECT t.cell, t.state, COUNT(*), MIN(t.position), c.factors FROM trials t"
        " JOIN cells c ON c.number = t.cell WHERE t.position IS NOT NULL"
        " GROUP BY t.cell, t.state"
    )
    cells: dict[int, dict[str, Any]] = {}
    for number, state, count, _, factors in sorted(rows, key=lambda row: row[3]):
        empty = {"planned": 0, "done": 0, "failed": 0, "halted": 0, "pending": 0, "running": 0}
        cell = cells.setdefault(number, {"number": number, **empty})
        if "cell" not in cell:
            cell["factors"] = orjson.loads(factors)
            cell["cell"] = cell_label(cell["factors"]) or "all trials"
        cell["planned"] += count
        cell["pending" if state == State.RUNNING else state] += count
        cell["running"] += count if state == State.RUNNING else 0
    return list(cells.values())


# -- failures ---------------------------------------------------------------------------------
def failures_by_cause(run: RunView) -> list[dict[str, Any]]:
    """(state, cause, trials, one message) of everything that failed or halted."""
    rows = run.query(
        "SELECT state, cause, COUNT(*), MIN(message) FROM trials WHERE position IS NOT NULL"
        " AND state IN ('failed', 'halted') GROUP BY state, cause ORDER BY 3 DESC"
    )
    return [
        {"state": s, "cause": c or "unknown", "trials": n, "message": _line(m)}
        for s, c, n, m in rows
    ]


def _line(message: str | None) -> str:
    return _short((message or "").splitlines()[0]) if message else ""


def _failures(run: RunView) -> list[Table]:
    causes = failures_by_cause(run)
    if not causes:
        return []
    by_cause = (
        Column("state", "state", kind="text"), Column("cause", "cause", kind="text"),
        Column("trials", "trials", digits=0), Column("message", "an example", kind="text"),
    )  # fmt: skip
    which = Filter(states=(State.FAILED, State.HALTED))
    rows = []
    for record in run.records(which):
        rows.append({"trial": record.slug, "state": str(record.state), "cause": record.cause,
                     "message": _line(record.message)})  # fmt: skip
        if len(rows) == FAILURES_SHOWN:
            break
    total = sum(cause["trials"] for cause in causes)
    each = (Column("trial", "trial", kind="text"), *by_cause[:2], by_cause[3])
    note = f"The first {FAILURES_SHOWN} of {total:,}." if total > FAILURES_SHOWN else ""
    return [
        Table("failures", "Failures by cause", by_cause, tuple(causes)),
        Table("failed_trials", "Trials that failed or halted", each, tuple(rows), note),
    ]


# -- money ------------------------------------------------------------------------------------
def _costs(run: RunView) -> Table:
    columns = (
        Column("model", "model", kind="text"), Column("replies", "replies", digits=0),
        Column("usd", "spent", kind="usd", unit="USD"),
        Column("unsettled_usd", "unsettled", kind="usd", unit="USD"),
    )  # fmt: skip
    note = "Unsettled: calls in flight when a driver was killed, charged at their worst case."
    return Table("costs", "Cost by model", columns, tuple(run.by_model()), note)


def _cost_line(run: RunView) -> str:
    spent, unsettled = run.spend()
    budget = run.study.limits.budget_usd
    parts = [f"${spent / 1e6:,.4f} spent"]
    if unsettled:
        parts.append(f"${unsettled / 1e6:,.4f} unsettled")
    parts.append(f"budget ${budget:,.2f}" if budget is not None else "no budget set")
    if run.tally.done and spent:
        parts.append(f"${spent / 1e6 / run.tally.done:,.4f} per finished trial")
    return ", ".join(parts) + "."


# -- limits and reproduction ------------------------------------------------------------------
def _limits(run: RunView, analysis: Analysis) -> list[str]:
    tally = run.tally
    limits = []
    if run.simulated:
        limits.append("Subjects were simulated: these numbers test the pipeline, and say nothing"
                      " about any real model.")  # fmt: skip
    if tally.done < tally.planned:
        limits.append(f"{tally.planned - tally.done:,} of {tally.planned:,} planned trials are not"
                      " done; what is missing may differ from what is there.")  # fmt: skip
    exploratory = sum(finding.role == "exploratory" for finding in analysis.findings)
    if exploratory and exploratory == len(analysis.findings):
        limits.append("All findings are exploratory.")
    elif exploratory:
        limits.append(f"{exploratory} of {len(analysis.findings)} findings are exploratory.")
    return list(dict.fromkeys([*limits, *analysis.notes]))


def _commands(run: RunView) -> tuple[str, ...]:
    flag = " --subjects simulated" if run.meta.get("simulated") else ""
    return (
        f"peira run study.yaml{flag} --output-dir again   # the same study, afresh",
        "peira replay .                                # offline, from this run's ledger",
        "peira analyse . --report                      # this report again",
    )


def _versions(run: RunView) -> list[tuple[str, str]]:
    manifest = run.meta.get("manifest", {})
    packages = ", ".join(f"{k} {v}" for k, v in manifest.get("packages", {}).items())
    facts = [
        ("Study hash", str(manifest.get("study_hash", run.study.hash))),
        ("Peira", str(manifest.get("peira", "unknown"))),
        ("Git", str(manifest.get("git") or "not in a git directory")),
        ("Python", str(manifest.get("python", "unknown"))),
        ("Packages", packages or "unknown"),
        ("Host", str(manifest.get("host", {}).get("system", "unknown"))),
    ]
    for name, details in manifest.get("subjects", {}).items():
        facts.append((f"Subject {name}", _subject(details)))
    changes = manifest.get("amendments", [])
    facts += [
        ("Study changed", f"{a.get('time')}: {a.get('from')} to {a.get('to')}") for a in changes
    ]
    return facts


def _subject(details: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {value}" for key, value in details.items() if value not in (None, "", {})
    )


# -- findings as tables -----------------------------------------------------------------------
def finding_tables(findings: tuple[Finding, ...]) -> list[Table]:
    """Confirmatory findings first, exploratory ones after, each under its own heading."""
    confirmatory = [f for f in findings if f.role == "confirmatory"]
    exploratory = [f for f in findings if f.role == "exploratory"]
    tables = []
    if confirmatory:
        note = "Named before the run; p adjusted within each family of hypotheses."
        tables.append(_finding_table("confirmatory", "Confirmatory findings", confirmatory, note))
    if exploratory:
        q = " q is the false discovery rate." if any(f.q is not None for f in exploratory) else ""
        note = f"Found by looking: each needs a run of its own.{q}"
        tables.append(_finding_table("exploratory", "Exploratory findings", exploratory, note))
    return tables


def _finding_table(name: str, title: str, findings: list[Finding], note: str) -> Table:
    rows = tuple(_finding_row(finding) for finding in findings)
    adjusted = "p_adjusted" if name == "confirmatory" else "q"
    wanted = [
        Column("claim", "estimand", kind="text"), Column("value", "estimate [95 %]", kind="estimate"),
        Column("p", "p"), Column(adjusted, "adjusted p" if name == "confirmatory" else "q"),
        Column("family", "family", kind="text"), Column("truth", "planted"),
        Column("method", "method", kind="text"), Column("unit", "unit", kind="text"),
    ]  # fmt: skip
    always = ("claim", "value", "method", "unit")
    columns = [c for c in wanted if c.key in always or any(row.get(c.key) for row in rows)]
    # What all rows share is said once, below.
    shared = [c for c in columns if c.key in ("family", "method", "unit") and len(rows) > 1
              and len({row[c.key] for row in rows}) == 1]  # fmt: skip
    told = "".join(f" {c.label.capitalize()}: {rows[0][c.key]}." for c in shared)
    return Table(name, title, tuple(c for c in columns if c not in shared), rows, note + told)


def _finding_row(finding: Finding) -> dict[str, Any]:
    found = finding.estimate
    return {
        "claim": finding.claim, "value": found, "p": found.p, "p_adjusted": finding.p_adjusted,
        "q": finding.q, "family": finding.family, "truth": finding.truth,
        "method": ", ".join([found.method, *(flag.replace("_", " ") for flag in found.flags)]),
        "unit": finding.unit,
    }  # fmt: skip
