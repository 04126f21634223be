"""Games between models: one row per game, the model is the unit.

The outcome y of a game is antisymmetric (first's utility less second's, or a share about its
fair point). Invariant: the headline is the regression of model scores on capability with
M - 2 degrees of freedom; sandwich and jackknife errors over games are diagnostics.
Sources: specification section 3.2; Aronow, Samii & Assenova 2015 (dyadic sandwich).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import (
    Floats,
    Ints,
    Labels,
    Seed,
    check_level,
    codes,
    floats,
    generator,
    kept,
)
from peira.stats.intervals import is_constant
from peira.stats.permutation import ENUMERATION_LIMIT, PValue, monte_carlo_p
from peira.stats.regression import Fit, cluster_covariance, least_squares, slope
from peira.stats.result import (
    EMPTY,
    NOT_IDENTIFIED,
    SINGLE_UNIT,
    TOO_FEW_MODELS,
    ZERO_VARIANCE,
    Estimate,
    undefined,
)


@dataclass(frozen=True, slots=True)
class Games:
    """Complete games in codes: `first` and `second` index `models`; y is first less second."""

    models: tuple[Any, ...]
    first: Ints
    second: Ints
    y: Floats
    missing: int

    @property
    def baseline(self) -> int | None:
        """The one model that takes part in every game (a star): claims hold against it only."""
        shared = set(range(len(self.models)))
        for pair in zip(self.first.tolist(), self.second.tolist(), strict=True):
            shared &= set(pair)
        return shared.pop() if shared and len(self.models) > 2 else None

    def pair_codes(self) -> Ints:
        """Which pair of models met, whoever went first."""
        low, high = np.minimum(self.first, self.second), np.maximum(self.first, self.second)
        return codes((low * len(self.models) + high).tolist())[0]

    def components(self) -> int:
        """Number of groups of models not linked by any game."""
        return components(len(self.models), self.first, self.second)


def components(
    size: int, start: Ints, end: Ints, connection: Literal["weak", "strong"] = "weak"
) -> int:
    """Number of weak or strong components of a graph of directed edges."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    graph = csr_array((np.ones(start.size), (start, end)), shape=(size, size))
    return int(connected_components(graph, connection=connection)[0])


def games(first: Labels, second: Labels, y: ArrayLike | Sequence[float | None]) -> Games:
    """Read games; those without an outcome are counted and left out.

    Raises:
        ValueError: lengths differ, or a model plays itself.
    """
    outcome = floats(y)
    if not len(first) == len(second) == outcome.size:
        raise ValueError("first, second and y must have one entry per game")
    seen = np.isfinite(outcome)
    coded, names = codes([*kept(first, seen), *kept(second, seen)])
    half = int(seen.sum())
    if (coded[:half] == coded[half:]).any():
        raise ValueError("a model cannot play itself")
    return Games(tuple(names), coded[:half], coded[half:], outcome[seen], int((~seen).sum()))


@dataclass(frozen=True, slots=True)
class ModelScores:
    """Least-squares skill r of each model (sum zero) and the advantage of going first.

    y_ij = order + r_i - r_j + error. `order` is None when roles do not separate it. In a star the
    scores are those of the opponents: the skill of the `baseline` itself, which may be mixed up with
    the order, is no evidence about others.
    """

    models: tuple[Any, ...]
    scores: tuple[float, ...]
    order: float | None
    n_games: int
    missing: int
    baseline: Any | None = None
    reason: str | None = None

    @property
    def star(self) -> bool:
        """True if one model, the baseline, takes part in every game."""
        return self.baseline is not None

    def as_mapping(self) -> dict[Any, float]:
        """Score by model."""
        return dict(zip(self.models, self.scores, strict=True))


def model_scores(
    first: Labels, second: Labels, y: ArrayLike | Sequence[float | None]
) -> ModelScores:
    """Skill of each model by least squares over games.

    In a balanced design r_i = (1/2M)(sum_j y_ij - sum_j y_ji). Models not linked by games have
    no common scale: scores are empty, with the reason.
    """
    data = games(first, second, y)
    n, m = data.y.size, len(data.models)
    if n == 0:
        return ModelScores((), (), None, 0, data.missing, reason=EMPTY)
    if data.components() > 1:
        return ModelScores(data.models, (), None, n, data.missing, reason=NOT_IDENTIFIED)
    design = _skill_design(data)
    with_order = np.column_stack([design, np.ones(n)])
    identified = np.linalg.matrix_rank(with_order) == m
    solution = np.linalg.lstsq(with_order if identified else design, data.y, rcond=None)[0]
    order = float(solution[m]) if identified else None
    rated = [i for i in range(m) if i != data.baseline]
    scores = solution[rated] - solution[rated].mean()
    return ModelScores(
        tuple(data.models[i] for i in rated),
        tuple(scores.tolist()),
        order,
        n,
        data.missing,
        None if data.baseline is None else data.models[data.baseline],
    )


def _skill_design(data: Games) -> Floats:
    design = np.zeros((data.y.size, len(data.models)))
    rows = np.arange(data.y.size)
    design[rows, data.first] = 1.0
    design[rows, data.second] = -1.0
    return design


def capability_slope(
    first: Labels,
    second: Labels,
    y: ArrayLike | Sequence[float | None],
    capability: Mapping[Any, float],
    level: float = 0.95,
) -> Estimate:
    """Slope of model scores on capability, t with M - 2 degrees of freedom.

    This is the primary analysis of a round robin: the slope is that of games on the capability
    gap in a balanced design, with an honest error. Under three models nothing is estimable. In a
    star n counts the opponents, and the claim is conditional on the one baseline.
    """
    scored = model_scores(first, second, y)
    about: dict[str, Any] = {
        "level": check_level(level),
        "n": len(scored.models),
        "n_rows": scored.n_games,
        "missing": scored.missing,
        "method": "model scores, OLS with t(M-2)",
        "estimand": "gain in utility difference per unit of capability gap",
    }
    if scored.reason:
        return undefined(scored.reason, **about)
    x = capabilities(scored.models, capability)
    if len(x) < 3:
        return undefined(TOO_FEW_MODELS, **about)
    found = slope(x, np.array(scored.scores), level)
    flags = ("conditional_on_one_baseline",) if scored.star else ()
    extra = {**found.extra, "order_effect": scored.order}
    return found.with_(flags=flags, **about | {"extra": extra})


def capabilities(models: tuple[Any, ...], capability: Mapping[Any, float]) -> Floats:
    """The capability of each model; ValueError names those without one."""
    absent = [str(name) for name in models if name not in capability]
    if absent:
        raise ValueError(f"no capability given for: {', '.join(absent)}")
    return np.array([capability[name] for name in models], dtype=float)


@dataclass(frozen=True, slots=True)
class DyadicErrors:
    """Standard errors of a game-level slope under several views of dependence: diagnostics."""

    slope: float
    intercept: float
    n_games: int
    n_models: int
    n_pairs: int
    se_iid: float
    se_pair: float
    se_first: float
    se_two_way: float | None
    se_dyadic: float | None
    se_intercept_dyadic: float | None
    se_jackknife: float | None
    jackknife: tuple[float, ...]


def dyadic_errors(
    first: Labels,
    second: Labels,
    y: ArrayLike | Sequence[float | None],
    x: ArrayLike,
) -> DyadicErrors | str:
    """Slope of y on the games' x with iid, pair, two-way, dyadic and jackknife errors.

    None where a variance comes out negative. Returns a reason code when not estimable.
    """
    data = games(first, second, y)
    gap = floats(x)[np.isfinite(floats(y))]
    fit = least_squares(data.y, gap)
    if isinstance(fit, str):
        return fit
    m = len(data.models)
    pair = data.pair_codes()
    if pair.max() == 0:  # one pair of models: nothing varies between clusters
        return SINGLE_UNIT
    by_first = cluster_covariance(fit, data.first, "CR0")
    by_second = cluster_covariance(fit, data.second, "CR0")
    directed, _ = codes(list(zip(data.first.tolist(), data.second.tolist(), strict=True)))
    two_way = by_first + by_second - cluster_covariance(fit, directed, "CR0")
    dyadic = _dyadic_covariance(fit, data, pair)
    slopes = _leave_one_model_out(data, gap)
    spread = float(((slopes - slopes.mean()) ** 2).sum()) if slopes.size else math.nan
    return DyadicErrors(
        float(fit.beta[1]),
        float(fit.beta[0]),
        data.y.size,
        m,
        int(pair.max()) + 1,
        math.sqrt(fit.sigma2 * fit.bread[1, 1]),
        math.sqrt(cluster_covariance(fit, pair, "CR0")[1, 1]),
        math.sqrt(by_first[1, 1]),
        _root(two_way[1, 1]),
        _root(dyadic[1, 1]),
        _root(dyadic[0, 0]),
        _root((m - 2) / (2 * m) * spread),
        tuple(slopes.tolist()),
    )


def _root(variance: float) -> float | None:
    return math.sqrt(variance) if variance >= 0 else None


def _dyadic_covariance(fit: Fit, data: Games, pair: Ints) -> Floats:
    """Meat over all pairs of games that share a model: by members, less the pairs counted twice."""
    scores = fit.x * fit.residuals[:, None]
    by_model = np.zeros((len(data.models), fit.x.shape[1]))
    np.add.at(by_model, data.first, scores)
    np.add.at(by_model, data.second, scores)
    by_pair = np.zeros((int(pair.max()) + 1, fit.x.shape[1]))
    np.add.at(by_pair, pair, scores)
    meat = by_model.T @ by_model - by_pair.T @ by_pair
    return np.asarray(fit.bread @ meat @ fit.bread)


def _leave_one_model_out(data: Games, x: Floats) -> Floats:
    slopes = []
    for model in range(len(data.models)):
        rows = (data.first != model) & (data.second != model)
        fit = least_squares(data.y[rows], x[rows])
        if not isinstance(fit, str):
            slopes.append(float(fit.beta[1]))
    return np.array(slopes)


def capability_permutation(
    first: Labels,
    second: Labels,
    y: ArrayLike | Sequence[float | None],
    capability: Mapping[Any, float],
    *,
    seed: Seed,
    draws: int = 9_999,
) -> PValue | str:
    """p of the capability slope when capability labels are permuted over models (QAP).

    Enumerated up to 9 models; the smallest possible p is 1/M!. A reason code when there are no
    scores (no games, or models not linked) or they or the capabilities do not differ.
    """
    scored = model_scores(first, second, y)
    if scored.reason:
        return scored.reason
    r = np.array(scored.scores)
    x = capabilities(scored.models, capability)
    if is_constant(r) or is_constant(x):
        return ZERO_VARIANCE
    x = x - x.mean()
    observed = abs(float(r @ x)) * (1 - 1e-10)
    if math.factorial(len(x)) <= ENUMERATION_LIMIT:
        from itertools import permutations

        products = np.array(list(permutations(x))) @ r
        return PValue(float((np.abs(products) >= observed).mean()), None, "exact", len(products))
    rng = generator(seed)
    products = np.array([rng.permutation(x) for _ in range(draws)]) @ r
    return monte_carlo_p(int((np.abs(products) >= observed).sum()), draws, seed)
