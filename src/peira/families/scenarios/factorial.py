"""Effects of assigned factors in a blocked factorial, one trial per cell and replicate.

Least squares on cells plus replicate blocks; HC2 standard errors; p by permuting a factor's labels
within replicate and remaining cell. Source: MacKinnon and White 1985 (HC2); specs: statistics §7.
Invariant: a contrast that the observed cells cannot carry is undefined, with a reason.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from peira.stats.intervals import from_t
from peira.stats.permutation import sign_flip_p
from peira.stats.result import (
    EMPTY,
    NOT_IDENTIFIED,
    TOO_FEW_UNITS,
    ZERO_VARIANCE,
    Estimate,
    undefined,
)  # fmt: skip
from peira.stats.variance import partial_eta2_limits

Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
DRAWS = 9_999
METHOD = "least squares on cells and replicates, HC2 t"


@dataclass(frozen=True)
class Layout:
    """Observed units: outcome, level codes per factor, replicate block. Missing units are left out
    and counted in `missing`."""

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
        code = np.zeros(self.n, dtype=np.int64)
        for name, levels in self.levels.items():
            code = code * len(levels) + self.codes[name]
        return code

    @cached_property
    def fit(self) -> Fit:
        """The least-squares fit, made once."""
        return Fit.of(self)

    @property
    def complete(self) -> bool:
        """True when no combination of levels is without units."""
        return len(set(self.cell.tolist())) == math.prod(len(v) for v in self.levels.values())

    def others(self, *names: str) -> Ints:
        """The stratum of each unit: replicate and remaining cell, without these factors."""
        code = self.block.astype(np.int64)
        for name, levels in self.levels.items():
            if name not in names:
                code = code * len(levels) + self.codes[name]
        return code


def layout(
    values: Sequence[float | None],
    factors: Mapping[str, Sequence[str]],
    blocks: Sequence[int],
    levels: Mapping[str, tuple[str, ...]] | None = None,
) -> Layout:
    """A layout from columns; factors of one observed level are dropped. `levels` sets the order."""
    keep = [i for i, value in enumerate(values) if value is not None and math.isfinite(value)]
    y = np.array([float(values[i]) for i in keep])  # type: ignore[arg-type]
    codes: dict[str, Ints] = {}
    used: dict[str, tuple[str, ...]] = {}
    for name, column in factors.items():
        seen = [column[i] for i in keep]
        order = tuple(v for v in (levels or {}).get(name, tuple(sorted(set(seen)))) if v in seen)
        if len(order) >= 2:
            used[name] = order
            codes[name] = np.array([order.index(v) for v in seen], dtype=np.int64)
    names = sorted(set(blocks))
    block = np.array([names.index(blocks[i]) for i in keep], dtype=np.int64)
    return Layout(y, codes, used, block, len(values) - len(keep))


@dataclass(frozen=True)
class Fit:
    """Least squares on cells and blocks, the blocks swept out (Frisch and Waugh 1933): its weights
    serve contrasts, which sum to zero over the cells. Pseudo-inverse, residuals, leverages."""

    cells: tuple[int, ...]
    weights: Floats
    projector: Floats
    residuals: Floats
    leverage: Floats
    df: int

    @classmethod
    def of(cls, data: Layout) -> Fit:
        """Fit one layout."""
        cells = tuple(sorted(set(data.cell.tolist())))
        x = within(data.block, _dummies(data.cell, cells))
        weights: Floats = np.asarray(np.linalg.pinv(x), dtype=np.float64)
        y = within(data.block, data.y[:, None])[:, 0]
        sizes = np.bincount(data.block)
        leverage = np.einsum("ij,ji->i", x, weights) + 1.0 / sizes[data.block]
        df = data.n - round(float(leverage.sum()))
        return cls(cells, weights, weights @ x, y - x @ (weights @ y), leverage, df)

    def unit_weights(self, on_cells: Mapping[int, float]) -> Floats | None:
        """The weight of each unit in a contrast of cells; None when it is not estimable."""
        contrast = np.zeros(self.weights.shape[0])
        for cell, weight in on_cells.items():
            contrast[self.cells.index(cell)] = weight
        if not np.allclose(contrast @ self.projector, contrast, atol=1e-8):
            return None
        weights: Floats = contrast @ self.weights
        return weights

    def variance(self, weights: Floats) -> float:
        """HC2 variance of a contrast. A unit alone in its cell fixes its own fit and shows no
        residual: the pooled residual variance stands in for it."""
        free = 1.0 - self.leverage
        alone = free < 1e-9
        squares = np.where(alone, 0.0, self.residuals**2 / np.where(alone, 1.0, free))
        pooled = float((self.residuals**2).sum()) / max(1, self.df)
        return float((weights**2 * np.where(alone, pooled, squares)).sum())


def _dummies(codes: Ints, values: Sequence[int]) -> Floats:
    return np.asarray(codes[:, None] == np.array(values)[None, :], dtype=np.float64)


def within(block: Ints, columns: Floats) -> Floats:
    """The columns less their means over each block."""
    sums = np.zeros((int(block.max(initial=-1)) + 1, columns.shape[1]))
    np.add.at(sums, block, columns)
    means = sums / np.maximum(1, np.bincount(block, minlength=len(sums)))[:, None]
    swept: Floats = columns - means[block]
    return swept


# -- contrasts ---
def _cell_code(data: Layout, chosen: Mapping[str, int]) -> int:
    code = 0
    for name, levels in data.levels.items():
        code = code * len(levels) + chosen[name]
    return code


def _rest(data: Layout, *names: str) -> list[dict[str, int]]:
    others = [name for name in data.levels if name not in names]
    ranges = [range(len(data.levels[name])) for name in others]
    return [dict(zip(others, combo, strict=True)) for combo in itertools.product(*ranges)]


def main_weights(data: Layout, factor: str, a: int, b: int) -> dict[int, float]:
    """Level b minus level a, averaged equally over the other factors' cells that hold both."""
    seen = set(data.fit.cells)
    pairs = []
    for rest in _rest(data, factor):
        low, high = (_cell_code(data, {**rest, factor: level}) for level in (a, b))
        if low in seen and high in seen:
            pairs.append((low, high))
    share = 1.0 / max(1, len(pairs))
    return {low: -share for low, _ in pairs} | {high: share for _, high in pairs}


def contrast(data: Layout, factor: str, a: int, b: int, *, seed: int) -> Estimate:
    """The effect of level b against level a: estimate, HC2 t interval, permutation p."""
    about = {"n": data.n, "missing": data.missing, "method": METHOD,
             "estimand": f"{factor}: {data.levels[factor][b]} - {data.levels[factor][a]}"}  # fmt: skip
    if data.n == 0:
        return undefined(EMPTY, **about)
    on_cells = main_weights(data, factor, a, b)
    weights = data.fit.unit_weights(on_cells) if on_cells else None
    if weights is None:
        return undefined(NOT_IDENTIFIED, **about)
    return _estimate(data, weights, _swap_p(data, weights, factor, a, b, seed), about)


def _estimate(data: Layout, weights: Floats, p: float | None, about: dict[str, Any]) -> Estimate:
    value = round(float(weights @ data.y), 12)
    if data.fit.df < 1:
        return Estimate(value, reason=TOO_FEW_UNITS, **about)
    variance = data.fit.variance(weights)
    if variance <= 1e-24 * max(1.0, value * value):
        return Estimate(value, reason=ZERO_VARIANCE, p=p, **about)
    found = from_t(Estimate(value, **about), math.sqrt(variance), data.fit.df)
    return found if p is None else found.with_(p=p)


def _swap_p(data: Layout, weights: Floats, factor: str, a: int, b: int, seed: int) -> float | None:
    """p of swapping the two labels within replicate and remaining cell."""
    stratum, code = data.others(factor), data.codes[factor]
    left = {int(s): i for i, s in enumerate(stratum) if code[i] == a}
    right = {int(s): i for i, s in enumerate(stratum) if code[i] == b}
    moves = [
        (weights[right[s]] - weights[left[s]]) * (data.y[right[s]] - data.y[left[s]])
        for s in left.keys() & right.keys()
    ]
    return sign_flip_p(np.sort(np.array(moves)), seed, DRAWS).p if moves else None


def interaction(
    data: Layout, first: tuple[str, int, int], second: tuple[str, int, int], *, seed: int
) -> Estimate:
    """Difference of differences of two pairs of levels, averaged over the remaining cells; p by
    flipping the sign of whole replicates."""
    (f, a, b), (g, c, d) = first, second
    names = f"{f} × {g}"
    about = {"n": data.n, "missing": data.missing, "method": METHOD, "estimand": names}
    seen, rests = set(data.fit.cells), []
    for rest in _rest(data, f, g):
        corners = {(i, j): _cell_code(data, {**rest, f: i, g: j}) for i in (a, b) for j in (c, d)}
        if set(corners.values()) <= seen:
            rests.append(corners)
    on_cells = {
        cell: (1 if i == b else -1) * (1 if j == d else -1) / len(rests)
        for corners in rests
        for (i, j), cell in corners.items()
    }
    weights = data.fit.unit_weights(on_cells) if rests else None
    if weights is None:
        return undefined(NOT_IDENTIFIED, **about)
    return _estimate(data, weights, _block_p(data, weights, on_cells, seed), about)


def _block_p(
    data: Layout, weights: Floats, on_cells: Mapping[int, float], seed: int
) -> float | None:
    sums = []
    for block in sorted(set(data.block.tolist())):
        inside = (data.block == block) & np.isin(data.cell, list(on_cells))
        if inside.sum() == len(on_cells):
            sums.append(float(weights[inside] @ data.y[inside]))
    return sign_flip_p(np.array(sums), seed, DRAWS).p if len(sums) >= 2 else None


# -- whole factors ---
def omnibus_p(data: Layout, factor: str, *, seed: int) -> float | None:
    """p that all levels are alike: permutation of labels within replicate and remaining cell; for
    two levels the p of their contrast."""
    k = len(data.levels[factor])
    if k == 2:
        return contrast(data, factor, 0, 1, seed=seed).p
    rows = [data.fit.unit_weights(main_weights(data, factor, 0, level)) for level in range(1, k)]
    if any(row is None for row in rows):
        return None
    a = np.array(rows)
    scale = np.linalg.pinv(a @ a.T)

    def statistic(y: Floats) -> Floats:
        effects = y @ a.T
        squares: Floats = np.einsum("bi,ij,bj->b", effects, scale, effects)
        return squares

    return _permuted_p(data.y, data.others(factor), statistic, seed)


def _permuted_p(y: Floats, stratum: Ints, statistic: Any, seed: int) -> float:
    rng = np.random.default_rng(seed)
    observed = float(statistic(y[None, :])[0]) * (1 - 1e-12)
    order = np.argsort(stratum, kind="stable")
    grouped, ranks = y[order], np.unique(stratum[order], return_inverse=True)[1]
    hits, done = 0, 0
    while done < DRAWS:
        size = min(1_000, DRAWS - done)
        shuffled = np.argsort(rng.random((size, y.size)) + ranks, axis=1)
        drawn = np.empty((size, y.size))
        drawn[:, order] = grouped[shuffled]
        hits += int((statistic(drawn) >= observed).sum())
        done += size
    return (1 + hits) / (1 + DRAWS)


def category_p(data: Layout, factor: str, *, seed: int) -> float | None:
    """Permutation χ² of a categorical outcome (codes in `y`) against a factor's levels."""
    codes, values = data.codes[factor], np.unique(data.y)
    if values.size < 2:
        return None
    rows = _dummies(codes, range(len(data.levels[factor])))
    column = np.array([(data.y == v).mean() for v in values])
    expected = rows.sum(axis=0)[:, None] * column[None, :]

    def statistic(y: Floats) -> Floats:
        observed = np.stack([(y == v).astype(float) @ rows for v in values], axis=-1)
        chi2: Floats = ((observed - expected) ** 2 / expected).sum(axis=(1, 2))
        return chi2

    return _permuted_p(data.y, data.others(factor), statistic, seed)


# -- variance ---
@dataclass(frozen=True, slots=True)
class Share:
    """One term's part of the variance. Undefined numbers are None."""

    ss: float | None
    df: int
    eta2: float | None
    omega2: float | None = None
    partial_eta2: float | None = None
    ci: tuple[float, float] | None = None
    reason: str | None = None


def variance(data: Layout) -> dict[str, Share]:
    """Type II sums of squares: factors, two-way interactions, replicate, residual.

    ω² may be negative. With empty cells interactions are None and go into the residual.
    """
    terms = _terms(data)
    total = float(((data.y - data.y.mean()) ** 2).sum()) if data.n else 0.0
    full, used = _rss(data, terms)
    df = data.n - used
    mse = full / df if df > 0 else None
    found: dict[str, Share] = {}
    for name, factors in terms.items():
        others = {n: f for n, f in terms.items() if not set(factors) <= set(f)}
        without, fewer = _rss(data, others)
        within, more = _rss(data, {**others, name: factors})
        found[name] = _share(max(0.0, without - within), more - fewer, total, mse, full, df)
    if not data.complete:
        pairs = itertools.combinations(data.levels, 2)
        found |= {f"{f} × {g}": Share(None, 0, None, reason=NOT_IDENTIFIED) for f, g in pairs}
    reason = None if total > 0 else ZERO_VARIANCE
    residual = Share(full, df, full / total if total > 0 else None, reason=reason)
    return {**found, "residual": residual}


def _terms(data: Layout) -> dict[str, tuple[str, ...]]:
    terms: dict[str, tuple[str, ...]] = {name: (name,) for name in data.levels}
    if data.complete:
        terms |= {f"{f} × {g}": (f, g) for f, g in itertools.combinations(data.levels, 2)}
    if len(set(data.block.tolist())) > 1:
        terms["replicate"] = ("replicate",)
    return terms


def _rss(data: Layout, terms: Mapping[str, tuple[str, ...]]) -> tuple[float, int]:
    """Residual sum of squares and rank; replicates are swept out, where they are a term."""
    blocks = "replicate" in terms
    group = data.block if blocks else np.zeros(data.n, dtype=np.int64)
    x = np.hstack([
        np.empty((data.n, 0)),
        *(_term_columns(data, factors) for factors in terms.values() if factors != ("replicate",)),
    ])  # fmt: skip
    x, y = within(group, x), within(group, data.y[:, None])[:, 0]
    beta, _, rank, _ = np.linalg.lstsq(x, y, rcond=None)
    return float(((y - x @ beta) ** 2).sum()), int(rank) + len(set(group.tolist()))


def _term_columns(data: Layout, factors: Sequence[str]) -> Floats:
    """Effect-coded columns of a factor, or of the product of several."""
    columns = np.ones((data.n, 1))
    for factor in factors:
        codes = data.codes[factor]
        values = sorted(set(codes.tolist()))
        part = _dummies(codes, values[1:]) - _dummies(codes, values[:1])
        columns = (columns[:, :, None] * part[:, None, :]).reshape(data.n, -1)
    return columns


def _share(ss: float, df: int, total: float, mse: float | None, rest: float, df_rest: int) -> Share:
    if total <= 0:
        return Share(ss, df, None, reason=ZERO_VARIANCE)
    if mse is None or df < 1 or rest <= 1e-12 * total:
        return Share(ss, df, ss / total, reason=TOO_FEW_UNITS if mse is None else ZERO_VARIANCE)
    omega = (ss - df * mse) / (total + mse)
    low, high = partial_eta2_limits(ss / df / mse, df, df_rest, 0.95)
    shown = (low, high) if high - low > 1e-9 else None
    return Share(ss, df, ss / total, omega, ss / (ss + rest), shown)
