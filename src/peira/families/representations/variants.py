"""Many variants of one context, sharing what comes before their first change.

Invariant: the numbers are those of plain batches (to float rounding); sharing only saves work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from peira.families.representations.contexts import Arm, Context, batch_of
from peira.families.representations.trial import Spec, batch_tokens, forward, rows_of

GROUP = 16  # variants forwarded together: their shared prefix is that of the earliest change


@dataclass(frozen=True, eq=False)
class Variant:
    """An arm whose first `common` tokens are those of the context's natural arm."""

    arm: Arm
    common: int


def run_variants(
    spec: Spec, context: Context, variants: Sequence[Variant], reducer: Any
) -> list[dict[str, Any]]:
    """Rows as `trial.forward` gives them, one per variant, in their order."""
    if not hasattr(spec.model, "share"):
        return forward(spec, [(context, v.arm) for v in variants], reducer)
    shared = spec.model.share(batch_of([(context, context.natural)]), spec.names)
    spec.tokens += context.natural.length
    rows: dict[int, dict[str, Any]] = {}
    for group in _groups(spec, variants):
        found = _forward(spec, context, [variants[i] for i in group], reducer, shared)
        rows |= zip(group, found, strict=True)
    return [rows[i] for i in range(len(variants))]


def _groups(spec: Spec, variants: Sequence[Variant]) -> Iterator[list[int]]:
    """Variants of equal length, neighbours in their first change."""

    def kind(i: int) -> tuple[int, bool]:
        return variants[i].arm.length, variants[i].arm.barred is not None

    order = sorted(range(len(variants)), key=lambda i: (*kind(i), variants[i].common))
    for (length, _), alike in groupby(order, kind):
        members = list(alike)
        size = max(1, min(GROUP, batch_tokens(spec) // length))
        yield from (members[k : k + size] for k in range(0, len(members), size))


def _forward(
    spec: Spec, context: Context, group: list[Variant], reducer: Any, shared: Any
) -> list[dict[str, Any]]:
    batch = batch_of([(context, v.arm) for v in group])
    common = min(min(v.common for v in group), group[0].arm.length - 1)
    if shared is None or common < 2 or group[0].arm.barred is not None:
        found = spec.model.run(batch, spec.names, reducer)
        spec.tokens += batch.ids.size
    else:
        found = spec.model.run_shared(batch, spec.names, reducer, shared, common)
        spec.tokens += len(group) * (group[0].arm.length - common)
    return rows_of(found, batch)
