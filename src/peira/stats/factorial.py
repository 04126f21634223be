"""Effects of assigned factors in a blocked factorial: one unit per cell and block.

Least squares on cells plus blocks; HC2 standard errors; p by permuting a factor's labels within
block and remaining cell. Sources: Frisch & Waugh 1933 (blocks swept out), MacKinnon & White 1985
(HC2), Steiger 2004 (intervals of partial eta^2). Invariant: a contrast that the observed cells
cannot carry is undefined, with a reason.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from peira.stats._arrays import Floats, Ints
from peira.stats.intervals import from_t
from peira.stats.permutation import DRAWS, PValue, permuted_p, sign_flip_p
from peira.stats.result import (
    EMPTY,
    NOT_IDENTIFIED,
    TOO_FEW_UNITS,
    ZERO_VARIANCE,
    Estimate,
    undefined,
)
from peira.stats.variance import columns_of, partial_eta2_limits, residuals

METHOD = "least squares on cells and replicates, HC2 t"
Swap = tuple[str, int, int]  # a factor and two of its levels, by number: the second minus the first


@dataclass(frozen=True)
class BlockedFactorial:
    """Observed units: outcome, level codes per factor, block. Missing units are left out and
    counted in `missing`. Least squares has the blocks swept out: it serves contrasts, whose
    weights sum to zero over the cells."""

    y: Floats
    codes: Mapping[str, Ints]
    levels: Mapping[str, tuple[str, ...]]
    block: Ints
    missing: int = 0

    @property
    def n(self) -> int:
        """Units observed."""
        return int(self.y.size)

    @cached_property
    def cell(self) -> Ints:
        """The cell of each unit: one code per combination of levels."""
        return self._coded(np.zeros(self.n, dtype=np.int64))

    @cached_property
    def cells(self) -> list[int]:
        """The cells that hold units, in order."""
        return sorted(set(self.cell.tolist()))

    @property
    def complete(self) -> bool:
        """True when no combination of levels is without units."""
        return len(self.cells) == math.prod(map(len, self.levels.values()))

    def strata(self, *factors: str) -> Ints:
        """The stratum of each unit: block and remaining cell, without these factors."""
        return self._coded(self.block, factors)

    def _coded(self, code: Ints, without: Sequence[str] = ()) -> Ints:
        for name, levels in self.levels.items():
            if name not in without:
                code = code * len(levels) + self.codes[name]
        return code

    @cached_property
    def fit(self) -> tuple[Floats, Floats]:
        """Cell columns less their block means, and their pseudo-inverse."""
        x = within(self.block, np.asarray(self.cell[:, None] == self.cells, dtype=np.float64))
        return x, np.linalg.pinv(x)

    @cached_property
    def errors(self) -> tuple[Floats, int]:
        """Squared residual over 1 - leverage of each unit, and the residual degrees of freedom. A
        unit alone in its cell fixes its own fit: the pooled residual variance stands in for it."""
        x, inverse = self.fit
        y = within(self.block, self.y[:, None])[:, 0]
        squares = (y - x @ (inverse @ y)) ** 2
        leverage = np.einsum("ij,ji->i", x, inverse) + 1.0 / np.bincount(self.block)[self.block]
        df, free = self.n - round(float(leverage.sum())), 1.0 - leverage
        alone = free < 1e-9
        pooled = float(squares.sum()) / max(1, df)
        return np.where(alone, pooled, squares / np.where(alone, 1.0, free)), df

    def unit_weights(self, on_cells: Mapping[int, float]) -> Floats | None:
        """The weight of each unit in a contrast of cells; None when it is not estimable."""
        x, inverse = self.fit
        contrast = np.array([on_cells.get(cell, 0.0) for cell in self.cells])
        if not on_cells or not np.allclose(contrast @ (inverse @ x), contrast, atol=1e-8):
            return None
        return np.asarray(contrast @ inverse)

    def corners(self, *swaps: Swap) -> Iterator[dict[int, int]]:
        """Cell -> sign of the (difference of) differences between levels, for each combination of
        the other factors' levels whose cells all hold units."""
        swapped = [factor for factor, _, _ in swaps]
        others = [range(len(v)) for name, v in self.levels.items() if name not in swapped]
        names = [name for name in self.levels if name not in swapped] + swapped
        seen = set(self.cells)
        for rest in itertools.product(*others):
            found = {}
            for picked in itertools.product(*([(a, -1), (b, 1)] for _, a, b in swaps)):
                level = dict(zip(names, (*rest, *(code for code, _ in picked)), strict=True))
                cell = 0
                for name, levels in self.levels.items():
                    cell = cell * len(levels) + level[name]
                found[cell] = math.prod(sign for _, sign in picked)
            if found.keys() <= seen:
                yield found

    def cell_weights(self, *swaps: Swap) -> dict[int, float]:
        """The same as one contrast, averaged equally over the other factors' cells."""
        corners = list(self.corners(*swaps))
        return {cell: sign / len(corners) for each in corners for cell, sign in each.items()}


def blocked_factorial(
    values: Sequence[float | None],
    factors: Mapping[str, Sequence[str]],
    blocks: Sequence[int],
    levels: Mapping[str, tuple[str, ...]] | None = None,
) -> BlockedFactorial:
    """Columns of units as a design; factors of one observed level are dropped. `levels` sets the
    order of a factor's levels, which is else that of the alphabet."""
    keep = [i for i, value in enumerate(values) if value is not None and math.isfinite(value)]
    coded: dict[str, Ints] = {}
    used: dict[str, tuple[str, ...]] = {}
    for name, column in factors.items():
        seen = [column[i] for i in keep]
        order = tuple(v for v in (levels or {}).get(name, sorted(set(seen))) if v in seen)
        if len(order) >= 2:
            used[name] = order
            coded[name] = np.array([order.index(v) for v in seen], dtype=np.int64)
    names = sorted(set(blocks))
    block = np.array([names.index(blocks[i]) for i in keep], dtype=np.int64)
    y = np.array([values[i] for i in keep], dtype=np.float64)
    return BlockedFactorial(y, coded, used, block, len(values) - len(keep))


def within(block: Ints, columns: Floats) -> Floats:
    """The columns less their means over each block."""
    sums = np.zeros((int(block.max(initial=-1)) + 1, columns.shape[1]))
    np.add.at(sums, block, columns)
    means = sums / np.maximum(1, np.bincount(block, minlength=len(sums)))[:, None]
    swept: Floats = columns - means[block]
    return swept


# -- contrasts ---
def factor_contrast(data: BlockedFactorial, *swaps: Swap, seed: int) -> Estimate:
    """The effect of one level against another, averaged equally over the other factors' cells that
    hold both; of two factors the difference of differences (their interaction).

    HC2 t interval. p: for one factor by swapping its two labels within block and remaining cell, for
    two by flipping the sign of whole blocks.
    """
    factor, a, b = swaps[0]
    said = f"{factor}: {data.levels[factor][b]} - {data.levels[factor][a]}"
    about: dict[str, Any] = {
        "n": data.n, "missing": data.missing, "method": METHOD,
        "estimand": said if len(swaps) == 1 else " × ".join(name for name, _, _ in swaps),
    }  # fmt: skip
    if data.n == 0:
        return undefined(EMPTY, **about)
    on_cells = data.cell_weights(*swaps)
    weights = data.unit_weights(on_cells)
    if weights is None:
        return undefined(NOT_IDENTIFIED, **about)
    value = round(float(weights @ data.y), 12)
    squares, df = data.errors
    if df < 1:
        return Estimate(value, reason=TOO_FEW_UNITS, **about)
    moves = (
        _swapped(data, weights, *swaps[0])
        if len(swaps) == 1
        else _by_block(data, weights, on_cells)
    )
    test = sign_flip_p(moves, seed, DRAWS) if moves.size >= len(swaps) else None
    variance = float((weights**2 * squares).sum())
    if variance <= 1e-24 * max(1.0, value * value):
        found = Estimate(value, reason=ZERO_VARIANCE, **about)
    else:
        found = from_t(Estimate(value, **about), math.sqrt(variance), df)
    return found if test is None else test.on(found)


def _swapped(data: BlockedFactorial, weights: Floats, factor: str, a: int, b: int) -> Floats:
    """What swapping two labels within a stratum moves, for each stratum that has both."""
    stratum, code = data.strata(factor).tolist(), data.codes[factor]
    left, right = ({s: i for i, s in enumerate(stratum) if code[i] == level} for level in (a, b))
    pairs = [(left[s], right[s]) for s in left.keys() & right.keys()]
    return np.sort([(weights[j] - weights[i]) * (data.y[j] - data.y[i]) for i, j in pairs])


def _by_block(data: BlockedFactorial, weights: Floats, on_cells: Mapping[int, float]) -> Floats:
    """What each block that holds all cells adds to the contrast."""
    sums = []
    for block in sorted(set(data.block.tolist())):
        inside = (data.block == block) & np.isin(data.cell, list(on_cells))
        if inside.sum() == len(on_cells):
            sums.append(float(weights[inside] @ data.y[inside]))
    return np.array(sums)


def any_level_p(data: BlockedFactorial, factor: str, *, seed: int) -> PValue | None:
    """p that all levels of a factor are alike: permutation of labels within block and remaining
    cell. None where a contrast is not estimable."""
    k = len(data.levels[factor])
    rows = [data.unit_weights(data.cell_weights((factor, 0, level))) for level in range(1, k)]
    if any(row is None for row in rows):
        return None
    a = np.array(rows)
    scale = np.linalg.pinv(a @ a.T)

    def statistic(y: Floats) -> Floats:
        effects = y @ a.T
        squares: Floats = np.einsum("bi,ij,bj->b", effects, scale, effects)
        return squares

    return permuted_p(data.y, data.strata(factor), statistic, seed)


# -- variance ---
@dataclass(frozen=True, slots=True)
class VarianceShare:
    """One term's part of the variance; `ci` is the 95 % interval of partial eta^2."""

    ss: float | None
    df: int
    eta2: float | None
    omega2: float | None = None
    partial_eta2: float | None = None
    ci: list[float] | None = None
    reason: str | None = None


def variance_shares(data: BlockedFactorial) -> dict[str, VarianceShare]:
    """Type II sums of squares: factors, two-way interactions, replicate (the blocks), residual.

    omega^2 may be negative. With empty cells interactions are None and go into the residual. Empty
    where no factor has two observed levels.
    """
    if not data.levels:
        return {}
    pairs = {f"{f} × {g}": (f, g) for f, g in itertools.combinations(data.levels, 2)}
    terms: dict[str, tuple[str, ...]] = {name: (name,) for name in data.levels}
    terms |= pairs if data.complete else {}
    if len(set(data.block.tolist())) > 1:
        terms["replicate"] = ("replicate",)
    total = float(((data.y - data.y.mean()) ** 2).sum())
    noise, used = _residual(data, terms)
    df = data.n - used
    found = {}
    for name, factors in terms.items():
        others = {n: f for n, f in terms.items() if not set(factors) <= set(f)}
        without, fewer = _residual(data, others)
        beside, more = _residual(data, {**others, name: factors})
        found[name] = _share(max(0.0, without - beside), more - fewer, total, (noise, df))
    if not data.complete:
        found |= dict.fromkeys(pairs, VarianceShare(None, 0, None, reason=NOT_IDENTIFIED))
    reason = None if total > 0 else ZERO_VARIANCE
    residual = VarianceShare(noise, df, noise / total if total > 0 else None, reason=reason)
    return {**found, "residual": residual}


def _residual(data: BlockedFactorial, terms: Mapping[str, tuple[str, ...]]) -> tuple[float, int]:
    """Residual sum of squares and rank; blocks are swept out, where they are a term."""
    group = data.block if "replicate" in terms else np.zeros(data.n, dtype=np.int64)
    factors = [names for names in terms.values() if names != ("replicate",)]
    parts = [columns_of([(data.codes[f], data.levels[f]) for f in names]) for names in factors]
    x = within(group, np.hstack([np.empty((data.n, 0)), *parts]))
    rss, rank = residuals(within(group, data.y[:, None])[:, 0], x)
    return rss, rank + len(set(group.tolist()))


def _share(ss: float, df: int, total: float, noise: tuple[float, int]) -> VarianceShare:
    rest, df_rest = noise
    if total <= 0:
        return VarianceShare(ss, df, None, reason=ZERO_VARIANCE)
    if df_rest < 1 or df < 1 or rest <= 1e-12 * total:
        reason = TOO_FEW_UNITS if df_rest < 1 else ZERO_VARIANCE
        return VarianceShare(ss, df, ss / total, reason=reason)
    mse = rest / df_rest
    low, high = partial_eta2_limits(ss / df / mse, df, df_rest, 0.95)
    omega = (ss - df * mse) / (total + mse)
    ci = [low, high] if high - low > 1e-9 else None
    return VarianceShare(ss, df, ss / total, omega, ss / (ss + rest), ci)
