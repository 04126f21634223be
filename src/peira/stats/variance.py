"""Which factors of a batch of runs matter: fixed-effects ANOVA with the noise share shown.

Invariant: replicate noise is always part of the table. omega squared may be negative: it is
nearly unbiased, so it is reported as it comes. Unbalanced designs say that they use type II.
Sources: Steiger 2004 (noncentral-F intervals); Saltelli 2010, Jansen 1999 (Sobol indices).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import Floats, Labels, Seed, codes, floats, kept
from peira.stats._solve import bisect
from peira.stats.permutation import DRAWS, PValue, label_permutation_p
from peira.stats.result import EMPTY, RANK_DEFICIENT, TOO_FEW_UNITS, ZERO_VARIANCE


@dataclass(frozen=True, slots=True)
class Effect:
    """One term: share of total variance (eta^2), partial eta^2 with its interval, omega^2, F, p."""

    term: str
    df: int
    sum_of_squares: float
    eta2: float | None
    partial_eta2: float | None
    partial_low: float | None
    partial_high: float | None
    omega2: float | None
    f: float | None
    p: float | None


@dataclass(frozen=True, slots=True)
class VarianceTable:
    """Terms in order, then the noise. `noise_share` is residual over total sum of squares."""

    effects: tuple[Effect, ...]
    noise_share: float | None
    noise_df: int
    sigma2: float | None
    n: int
    missing: int
    balanced: bool
    sums: str
    empty_cells: int
    reason: str | None = None


def anova(
    y: ArrayLike | Sequence[float | None],
    factors: Mapping[str, Labels],
    *,
    interactions: int = 2,
    level: float = 0.90,
) -> VarianceTable:
    """Fixed-effects ANOVA of runs over factors, with interactions up to an order.

    Type II sums of squares, which are the only ones in a balanced design. Missing runs are
    counted and break orthogonality: `balanced` says so. The interval of partial eta^2 is the
    90% one by custom: it excludes 0 exactly when p < .05.
    """
    if not factors:
        raise ValueError("an analysis of variance needs at least one factor")
    outcome = floats(y)
    seen = np.isfinite(outcome)
    values = outcome[seen]
    coded = {name: codes(kept(labels, seen)) for name, labels in factors.items()}
    missing = int((~seen).sum())
    if not values.size:
        return _no_table(0, missing, EMPTY)
    terms = [t for k in range(1, interactions + 1) for t in combinations(factors, k)]
    blocks = {term: columns_of([coded[name] for name in term]) for term in terms}
    blocks = {term: block for term, block in blocks.items() if block.shape[1]}
    full = np.column_stack([np.ones(values.size), *blocks.values()])
    rank = int(np.linalg.matrix_rank(full))
    if values.size - rank < 1:
        return _no_table(values.size, missing, TOO_FEW_UNITS)
    total = float(((values - values.mean()) ** 2).sum())
    if total <= 1e-24 * max(1.0, float(np.abs(values).max())) ** 2:
        return _no_table(values.size, missing, ZERO_VARIANCE)
    cells = _cell_counts(list(coded.values()))
    rss, df = residuals(values, full)[0], values.size - rank
    if rank < full.shape[1]:
        return _no_table(values.size, missing, RANK_DEFICIENT)
    noise = (rss, df, total)
    effects = tuple(_effect(term, blocks, values, noise, level) for term in blocks)
    return VarianceTable(
        effects,
        rss / total,
        df,
        rss / df,
        values.size,
        missing,
        bool((cells == cells.flat[0]).all()),
        "type II",
        int((cells == 0).sum()),
    )


def _no_table(n: int, missing: int, reason: str) -> VarianceTable:
    return VarianceTable((), None, 0, None, n, missing, False, "type II", 0, reason)


def columns_of(coded: Sequence[tuple[np.ndarray, Sequence[Any]]]) -> Floats:
    """Sum-to-zero columns of a factor, or of the product of several."""
    block = np.ones((len(coded[0][0]), 1))
    for code, names in coded:
        contrasts = np.vstack([np.eye(len(names) - 1), -np.ones(len(names) - 1)])
        own = contrasts[code]
        block = np.einsum("ni,nj->nij", block, own).reshape(len(code), -1)
    return block


def _cell_counts(coded: Sequence[tuple[np.ndarray, list[Any]]]) -> np.ndarray:
    shape = tuple(len(names) for _, names in coded)
    index = np.ravel_multi_index(tuple(code for code, _ in coded), shape)
    return np.bincount(index, minlength=math.prod(shape)).reshape(shape)


def residuals(y: Floats, x: Floats) -> tuple[float, int]:
    solution, _, rank, _ = np.linalg.lstsq(x, y, rcond=None)
    return float(((y - x @ solution) ** 2).sum()), int(rank)


def _effect(
    term: tuple[str, ...],
    blocks: Mapping[tuple[str, ...], Floats],
    y: Floats,
    noise: tuple[float, int, float],
    level: float,
) -> Effect:
    """Type II: the term beyond all terms that do not contain it."""
    from scipy.special import fdtrc

    others = [b for other, b in blocks.items() if not set(term) <= set(other)]
    without = np.column_stack([np.ones(y.size), *others])
    alone, rank = residuals(y, without)
    with_term, rank_with = residuals(y, np.column_stack([without, blocks[term]]))
    ss, df = max(0.0, alone - with_term), rank_with - rank
    rss, noise_df, total = noise
    name = " x ".join(term)
    if rss <= 1e-20 * total:
        return Effect(name, df, ss, ss / total, None, None, None, None, None, None)
    sigma2 = rss / noise_df
    f = ss / df / sigma2
    low, high = partial_eta2_limits(f, df, noise_df, level)
    omega2 = (ss - df * sigma2) / (total + sigma2)
    p = max(float(fdtrc(df, noise_df, f)), 5e-324)
    return Effect(name, df, ss, ss / total, ss / (ss + rss), low, high, omega2, f, p)


def partial_eta2_limits(
    f: float, df: int, noise_df: int, level: float = 0.90
) -> tuple[float, float]:
    """Limits of partial eta^2 = lambda/(lambda + N), inverting the noncentral F; N = df1+df2+1."""
    from scipy.special import fdtr, ncfdtr

    tail = (1 - level) / 2
    units = df + noise_df + 1

    def noncentrality(chance: float) -> float:
        if float(fdtr(df, noise_df, f)) < chance:
            return 0.0
        high = 10.0 + 4 * f * df
        while float(ncfdtr(df, noise_df, high, f)) > chance:
            high *= 2
        return bisect(lambda nc: float(ncfdtr(df, noise_df, nc, f)) > chance, 0.0, high)

    low, top = noncentrality(1 - tail), noncentrality(tail)
    return low / (low + units), top / (top + units)


@dataclass(frozen=True, slots=True)
class SobolIndices:
    """First-order and total variance shares per input, for independent inputs only."""

    names: tuple[str, ...]
    first: tuple[float, ...]
    total: tuple[float, ...]
    variance: float
    n: int
    reason: str | None = None


def sobol_indices(
    model: Callable[[Floats], Floats],
    bounds: Mapping[str, tuple[float, float]],
    *,
    n: int = 4096,
    seed: int,
) -> SobolIndices:
    """Sobol indices of a deterministic model over a box, by scrambled Sobol points.

    First order: Saltelli 2010; total: Jansen 1999. A stochastic simulator must average its
    replicates, or take the noise as one more input. `model` maps rows of inputs to outputs.
    """
    from scipy.stats.qmc import Sobol

    names, d = tuple(bounds), len(bounds)
    low, high = np.array(list(bounds.values()), dtype=float).T
    points = Sobol(2 * d, seed=np.random.default_rng(seed)).random(n)
    a, b = (low + part * (high - low) for part in (points[:, :d], points[:, d:]))
    ya, yb = model(a), model(b)
    variance = float(np.concatenate([ya, yb]).var())
    if variance == 0:
        return SobolIndices(names, (), (), 0.0, n, ZERO_VARIANCE)
    centre = float(np.concatenate([ya, yb]).mean())
    first, total = [], []
    for i in range(d):
        mixed = a.copy()
        mixed[:, i] = b[:, i]
        y = model(mixed)
        first.append(float(((yb - centre) * (y - ya)).mean()) / variance)
        total.append(float(((ya - y) ** 2).mean()) / 2 / variance)
    return SobolIndices(names, tuple(first), tuple(total), variance, n)


def permuted_factor_p(
    y: ArrayLike | Sequence[float | None],
    factor: Labels,
    *,
    seed: Seed,
    strata: Labels | None = None,
    draws: int = DRAWS,
) -> PValue | str:
    """p of a factor when its labels are shuffled within strata, or a reason code.

    The statistic is the sum over levels of n (mean - stratum-centred grand mean)^2; exact where at
    most 2^20 arrangements differ. Freedman and Lane's idea for blocks: values are centred within
    strata first.
    """
    outcome = floats(y)
    seen = np.isfinite(outcome)
    layer = None if strata is None else kept(strata, seen)
    label, names = codes(kept(factor, seen))
    values = outcome[seen]
    if not values.size:
        return EMPTY
    block = codes(layer)[0] if layer is not None else np.zeros(values.size, dtype=np.int64)
    values = values - (np.bincount(block, weights=values) / np.bincount(block))[block]
    if len(names) < 2 or float(np.abs(values).max()) < 1e-12:
        return ZERO_VARIANCE
    sizes = np.bincount(label)[:, None].astype(float)
    return label_permutation_p(label, values[:, None], sizes, strata=layer, seed=seed, draws=draws)
