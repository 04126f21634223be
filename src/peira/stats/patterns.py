"""Looking for patterns in a batch of runs, with honest error.

Invariant: the number of candidates is stated; patterns are found on one half of the scenarios
and confirmed on the other, or tested with the maximum over all candidates; a pattern below the
minimum support is not tested. Everything here is exploratory until confirmed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import Floats, Ints, Labels, Seed, codes, floats, generator, same_length
from peira.stats.multiplicity import holm
from peira.stats.permutation import (
    DRAWS,
    ENUMERATION_LIMIT,
    PValue,
    all_sign_sums,
    in_blocks,
    monte_carlo_p,
    random_sign_sums,
    rearrangements,
    shuffle_within,
)
from peira.stats.result import Estimate
from peira.stats.tables import fisher_exact, mantel_haenszel


@dataclass(frozen=True, slots=True)
class MaxT:
    """Westfall-Young single-step adjustment: statistics, adjusted p (None if undefined)."""

    names: tuple[str, ...]
    statistics: tuple[float | None, ...]
    adjusted: tuple[float | None, ...]
    draws: int
    n: int


def max_t(
    differences: Mapping[str, ArrayLike | Sequence[float | None]],
    *,
    seed: Seed,
    draws: int = DRAWS,
) -> MaxT:
    """Many metrics on the same paired units: max-T by shared sign flips.

    Each metric's differences are aligned by unit. A missing difference moves nothing. Exact over
    at most 2^20 sign patterns (`draws` counts them). Family-wise error under any dependence
    between metrics (Westfall & Young 1993).
    """
    names = tuple(differences)
    if not names:
        return MaxT((), (), (), draws, 0)
    same_length(**{str(name): values for name, values in differences.items()})
    columns = np.column_stack([floats(differences[name]) for name in names])
    seen = np.isfinite(columns)
    counts = np.maximum(seen.sum(axis=0), 1)
    values = np.where(seen, columns, 0.0)
    # The sum of squares does not change under sign flips, so it may standardise every draw.
    scale = np.sqrt((values**2).sum(axis=0))
    usable = (scale > 0) & (counts > 1)
    standard = values[:, usable] / scale[usable]
    observed = np.abs(standard.sum(axis=0))
    moving = standard[standard.any(axis=1)]
    exact = 2 ** len(moving) <= ENUMERATION_LIMIT
    every = _all_sums(moving) if exact else [random_sign_sums(standard, draws, generator(seed))]
    largest = np.concatenate([np.abs(sums).max(axis=1, initial=0.0) for sums in every])
    hits = (largest[:, None] >= observed - 1e-10).sum(axis=0)
    p = iter((hits / largest.size if exact else (1 + hits) / (1 + draws)).tolist())
    t = iter(standard.sum(axis=0).tolist())
    return MaxT(
        names,
        tuple(next(t) if u else None for u in usable),
        tuple(next(p) if u else None for u in usable),
        largest.size,
        len(columns),
    )


def _all_sums(moving: Floats) -> Iterator[Floats]:
    """Sums over units under every pattern of signs, in blocks of at most 2^12."""
    block = all_sign_sums(moving[:12])
    return (block + rest for rest in all_sign_sums(moving[12:]))


def rate_max_t(
    outcome: Floats, has: Floats, block: Ints, cell: Ints, *, seed: Seed, draws: int = DRAWS
) -> list[PValue | None]:
    """Family-wise p of candidates that go with a 0/1 outcome: max-T over |difference of rates| in
    null standard errors (Westfall & Young 1993).

    `has`: candidates x units, NaN where it cannot be said. The outcome is permuted, whole blocks
    first, then cells within each; an unbalanced plan as one exchangeable lot. Exact up to 2^20
    arrangements. None for a candidate that all or no units have, or where all outcomes are alike.
    """
    table = np.where(has == 1, 1.0, 0.0)
    known = np.isfinite(has).astype(float)
    usable = (table.sum(axis=1) > 0) & ((known - table).sum(axis=1) > 0)
    if not outcome.size or not len(has) or np.ptp(outcome) == 0:
        return [None] * len(has)
    observed = _rate_scores(outcome[None, :], table, known)[0]
    every, rng, step = _every_block(outcome, block, cell), generator(seed), 500
    drawn = in_blocks(every) if every is not None else (
        _shuffled_blocks(outcome, block, cell, min(step, draws - start), rng)
        for start in range(0, draws, step)
    )  # fmt: skip
    hits = np.zeros(len(has), dtype=np.int64)
    for rows in drawn:
        largest = _rate_scores(rows, table[usable], known[usable]).max(axis=1, initial=0.0)
        hits += (largest[:, None] >= observed[None, :] - 1e-9).sum(axis=0)

    def p_of(found: int) -> PValue:
        if every is None:
            return monte_carlo_p(found, draws, seed)
        return PValue(found / len(every), None, "exact", len(every))

    return [p_of(int(found)) if ok else None for found, ok in zip(hits, usable, strict=True)]


def _rate_scores(outcome: Floats, table: Floats, known: Floats) -> Floats:
    """|difference of rates| in null standard errors: draws x candidates."""
    n1, n0 = table.sum(axis=1), (known - table).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate1, rate0 = outcome @ table.T / n1, outcome @ (known - table).T / n0
        pooled = outcome @ known.T / (n1 + n0)
        spread = np.sqrt(pooled * (1 - pooled) * (1 / n1 + 1 / n0))
        scores = np.abs(rate1 - rate0) / spread
    return np.where(np.isfinite(scores), scores, 0.0)


def _grid(outcome: Floats, block: Ints, cell: Ints) -> tuple[Floats, Ints, Ints]:
    """Outcomes as blocks x cells, NaN where a plan has none, and where each unit stands."""
    rows, columns = (np.unique(labels, return_inverse=True)[1] for labels in (block, cell))
    grid = np.full((1 + rows.max(), 1 + columns.max()), np.nan)
    grid[rows, columns] = outcome
    return grid, rows, columns


def _every_block(outcome: Floats, block: Ints, cell: Ints) -> np.ndarray | None:
    """Every distinct arrangement of 0/1 outcomes that `_shuffled_blocks` draws from, one a row;
    None beyond 2^20 of them. Blocks are arranged by their number of hits, then hits within each."""
    grid, rows, columns = _grid(outcome, block, cell)
    if np.isnan(grid).any():
        return rearrangements(outcome.astype(np.int64), None)
    cells = grid.shape[1]
    used, coded = np.unique(grid.sum(axis=1).astype(np.int64), return_inverse=True)
    ways = np.array([math.comb(cells, int(k)) for k in used], dtype=object)
    orders = rearrangements(coded, None)
    total = math.prod(ways[coded]) * (0 if orders is None else len(orders))
    if orders is None or total * max(1, outcome.size // 64) > ENUMERATION_LIMIT:
        return None
    kinds = [rearrangements((np.arange(cells) < k).astype(np.int64), None) for k in used]
    table, ways = np.concatenate([k for k in kinds if k is not None]), ways.astype(np.int64)
    found = np.zeros((len(orders), 0), dtype=np.uint8)
    for place in range(len(grid)):  # each arrangement so far takes every row its block may be
        kind = orders[:, place]
        each = np.repeat(np.arange(len(orders)), ways[kind])
        nth = np.arange(len(each)) - (np.cumsum(ways[kind]) - ways[kind])[each]
        rows_of = (np.cumsum(ways) - ways)[kind[each]] + nth
        found, orders = np.concatenate([found[each], table[rows_of]], axis=1), orders[each]
    return np.asarray(found[:, rows * cells + columns])


def _shuffled_blocks(
    outcome: Floats, block: Ints, cell: Ints, size: int, rng: np.random.Generator
) -> Floats:
    grid, rows, columns = _grid(outcome, block, cell)
    if np.isnan(grid).any():
        return rng.permuted(np.tile(outcome, (size, 1)), axis=1)
    order = np.argsort(rng.random((size, len(grid))), axis=1)
    return np.asarray(rng.permuted(grid[order], axis=2)[:, rows, columns])


@dataclass(frozen=True, slots=True)
class Pattern:
    """One candidate: outcome rate with and without it, odds ratio, adjusted p.

    `simpson` is True when the sign within strata (Mantel-Haenszel) contradicts the pooled sign.
    """

    name: str
    support: int
    rate_with: float | None
    rate_without: float | None
    odds_ratio: Estimate
    adjusted_p: float | None
    simpson: bool


@dataclass(frozen=True, slots=True)
class PatternSearch:
    """Result of a search: what was tried, what was dropped for support, what was found."""

    candidates: int
    below_support: int
    discovery: tuple[Pattern, ...]
    confirmed: tuple[Pattern, ...]
    n_discovery: int
    n_confirmation: int
    auc: float | None
    draws: int


def candidate_patterns(factors: Mapping[str, Labels]) -> dict[str, np.ndarray]:
    """One candidate per level of each factor: "factor = level" as a 0/1 column."""
    found = {}
    for name, labels in factors.items():
        coded, levels = codes(labels)
        if len(levels) < 2:
            continue
        used = levels if len(levels) > 2 else levels[1:]
        for level in used:
            found[f"{name} = {level}"] = coded == levels.index(level)
    return found


def mine_patterns(
    outcome: ArrayLike | Sequence[float | None],
    candidates: Mapping[str, ArrayLike],
    scenario: Labels,
    *,
    seed: Seed,
    strata: Labels | None = None,
    support: int = 5,
    alpha: float = 0.05,
    draws: int = DRAWS,
) -> PatternSearch:
    """Which 0/1 candidates go with a 0/1 outcome? Discover on half, confirm on the other half.

    Whole scenarios go to one half or the other. Discovery ranks candidates by |z| with max-T over
    label permutations within strata; the (at most ten) best with adjusted p < alpha are tested
    again by Fisher's test on the held-out half, Holm over them. `auc` is that of the discovered
    patterns' count, signed, on the held-out half.
    """
    y = floats(outcome)
    same_length(outcome=y, scenario=scenario, strata=strata)
    for column in candidates.values():
        same_length(outcome=y, candidate=column)
    seen = np.flatnonzero(np.isfinite(y))
    rng = generator(seed)
    first, second = _split_by_scenario(seen, scenario, rng)
    columns = {name: np.asarray(column, dtype=bool) for name, column in candidates.items()}
    enough = {name: c for name, c in columns.items() if _supported(c, (first, second), support)}
    scores, adjusted = _discover(y, enough, first, (strata, rng, draws))
    order = sorted(enough, key=lambda name: -abs(scores[name]))
    discovery = [_pattern(n, y, enough[n], first, strata, adjusted[n]) for n in order]
    chosen = [p.name for p in discovery if p.adjusted_p is not None and p.adjusted_p < alpha][:10]
    tested = [_pattern(n, y, enough[n], second, strata, None) for n in chosen]
    corrected = holm([p.odds_ratio.p for p in tested]).adjusted
    confirmed = [
        Pattern(p.name, p.support, p.rate_with, p.rate_without, p.odds_ratio, q, p.simpson)
        for p, q in zip(tested, corrected, strict=True)
        if q is not None and q <= alpha and _same_sign(p, scores[p.name])
    ]
    votes = sum(
        (math.copysign(1, scores[n]) * enough[n][second] for n in chosen), np.zeros(len(second))
    )
    return PatternSearch(
        len(columns),
        len(columns) - len(enough),
        tuple(discovery),
        tuple(confirmed),
        len(first),
        len(second),
        area_under_curve(votes, y[second]) if chosen else None,
        draws,
    )


def _split_by_scenario(
    rows: np.ndarray, scenario: Labels, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    coded, names = codes(scenario)
    chosen = rng.permutation(len(names))[: (len(names) + 1) // 2]
    inside = np.isin(coded[rows], chosen)
    return rows[inside], rows[~inside]


def _supported(column: np.ndarray, halves: Sequence[np.ndarray], support: int) -> bool:
    return all(min(column[h].sum(), (~column[h]).sum()) >= support for h in halves)


def _discover(
    y: Floats,
    candidates: Mapping[str, np.ndarray],
    rows: np.ndarray,
    shuffling: tuple[Labels | None, np.random.Generator, int],
) -> tuple[dict[str, float], dict[str, float]]:
    """Standardised mean gap of each candidate and its max-T p."""
    if not candidates:
        return {}, {}
    strata, rng, draws = shuffling
    layer = None if strata is None else [strata[i] for i in rows]
    design = np.column_stack([c[rows] for c in candidates.values()]).astype(float)
    design -= design.mean(axis=0)
    design /= np.sqrt((design**2).sum(axis=0))
    values = y[rows] - y[rows].mean()
    scale = math.sqrt(float(values @ values)) or 1.0
    observed = values @ design / scale
    largest = np.array(
        [np.abs(shuffle_within(values, layer, rng) @ design).max() / scale for _ in range(draws)]
    )
    hits = (largest[:, None] >= np.abs(observed) - 1e-10).sum(axis=0)
    p = (1 + hits) / (1 + draws)
    names = list(candidates)
    return dict(zip(names, observed.tolist(), strict=True)), dict(
        zip(names, p.tolist(), strict=True)
    )


def _pattern(
    name: str,
    y: Floats,
    column: np.ndarray,
    rows: np.ndarray,
    strata: Labels | None,
    adjusted: float | None,
) -> Pattern:
    table = _table(y[rows], column[rows])
    (a, b), (c, d) = table
    ratio = fisher_exact(a, b, c, d)
    return Pattern(
        name,
        a + b,
        a / (a + b) if a + b else None,
        c / (c + d) if c + d else None,
        ratio,
        adjusted,
        _contradicted(y, column, rows, strata, ratio),
    )


def _table(y: Floats, column: np.ndarray) -> list[list[int]]:
    hit = y > 0
    return [[int((side & hit).sum()), int((side & ~hit).sum())] for side in (column, ~column)]


def _contradicted(
    y: Floats, column: np.ndarray, rows: np.ndarray, strata: Labels | None, pooled: Estimate
) -> bool:
    """Simpson's paradox: the odds ratio within strata lies on the other side of one."""
    if strata is None or pooled.estimate is None:
        return False
    layer, names = codes([strata[i] for i in rows])
    tables = [_table(y[rows][layer == g], column[rows][layer == g]) for g in range(len(names))]
    within = mantel_haenszel(tables)
    return within.estimate is not None and (within.estimate - 1) * (pooled.estimate - 1) < 0


def _same_sign(pattern: Pattern, score: float) -> bool:
    ratio = pattern.odds_ratio.estimate
    return ratio is not None and (ratio - 1) * score > 0


def area_under_curve(score: ArrayLike, outcome: ArrayLike) -> float | None:
    """P(score of a hit > score of a miss) + half the ties; None without hits or misses."""
    from scipy.stats import rankdata

    s, y = floats(score), floats(outcome) > 0
    hits, misses = int(y.sum()), int((~y).sum())
    if 0 in (hits, misses):
        return None
    ranks: Any = rankdata(s)
    return float((ranks[y].sum() - hits * (hits + 1) / 2) / (hits * misses))
