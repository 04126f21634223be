"""Choosing a proposal: which items to keep for a wanted utility, and who gets the rest.

Pure functions on plain numbers, shared by all simulated negotiators. Exact over all bundles up to
six items, greedy by ratio beyond (a knapsack: keep what is worth most to me per point to others).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from peira.families.negotiation.game import Allocation

EXACT_ITEMS = 6


@lru_cache(maxsize=4096)
def bundle_values(values: tuple[float, ...]) -> tuple[float, ...]:
    """Value of every bundle; bit j of the index is item j. Length 2^m."""
    sums = [0.0]
    for value in values:
        sums += [s + value for s in sums]
    return tuple(sums)


@lru_cache(maxsize=4096)
def ranked_bundles(values: tuple[float, ...]) -> tuple[int, ...]:
    """Bundles from best to worst, fewer items first among equals (for MiCRO)."""
    if len(values) <= EXACT_ITEMS:
        sums = bundle_values(values)
        return tuple(sorted(range(len(sums)), key=lambda b: (-sums[b], b.bit_count(), b)))
    kept = (1 << len(values)) - 1
    chain = [kept]
    for j in sorted(range(len(values)), key=lambda j: values[j]):
        kept &= ~(1 << j)
        chain.append(kept)
    return tuple(chain)


@lru_cache(maxsize=4096)
def bundle_for(values: tuple[float, ...], estimate: tuple[float, ...], target: float) -> int:
    """The bundle worth at least `target` to me that leaves others most (by `estimate`).

    Ties go to what is worth more to me. All items when the target is out of reach.
    """
    if len(values) > EXACT_ITEMS:
        return _greedy(values, estimate, target)
    mine, theirs = bundle_values(values), bundle_values(estimate)
    best = len(mine) - 1
    if mine[best] <= target:
        return best
    loss, gain = theirs[best], mine[best]
    for bundle, own in enumerate(mine):
        if own >= target:
            cost = theirs[bundle]
            if cost < loss or (cost == loss and own > gain):
                best, loss, gain = bundle, cost, own
    return best


def _greedy(values: Sequence[float], estimate: Sequence[float], target: float) -> int:
    order = sorted(range(len(values)), key=lambda j: -values[j] / (estimate[j] + 1.0))
    kept, own = 0, 0.0
    for j in order:
        if own >= target:
            break
        kept, own = kept | 1 << j, own + values[j]
    for j in sorted(range(len(values)), key=lambda j: -estimate[j]):
        if kept >> j & 1 and own - values[j] >= target:
            kept, own = kept & ~(1 << j), own - values[j]
    return kept


def share_out(
    bundle: int, seat: int, m: int, estimates: Sequence[Sequence[float] | None]
) -> Allocation:
    """Keep `bundle`; every other item goes to the seat that seems to want it and has least."""
    n = len(estimates)
    if n == 2:
        other = 1 - seat
        return tuple(seat if bundle >> j & 1 else other for j in range(m))
    owners = [seat] * m
    got = [10.0] * n
    given = [j for j in range(m) if not bundle >> j & 1]
    rivals = [(k, row) for k, row in enumerate(estimates) if row is not None and k != seat]
    for j in sorted(given, key=lambda j: -max(row[j] for _, row in rivals)):
        k, row = max(rivals, key=lambda pair: (pair[1][j] / got[pair[0]], -pair[0]))
        owners[j] = k
        got[k] += row[j]
    return tuple(owners)


@lru_cache(maxsize=4096)
def by_worth(values: tuple[float, ...]) -> tuple[int, ...]:
    """Items from most to least valued, the earlier first among equals."""
    return tuple(sorted(range(len(values)), key=lambda j: (-values[j], j)))


def even(m: int) -> tuple[float, ...]:
    """The estimate of who knows nothing: every item equal, 100 in all."""
    return (100.0 / m,) * m


def kept_often(offers: Sequence[Allocation], seat: int, m: int) -> tuple[float, ...]:
    """Estimate of a seat's values from how often it kept each item (frequency model)."""
    return _kept_often(tuple(offers), seat) if offers else even(m)


@lru_cache(maxsize=4096)
def _kept_often(offers: tuple[Allocation, ...], seat: int) -> tuple[float, ...]:
    """Asked with the same offers several times a round."""
    counts = [1.0 + owners.count(seat) for owners in zip(*offers, strict=True)]
    total = sum(counts)
    return tuple([100.0 * count / total for count in counts])
