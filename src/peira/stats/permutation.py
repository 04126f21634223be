"""Randomisation tests: p values by enumeration, by exact convolution, or by Monte Carlo.

Invariant: a Monte Carlo p counts the observed arrangement, p = (1 + hits)/(1 + R), so it is
never 0, and carries its Monte Carlo error. Values are rounded before comparing, so ties hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from peira.stats._arrays import Floats, Ints, Labels, Seed, codes, generator, seed_of, tie_grid
from peira.stats.result import Estimate, as_p

ENUMERATION_LIMIT = 2**20
#: Largest total of integer weights, and of weights times total, handled by convolution.
_CONVOLUTION_TOTAL, _CONVOLUTION_WORK = 4_000_000, 2_000_000_000
DRAWS = 9_999
#: Entries of a block of arrangements held in memory at once.
_BLOCK = 4_000_000


@dataclass(frozen=True, slots=True)
class PValue:
    """A randomisation p, its Monte Carlo error and seed (None if exact) and how it was found."""

    p: float
    mc_error: float | None
    how: str
    arrangements: int
    seed: int | str | None = None

    def on(self, found: Estimate) -> Estimate:
        """The estimate with this p, its Monte Carlo error, and in `extra` the seed if drawn."""
        extra = {name: value for name, value in found.extra.items() if name != "p_seed"}
        drawn = {} if self.mc_error is None else {"p_seed": self.seed}
        return found.with_(p=self.p, mc_error=self.mc_error, extra=extra | drawn)


def monte_carlo_p(hits: int, draws: int, seed: Seed | None = None) -> PValue:
    """(1 + hits)/(1 + draws), its Monte Carlo standard error sqrt(p(1 - p)/draws), its seed."""
    p = (1 + hits) / (1 + draws)
    return PValue(p, math.sqrt(p * (1 - p) / draws), "Monte Carlo", draws, seed_of(seed))


def permuted_p(
    values: Floats,
    strata: Labels | None,
    statistic: Callable[[Floats], Floats],
    seed: Seed,
    draws: int = DRAWS,
) -> PValue:
    """p of a statistic when values are rearranged within strata; large ones speak against the null.

    `statistic` maps rearrangements (draws x units) to one number each. Exact up to
    2^20 arrangements, those of equal values being one.
    """
    observed = float(statistic(values[None, :])[0])
    observed -= 1e-10 * abs(observed)

    def hits(rows: Floats) -> int:
        return int((statistic(rows) >= observed).sum())

    _, at, coded = np.unique(tie_grid(values)[0], return_index=True, return_inverse=True)
    every = rearrangements(coded, strata)
    if every is not None:
        found = sum(hits(values[at][rows]) for rows in in_blocks(every))
        return PValue(found / len(every), None, "exact", len(every))
    blocks = shuffled_blocks(values, strata, generator(seed), draws)
    return monte_carlo_p(sum(map(hits, blocks)), draws, seed)


def in_blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """The rows in blocks that are small in memory."""
    step = max(1, _BLOCK // max(1, rows.shape[1]))
    return (rows[at : at + step] for at in range(0, len(rows), step))


def shuffled_blocks(
    values: np.ndarray, strata: Labels | None, rng: np.random.Generator, draws: int
) -> Iterator[np.ndarray]:
    """Random rearrangements that keep each stratum's values inside it, in blocks of rows."""
    group = np.zeros(values.size) if strata is None else strata
    group = group if isinstance(group, np.ndarray) else codes(group)[0]
    order = np.argsort(group, kind="stable")
    grouped, ranks = values[order], np.unique(group[order], return_inverse=True)[1]
    for start in range(0, draws, 1_000):
        size = (min(1_000, draws - start), values.size)
        drawn = np.empty(size, dtype=values.dtype)
        drawn[:, order] = grouped[np.argsort(rng.random(size) + ranks, axis=1)]
        yield drawn


def sign_flip_p(values: Floats, seed: Seed | None, draws: int = DRAWS) -> PValue:
    """Two-sided p of the mean under random signs (null: symmetric about zero).

    Zeros do not move the sum and are set aside. Exact by convolution when the values lie on a
    decimal grid, or by enumeration of at most 2^20 sign patterns; else Monte Carlo.
    """
    whole, _ = tie_grid(values)
    whole = whole[whole != 0]
    if whole.size == 0:
        return PValue(1.0, None, "exact", 1)
    weights = np.abs(whole) // np.gcd.reduce(whole)
    if _affordable(weights):
        p = two_sided_subset_p(weights, int(weights[whole > 0].sum()))
        return PValue(p, None, "exact", 2 ** min(whole.size, 1000))
    moving = whole.astype(np.float64)
    observed = abs(float(moving.sum())) * (1 - 1e-12)
    if 2**moving.size <= ENUMERATION_LIMIT:
        sums = all_sign_sums(moving)
        return PValue(float((np.abs(sums) >= observed).mean()), None, "exact", sums.size)
    if seed is None:
        raise ValueError("a Monte Carlo test needs an explicit seed (int or numpy Generator)")
    sums = random_sign_sums(moving[:, None], draws, generator(seed))[:, 0]
    return monte_carlo_p(int((np.abs(sums) >= observed).sum()), draws, seed)


def _affordable(weights: Ints) -> bool:
    """True if a convolution over these weights is small enough to be exact at little cost."""
    total = float(weights.sum(dtype=np.float64))
    return total <= _CONVOLUTION_TOTAL and total * weights.size <= _CONVOLUTION_WORK


def subset_sum_distribution(weights: Ints) -> Floats:
    """P(sum = s), s = 0..total, when each integer weight is included with chance 1/2."""
    total = int(weights.sum())
    chance = np.zeros(total + 1)
    chance[0] = 1.0
    reach = 0
    for weight in np.sort(weights):
        w = int(weight)
        reach += w
        window = chance[: reach + 1] / 2
        window[w:] += chance[: reach + 1 - w] / 2
        chance[: reach + 1] = window
    return chance


def two_sided_subset_p(weights: Ints, positive: int) -> float:
    """P(|2S - total| >= |2 positive - total|) for the random subset sum S."""
    chance = subset_sum_distribution(weights)
    total = chance.size - 1
    tail = min(positive, total - positive)
    if 2 * tail >= total:
        return 1.0
    return as_p(2 * float(chance[: tail + 1].sum()))


def all_sign_sums(values: Floats) -> Floats:
    """Sums over units (first axis) under every pattern of shared signs."""
    sums = np.zeros((1, *values.shape[1:]))
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def random_sign_sums(values: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Sums over units (first axis) of values times shared random signs: draws x columns."""
    n = len(values)
    sums = np.empty((draws, values.shape[1]))
    step = max(1, _BLOCK // max(1, n))
    for start in range(0, draws, step):
        stop = min(start + step, draws)
        packed = rng.integers(0, 256, size=(stop - start, (n + 7) // 8), dtype=np.uint8)
        plus = np.unpackbits(packed, axis=1, count=n).astype(np.float64)
        sums[start:stop] = 2 * (plus @ values) - values.sum(axis=0)
    return sums


def shuffle_within(
    labels: np.ndarray, strata: Labels | None, rng: np.random.Generator
) -> np.ndarray:
    """A random rearrangement of labels that keeps each stratum's labels inside it."""
    if strata is None:
        return rng.permutation(labels)
    group, names = codes(strata)
    shuffled = labels.copy()
    for g in range(len(names)):
        rows = np.flatnonzero(group == g)
        shuffled[rows] = labels[rng.permutation(rows)]
    return shuffled


def rearrangements(labels: Ints, strata: Labels | None) -> Ints | None:
    """Every distinct arrangement of coded labels within strata, one a row; None beyond 2^20 of
    them, or beyond 64 times as many entries."""
    group = np.zeros(labels.size, dtype=np.int64) if strata is None else codes(strata)[0]
    if not labels.size:
        return np.zeros((1, 0), dtype=np.uint8)
    each = range(int(group.max()) + 1)
    counts = [np.bincount(labels[group == g], minlength=labels.max() + 1) for g in each]
    ways = [
        math.factorial(int(c.sum())) // math.prod(math.factorial(int(k)) for k in c) for c in counts
    ]
    total = math.prod(ways)
    if total > ENUMERATION_LIMIT or total * labels.size > 64 * ENUMERATION_LIMIT:
        return None
    rows = np.zeros((1, labels.size), dtype=np.min_scalar_type(labels.max()))
    for g, given in enumerate(counts):
        left = np.tile(given, (len(rows), 1))
        for place in np.flatnonzero(group == g):
            row, label = np.nonzero(left)  # each arrangement so far takes each label it has left
            rows, left = rows[row], left[row]
            rows[:, place] = label
            left[np.arange(len(row)), label] -= 1
    return rows


def label_permutation_p(
    labels: Ints, weights: Floats, sizes: Floats, *, strata: Labels | None, seed: Seed, draws: int
) -> PValue:
    """p of the sum over labels of (sum of weights)^2/size, with coded labels shuffled in strata.

    `weights` are units x columns, `sizes` labels x columns. Exact up to 2^20 arrangements.
    """

    def hits(rows: Ints) -> int:
        return int((statistics(rows) >= observed).sum())

    def statistics(rows: Ints) -> Floats:
        sums = np.stack([(rows == g) @ weights for g in range(len(sizes))], axis=1)
        return np.asarray((sums**2 / sizes).sum(axis=(1, 2)))

    observed = float(statistics(labels[None])[0]) * (1 - 1e-10)
    every = rearrangements(labels, strata)
    if every is not None:
        found = sum(map(hits, in_blocks(every)))
        return PValue(found / len(every), None, "exact", len(every))
    blocks = shuffled_blocks(labels, strata, generator(seed), draws)
    return monte_carlo_p(sum(map(hits, blocks)), draws, seed)
