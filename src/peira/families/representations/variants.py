"""Many variants of one context, sharing what comes before their first change.

Invariant: the numbers are those of plain batches (to float rounding); sharing only saves work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peira.families.representations.contexts import Arm, Context, batch_of

if TYPE_CHECKING:
    from peira.families.representations.trial import Spec

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
    from peira.families.representations.trial import forward

    if not hasattr(spec.model, "share"):
        return forward(spec, [(context, v.arm) for v in variants], reducer)
    shared = spec.model.share(batch_of([(context, context.natural)]), spec.names)
    spec.tokens += context.natural.length
    rows: list[dict[str, Any]] = [{} for _ in variants]
    for group in _groups(spec, variants):
        for i, row in zip(group, _forward(spec, context, [variants[i] for i in group], reducer, shared), strict=True):  # fmt: skip
            rows[i] = row
    return rows


def _groups(spec: Spec, variants: Sequence[Variant]) -> list[list[int]]:
    """Variants of equal length, neighbours in their first change."""
    from peira.families.representations.trial import batch_tokens

    out: list[list[int]] = []
    order = sorted(range(len(variants)), key=lambda i: (variants[i].arm.length, variants[i].common))
    for i in order:
        last = out[-1] if out else []
        alike = bool(last) and _kind(variants[last[0]]) == _kind(variants[i])
        room = (len(last) + 1) * variants[i].arm.length <= batch_tokens(spec)
        if alike and len(last) < GROUP and room:
            last.append(i)
        else:
            out.append([i])
    return out


def _kind(variant: Variant) -> tuple[int, bool]:
    return variant.arm.length, variant.arm.barred is not None


def _forward(
    spec: Spec, context: Context, group: list[Variant], reducer: Any, shared: Any
) -> list[dict[str, Any]]:
    from peira.families.representations.trial import rows_of

    batch = batch_of([(context, v.arm) for v in group])
    common = min(min(v.common for v in group), group[0].arm.length - 1)
    if shared is None or common < 2 or group[0].arm.barred is not None:
        found = spec.model.run(batch, spec.names, reducer)
        spec.tokens += batch.ids.size
    else:
        found = spec.model.run_shared(batch, spec.names, reducer, shared, common)
        spec.tokens += len(group) * (group[0].arm.length - common)
    return rows_of(found, batch)
