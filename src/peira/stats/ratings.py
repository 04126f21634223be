"""Ratings from wins, losses and ties: Bradley-Terry with an order effect, Davidson's ties.

Invariant: a side that always wins has no finite maximum-likelihood rating; the fit then adds
half a win each way to every pair that met (Jeffreys) and says so. Models not linked by games
get no rating. Sequential Elo updates are not offered: they depend on the order of play. Errors of a
plain fit take games as independent; `bootstrap_ratings` does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from peira.stats._arrays import Floats, Labels, Seed, codes, floats, generator, kept, same_length
from peira.stats.clustered import FEWEST_CLUSTERS
from peira.stats.dyads import Games, components, games
from peira.stats.intervals import normal_quantile, t_quantile
from peira.stats.result import (
    EMPTY,
    NOT_IDENTIFIED,
    SEPARATION,
    TOO_FEW_CLUSTERS,
    TOO_FEW_MODELS,
    json_number,
)

ELO_PER_LOGIT = 400 / math.log(10)


@dataclass(frozen=True, slots=True)
class Ratings:
    """Ability of each model in logits, against the reference (the first model, fixed at 0).

    `covariance` is that of the abilities (reference row and column zero). `order` is the logit
    advantage of going first. `log_nu` is Davidson's tie parameter. `reason` is set when there
    is no rating; `penalised` when Jeffreys half-wins were needed; `errors` says what the
    covariance takes as independent: games, scenarios or models, and `df` the t that goes with it
    (None: normal).
    """

    models: tuple[Any, ...]
    ability: tuple[float, ...]
    covariance: Floats
    order: float | None
    order_se: float | None
    log_nu: float | None
    log_nu_se: float | None
    log_likelihood: float | None
    n: int
    penalised: bool = False
    reason: str | None = None
    errors: str = "games"
    df: int | None = None

    @property
    def se(self) -> tuple[float, ...]:
        """Standard error of each ability against the reference (0 for the reference itself)."""
        return tuple(np.sqrt(np.diag(self.covariance)).tolist())

    @property
    def elo(self) -> tuple[float, ...]:
        """Ability in Elo points: 400/ln 10 per logit."""
        return tuple(a * ELO_PER_LOGIT for a in self.ability)

    def limits(self, level: float = 0.95) -> tuple[tuple[float, float], ...]:
        """Interval of each ability against the reference."""
        at = normal_quantile(level) if self.df is None else t_quantile(level, self.df)
        return tuple((a - at * s, a + at * s) for a, s in zip(self.ability, self.se, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Strict-JSON-safe mapping."""
        numbers = ("order", "order_se", "log_nu", "log_nu_se", "log_likelihood", "df")
        return {
            "models": [str(m) for m in self.models],
            "ability": [json_number(a) for a in self.ability],
            "se": [json_number(s) for s in self.se],
            "elo": [json_number(e) for e in self.elo],
            "n": self.n,
            "penalised": self.penalised,
            "errors": self.errors,
            "reason": self.reason,
            **{name: json_number(getattr(self, name)) for name in numbers},
        }


def _none(data: Games, reason: str) -> Ratings:
    empty = np.zeros((0, 0))
    return Ratings(data.models, (), empty, None, None, None, None, None, data.y.size, False, reason)


def bradley_terry(
    first: Labels,
    second: Labels,
    first_won: Sequence[float | None],
    *,
    order_effect: bool = True,
    reference: Any = None,
) -> Ratings:
    """logit P(i beats j | i first) = ability_i - ability_j + order, by maximum likelihood.

    `first_won` is 1 or 0 per game (0.5 counts half each way; None is left out). When the data
    separate, half a win each way is added per pair that met.
    """
    data = _rated(first, second, first_won, reference)
    if data.y.size == 0:
        return _none(data, EMPTY)
    if ((data.y < 0) | (data.y > 1)).any():
        raise ValueError("first_won must be 0, 0.5 or 1")
    if data.components() > 1:
        return _none(data, NOT_IDENTIFIED)
    design = _design(data, reference, order_effect)
    weights: Floats = np.ones(data.y.size)
    outcomes = data.y
    separated = not _strongly_connected(data)
    if separated:
        extra, half = _half_wins(data, design.shape[1], reference)
        design, outcomes = np.vstack([design, extra]), np.concatenate([data.y, half])
        weights = np.concatenate([weights, np.full(half.size, 0.5)])
    solved = logistic_regression(design, outcomes, weights)
    if solved is None:
        return _none(data, SEPARATION)
    beta, covariance, log_likelihood = solved
    return _pack(data, reference, beta, covariance, (log_likelihood, order_effect, separated))


def _rated(first: Labels, second: Labels, outcome: Sequence[float | None], reference: Any) -> Games:
    data = games(first, second, outcome)
    if reference is not None and data.models and reference not in data.models:
        raise ValueError(f"reference must be one of {list(data.models)}; got {reference!r}")
    return data


def bootstrap_ratings(
    first: Labels,
    second: Labels,
    first_won: Sequence[float | None],
    *,
    seed: Seed,
    scenario: Labels | None = None,
    order_effect: bool = True,
    reference: Any = None,
    resamples: int = 2000,
) -> Ratings:
    """Bradley-Terry ratings whose covariance comes from reweighting scenarios, or else models.

    Each draw weighs every scenario by an exponential variate (Bayesian bootstrap, Rubin 1981) and
    fits again, so that no draw loses a model; without `scenario` a game weighs the product of its
    two models' variates (Owen & Eckles 2012). The covariance of the draws is times (G + 1)/(G - 1),
    exact for a mean of G clusters, and its t has G - 1 degrees of freedom. Below six clusters, and for a star by models (whose ratings do
    not depend on who else played), there is a reason instead.
    """
    plain = bradley_terry(first, second, first_won, order_effect=order_effect, reference=reference)
    if plain.reason:
        return plain
    data = games(first, second, first_won)
    by_model = scenario is None
    cluster, names = data.first, list(data.models)
    if scenario is not None:
        same_length(first=first, scenario=scenario)
        cluster, names = codes(kept(scenario, np.isfinite(floats(first_won))))
    if len(names) < FEWEST_CLUSTERS:
        return _none(data, TOO_FEW_MODELS if by_model else TOO_FEW_CLUSTERS)
    if by_model and data.baseline is not None:
        return _none(data, NOT_IDENTIFIED)
    drawn = generator(seed).standard_exponential((resamples, len(names)))
    weights = drawn[:, data.first] * drawn[:, data.second] if by_model else drawn[:, cluster]
    design = _design(data, reference, order_effect)
    betas = _refits(data, design, weights, plain, reference)
    covariance = np.cov(betas, rowvar=False).reshape(betas.shape[1], -1)
    covariance *= (len(names) + 1) / (len(names) - 1)
    fit = (plain.log_likelihood or 0.0, order_effect, plain.penalised)
    packed = _pack(data, reference, _coefficients(plain, reference), covariance, fit)
    errors = "models" if by_model else "scenarios"
    return replace(packed, errors=errors, df=len(names) - 1)


def _coefficients(ratings: Ratings, reference: Any) -> Floats:
    fixed = ratings.models.index(reference) if reference is not None else 0
    order = [] if ratings.order is None else [ratings.order]
    return np.array([*np.delete(ratings.ability, fixed), *order])


def _refits(data: Games, design: Floats, weights: Floats, plain: Ratings, reference: Any) -> Floats:
    """Coefficients under each row of game weights: Newton steps of all draws at once.

    Games of one design row are one binomial count. Half-wins, where needed, keep their weight.
    """
    from scipy.special import expit

    rows, at = np.unique(design, axis=0, return_inverse=True)
    member = np.eye(len(rows))[at.ravel()]
    played, won = weights @ member, (weights * data.y) @ member
    if plain.penalised:
        extra, half = _half_wins(data, design.shape[1], reference)
        rows = np.vstack([rows, extra])
        added = np.full((len(weights), half.size), 0.5)
        played, won = np.hstack([played, added]), np.hstack([won, added * half])
    beta = np.tile(_coefficients(plain, reference), (len(weights), 1))
    for _ in range(100):
        p = expit(beta @ rows.T)
        information = np.einsum("rk,ki,kj->rij", played * p * (1 - p), rows, rows, optimize=True)
        step = np.linalg.solve(information, ((won - played * p) @ rows)[..., None])[..., 0]
        beta += np.clip(step, -2.0, 2.0)
        if float(np.abs(step).max()) < 1e-9:
            break
    return beta


def _columns(data: Games, reference: Any) -> list[int]:
    """Models with a free ability, in order; the reference is left out."""
    fixed = data.models.index(reference) if reference is not None else 0
    return [i for i in range(len(data.models)) if i != fixed]


def _design(data: Games, reference: Any, order_effect: bool) -> Floats:
    columns = _columns(data, reference)
    design = np.column_stack(
        [(data.first == i).astype(float) - (data.second == i) for i in columns]
    )
    if order_effect:
        with_order = np.column_stack([design, np.ones(data.y.size)])
        if np.linalg.matrix_rank(with_order) == with_order.shape[1]:
            return with_order
    return design


def _half_wins(data: Games, width: int, reference: Any) -> tuple[Floats, Floats]:
    """Rows and outcomes of a win and a loss for every pair that met, free of the order effect."""
    met = sorted({(min(p), max(p)) for p in zip(data.first, data.second, strict=True)})
    extra = np.zeros((len(met), width))
    for row, (i, j) in enumerate(met):
        for position, model in enumerate(_columns(data, reference)):
            extra[row, position] = float(model == i) - float(model == j)
    return np.repeat(extra, 2, axis=0), np.tile([1.0, 0.0], len(met))


def _strongly_connected(data: Games) -> bool:
    """True if every model has beaten every other through some chain: the MLE is finite."""
    won, lost = data.y > 0, data.y < 1
    winner = np.concatenate([data.first[won], data.second[lost]])
    loser = np.concatenate([data.second[won], data.first[lost]])
    return components(len(data.models), winner, loser, "strong") == 1


def logistic_regression(
    x: Floats, y: Floats, weights: Floats
) -> tuple[Floats, Floats, float] | None:
    """Weighted logistic regression by Newton steps; None if it runs off to infinity."""
    from scipy.special import expit, xlogy

    beta = np.zeros(x.shape[1])
    for _ in range(100):
        p = expit(x @ beta)
        information = (x * (weights * p * (1 - p))[:, None]).T @ x
        gradient = x.T @ (weights * (y - p))
        if np.linalg.cond(information) > 1e13:
            return None
        step = np.linalg.solve(information, gradient)
        beta = beta + step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-300))
        if float(np.abs(step).max()) < 1e-12:
            break
    if float(np.abs(beta).max()) > 30:
        return None
    p = expit(x @ beta)
    log_likelihood = float((weights * (xlogy(y, p) + xlogy(1 - y, 1 - p))).sum())
    return beta, np.linalg.inv(information), log_likelihood


def _pack(
    data: Games, reference: Any, beta: Floats, covariance: Floats, fit: tuple[float, bool, bool]
) -> Ratings:
    log_likelihood, order_effect, penalised = fit
    columns = _columns(data, reference)
    ability = np.zeros(len(data.models))
    ability[columns] = beta[: len(columns)]
    full = np.zeros((len(data.models), len(data.models)))
    full[np.ix_(columns, columns)] = covariance[: len(columns), : len(columns)]
    ordered = order_effect and beta.size > len(columns)
    at = len(columns)
    return Ratings(
        data.models,
        tuple(ability.tolist()),
        full,
        float(beta[at]) if ordered else None,
        math.sqrt(covariance[at, at]) if ordered else None,
        None,
        None,
        log_likelihood,
        data.y.size,
        penalised,
    )


def davidson(
    first: Labels, second: Labels, outcome: Sequence[float | None], *, reference: Any = None
) -> Ratings:
    """Bradley-Terry with ties: P(tie) proportional to nu sqrt(pi_i pi_j) (Davidson 1970).

    `outcome` is 1 (first won), 0 (second won) or 0.5 (tie); None is left out.
    """
    data = _rated(first, second, outcome, reference)
    if data.y.size == 0:
        return _none(data, EMPTY)
    if not np.isin(data.y, (0.0, 0.5, 1.0)).all():
        raise ValueError("outcome must be 0, 0.5 or 1")
    if data.components() > 1:
        return _none(data, NOT_IDENTIFIED)
    if not _strongly_connected(data) or not (data.y == 0.5).any() or (data.y == 0.5).all():
        return _none(data, SEPARATION)
    features = _davidson_features(data, reference)
    beta, covariance, log_likelihood = _multinomial(features, (2 * data.y).astype(np.int64))
    ratings = _pack(data, reference, beta, covariance, (log_likelihood, False, False))
    log_nu, log_nu_se = float(beta[-1]), math.sqrt(covariance[-1, -1])
    return replace(ratings, log_nu=log_nu, log_nu_se=log_nu_se)


def _davidson_features(data: Games, reference: Any) -> Floats:
    """Games x outcomes (lose, tie, win) x parameters: log weight is linear in the parameters."""
    columns = _columns(data, reference)
    first = np.column_stack([data.first == i for i in columns]).astype(float)
    second = np.column_stack([data.second == i for i in columns]).astype(float)
    zeros, ones = np.zeros((len(first), 1)), np.ones((len(first), 1))
    lose, win = np.hstack([second, zeros]), np.hstack([first, zeros])
    tie = np.hstack([(first + second) / 2, ones])
    return np.stack([lose, tie, win], axis=1)


def _multinomial(features: Floats, chosen: np.ndarray) -> tuple[Floats, Floats, float]:
    """Conditional logit by Newton steps: concave, so it converges from zero."""
    beta = np.zeros(features.shape[2])
    rows = np.arange(len(features))
    for _ in range(200):
        logits = features @ beta
        logits -= logits.max(axis=1, keepdims=True)
        p = np.exp(logits)
        p /= p.sum(axis=1, keepdims=True)
        mean = np.einsum("gk,gkp->gp", p, features)
        centred = features - mean[:, None, :]
        information = np.einsum("gk,gkp,gkq->pq", p, centred, centred)
        step = np.linalg.solve(information, (features[rows, chosen] - mean).sum(axis=0))
        beta = beta + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300))
        if float(np.abs(step).max()) < 1e-12:
            break
    return beta, np.linalg.inv(information), float(np.log(p[rows, chosen]).sum())


def half_win_logit(wins: float, losses: float) -> float:
    """Log odds with half a win added each way: 5-0 is 2.40 logits (417 Elo), not infinite."""
    return math.log((wins + 0.5) / (losses + 0.5))


@dataclass(frozen=True, slots=True)
class RankInterval:
    """The ranks (1 = best) a model may hold, jointly over all models at the stated level."""

    model: Any
    rank: int
    best: int
    worst: int


def simultaneous_ranks(
    ratings: Ratings, *, seed: Seed, level: float = 0.95, draws: int = 20_000
) -> list[RankInterval]:
    """Joint rank intervals from all pairwise differences (single-step max-T on the covariance, with
    the t of its errors).

    A model is surely above another when their difference exceeds the joint critical value.
    """
    if ratings.reason:
        return []
    ability, covariance = np.array(ratings.ability), ratings.covariance
    i, j = np.triu_indices(len(ability), 1)
    variances = covariance[i, i] + covariance[j, j] - 2 * covariance[i, j]
    deviations = np.sqrt(np.maximum(variances, 1e-300))
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    rng = generator(seed)
    noise = rng.standard_normal((draws, len(ability))) @ root.T
    if ratings.df is not None:
        noise /= np.sqrt(rng.chisquare(ratings.df, draws) / ratings.df)[:, None]
    largest = (np.abs(noise[:, i] - noise[:, j]) / deviations).max(axis=1)
    critical = float(np.quantile(largest, level))
    sure = np.zeros((len(ability), len(ability)), dtype=bool)
    gap = ability[i] - ability[j]
    sure[i, j], sure[j, i] = gap > critical * deviations, gap < -critical * deviations
    order = np.argsort(np.argsort(-ability, kind="stable"), kind="stable") + 1
    return [
        RankInterval(
            model,
            int(order[k]),
            1 + int(sure[:, k].sum()),
            len(ability) - int(sure[k].sum()),
        )
        for k, model in enumerate(ratings.models)
    ]
