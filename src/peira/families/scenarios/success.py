"""Whether a trial succeeded: every criterion holds on its final values.

Invariant: a criterion that only missing values keep from being decided is undecided, never met.
"""

from __future__ import annotations

from collections.abc import Mapping

from peira.families.scenarios.conditions import Value, all_hold, undecided

Criteria = Mapping[str, Mapping[str, str]]


def succeeded(criteria: Criteria, final: Mapping[str, Value | None]) -> bool | None:
    """True, False, or None when missing values leave it open (and when there are no criteria)."""
    if not criteria:
        return None
    missed = missed_criteria(criteria, final)
    if not missed:
        return True
    return None if all(undecided(criteria[name], final) for name in missed) else False


def missed_criteria(criteria: Criteria, final: Mapping[str, Value | None]) -> list[str]:
    """Names of the criteria that do not hold."""
    return [name for name, condition in criteria.items() if not all_hold(condition, final)]
