"""What a report refuses to print (statistics §0 and §11.4), checked before anything is written.

Invariant: no p without its effect, no interval without its definition, no R² without its n, no
"significant" for what is exploratory, no extrapolation without a prediction band, and nothing that
holds only given a deal by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from peira.errors import ReportRefused
from peira.report.analysis import Analysis, Finding, Table
from peira.report.tables import is_p
from peira.stats.result import Estimate

SIGNIFICANT = re.compile(r"\bsignificant(ly)?\b|\bsignificance\b", re.IGNORECASE)
GIVEN_DEAL = re.compile(
    r"\b(given|conditional on|among|in) (a |an |the )?(deals?|agreements?)\b"
    r"|_(given|if)_(a_)?(deal|agreement)\b|\bdeals? only\b",
    re.IGNORECASE,
)
R_SQUARED = re.compile(r"^(adjusted_)?(r2|r_squared|r²)$", re.IGNORECASE)
COUNTS = ("n", "n_models", "models", "units", "n_units")


def check(analysis: Analysis) -> None:
    """Raise ReportRefused with every breach found."""
    breaches = [*_findings(analysis.findings), *_tables(analysis.tables), *_words(analysis)]
    if breaches:
        raise ReportRefused("the report is refused:\n" + "\n".join(f"  {b}" for b in breaches))


# -- estimates --------------------------------------------------------------------------------
def estimate_faults(value: Estimate) -> Iterator[str]:
    """What is wrong with one estimate, if anything."""
    if value.estimate is None and value.p is not None:
        yield "p without an effect: give the estimate with its interval first"
    has_limits = value.low is not None or value.high is not None
    if has_limits and not value.method:
        yield "an interval without a method: say how it was made"
    if value.low is not None and value.low == value.high:
        yield f"an interval of no width [{value.low}, {value.high}]: undefined, with a reason"
    if value.estimate is not None and value.n <= 0:
        yield "an estimate without n"
    if "extrapolated" in value.flags and not _band(value):
        yield "an extrapolation without a prediction band (extra: prediction_low, prediction_high)"


def _band(value: Estimate) -> bool:
    return {"prediction_low", "prediction_high"} <= set(value.extra)


def _findings(findings: Iterable[Finding]) -> Iterator[str]:
    findings = list(findings)
    for finding in findings:
        where = f"finding {finding.name!r}"
        if not finding.claim.strip():
            yield f"{where}: no claim: say the estimand in words"
        if finding.role == "exploratory" and SIGNIFICANT.search(finding.claim):
            yield f"{where}: exploratory, so it may not be called significant"
        if finding.role == "exploratory" and finding.p_adjusted is not None:
            yield f"{where}: exploratory, so it has q, not p_adjusted"
        yield from (f"{where}: {fault}" for fault in estimate_faults(finding.estimate))
    yield from _alone("findings", [f"{f.name} {f.claim}" for f in findings])


# -- tables -----------------------------------------------------------------------------------
def _tables(tables: Iterable[Table]) -> Iterator[str]:
    for table in tables:
        where = f"table {table.name!r}"
        keys = [column.key for column in table.columns]
        cells = [(key, row[key]) for row in table.rows for key in keys
                 if isinstance(row.get(key), Estimate)]  # fmt: skip
        if any(map(is_p, keys)) and not _has_effect(table):
            yield f"{where}: p without an effect: add the estimate as a column"
        if any(R_SQUARED.match(key) for key in keys) and not set(COUNTS) & set(keys):
            yield f"{where}: R² without its number of models (a column n_models)"
        for key, value in cells:
            yield from (f"{where}, {key}: {fault}" for fault in estimate_faults(value))
        yield from _alone(
            where, [f"{c.key} {c.label}" for c in table.columns if _measured(table, c.key)]
        )


def _has_effect(table: Table) -> bool:
    return any(
        column.kind == "estimate"
        or any(isinstance(r.get(column.key), Estimate) for r in table.rows)
        for column in table.columns
    )


def _measured(table: Table, key: str) -> bool:
    return any(isinstance(row.get(key), Estimate) for row in table.rows)


def _alone(where: str, names: list[str]) -> Iterator[str]:
    """What is conditional on a deal needs its unconditional companion beside it."""
    if names and all(GIVEN_DEAL.search(name) for name in names):
        yield f"{where}: conditional on a deal alone: add the value over all games"


# -- words ------------------------------------------------------------------------------------
def _words(analysis: Analysis) -> Iterator[str]:
    if any(finding.role == "confirmatory" for finding in analysis.findings):
        return
    texts = {"the answer": analysis.answer, "a note": "\n".join(analysis.notes)}
    texts |= {f"section {name!r}": body for name, body in analysis.sections.items()}
    texts |= {f"table {t.name!r}": f"{t.title} {t.note}" for t in analysis.tables}
    for where, words in texts.items():
        if SIGNIFICANT.search(words):
            yield f"{where}: nothing here is confirmatory, so nothing may be called significant"
