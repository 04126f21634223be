"""Random-effects views of games between models: crossed mixed models and the social relations split.

Invariant: the model, not the game, is the unit. Beside the headline (`dyads.capability_slope`) they
say where the variance lies: in who acts, whom they meet, the pair, the scenario.
Sources: Bates et al. 2015; Warner, Kenny & Stoto 1979 (round-robin variance components).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from peira.stats._arrays import Floats, Labels, check_level, codes, floats, kept, same_length
from peira.stats.dyads import capabilities, games
from peira.stats.intervals import from_t
from peira.stats.mixed import indicator, mixed_model
from peira.stats.result import (
    EMPTY,
    NOT_IDENTIFIED,
    TOO_FEW_MODELS,
    ZERO_VARIANCE,
    Estimate,
    undefined,
)


def crossed_slope(
    first: Labels,
    second: Labels,
    y: ArrayLike | Sequence[float | None],
    capability: Mapping[Any, float],
    *,
    scenario: Labels | None = None,
    roles: bool = False,
    df: str = "satterthwaite",
    level: float = 0.95,
) -> Estimate:
    """Slope of a game's outcome on the capability gap, models (and scenarios) random, by REML.

    y = order + beta (x_first - x_second) + a_first - a_second + pair + scenario + e: each model has
    one effect, +1 when it goes first and -1 when second. With `roles` it has two, one per role
    (actor and partner), and pairs have none. `extra` has the variance of each.
    """
    data = games(first, second, y)
    seen = np.isfinite(floats(y))
    estimand = "gain in utility difference per unit of capability gap"
    about: dict[str, Any] = {
        "level": check_level(level),
        "n": len(data.models),
        "n_rows": data.y.size,
        "missing": data.missing,
        "method": "crossed mixed model (REML)",
        "estimand": estimand,
    }
    if not data.y.size:
        return undefined(EMPTY, **about)
    if len(data.models) < 3:
        return undefined(TOO_FEW_MODELS, **about)
    x = capabilities(data.models, capability)
    gap = x[data.first] - x[data.second]
    terms: dict[str, Any] = {"first": data.first, "second": data.second} if roles else {}
    if not roles:
        stacked = indicator(np.concatenate([data.first, data.second]))
        half = data.y.size
        terms = {"model": stacked[:half] - stacked[half:], "pair": data.pair_codes()}
    if scenario is not None:
        same_length(scenario=scenario, y=seen)
        terms["scenario"] = kept(scenario, seen)
    found = mixed_model(data.y, gap, terms, [0.0, 1.0], df=df, level=level)
    return found.with_(n=len(data.models), missing=data.missing, estimand=estimand)


@dataclass(frozen=True, slots=True)
class SocialRelations:
    """Variance of u_ij = mu + actor_i + partner_j + relationship_ij + error.

    `actor`, `partner`, `relationship` and `error` are variances (unbiased, so they may be
    negative), their errors the jackknife over models; `shares` are those of the sum of the
    positive ones. `reciprocity` is the covariance of a model's actor and partner effects,
    `dyadic` that of the two sides of one pair. `error` is None, and part of `relationship`,
    unless some model met another twice in the same role.
    """

    mean: float | None
    actor: Estimate
    partner: Estimate
    relationship: Estimate
    error: float | None
    reciprocity: Estimate
    dyadic: Estimate
    shares: Mapping[str, float]
    n_models: int
    n_games: int
    missing: int
    reason: str | None = None


_PARTS = ("actor", "partner", "relationship", "reciprocity", "dyadic")


def social_relations(
    first: Labels,
    second: Labels,
    utility_first: ArrayLike | Sequence[float | None],
    utility_second: ArrayLike | Sequence[float | None],
    level: float = 0.95,
) -> SocialRelations:
    """Whose doing is an outcome: the actor's, the partner's, or that of the two together?

    Every model must have met every other (in either order): a round robin. Both roles of a pair
    are averaged; the advantage of going first is not part of the split. Needs four models.
    """
    one, two = floats(utility_first), floats(utility_second)
    same_length(utility_first=one, utility_second=two)
    whole = np.isfinite(one) & np.isfinite(two)
    data = games(first, second, np.where(whole, one, np.nan))
    m = len(data.models)
    actor = np.concatenate([data.first, data.second])
    partner = np.concatenate([data.second, data.first])
    u = np.concatenate([one[whole], two[whole]])
    cell = actor * m + partner
    counts = np.bincount(cell, minlength=m * m).reshape(m, m)
    about: dict[str, Any] = {
        "level": check_level(level),
        "n": m,
        "n_rows": data.y.size,
        "missing": data.missing,
        "method": "round-robin variance components, jackknife over models",
    }
    reason = _why_no_split(m, counts)
    if reason:
        parts = {name: undefined(reason, estimand=name, **about) for name in _PARTS}
        return _told(None, parts, None, data.y.size, reason)
    sums = np.bincount(cell, weights=u, minlength=m * m).reshape(m, m)
    means = np.where(np.eye(m, dtype=bool), 0.0, sums / np.maximum(counts, 1))
    noise = _noise(u, codes(list(zip(cell, _seats(data.y.size), strict=True)))[0])
    # Each cell's mean carries the noise of its games, which is not the relationship's.
    thinning = float((1 / counts[~np.eye(m, dtype=bool)]).mean())
    parts = _with_errors(means, (noise or 0.0) * thinning, about)
    return _told(float(means.sum() / (m * (m - 1))), parts, noise, data.y.size, None)


def _seats(games_played: int) -> list[int]:
    return [0] * games_played + [1] * games_played


def _why_no_split(m: int, counts: np.ndarray) -> str | None:
    if m == 0:
        return EMPTY
    if m < 4:
        return TOO_FEW_MODELS
    return NOT_IDENTIFIED if (counts + np.eye(m, dtype=int) == 0).any() else None


def _noise(u: Floats, group: np.ndarray) -> float | None:
    """Pooled variance of games alike in actor, partner and seat; None without two of a kind."""
    counts = np.bincount(group)
    df = int((counts - 1).sum())
    if df == 0:
        return None
    centred = u - (np.bincount(group, weights=u) / counts)[group]
    return float(centred @ centred) / df


def _split(means: Floats, noise: float) -> Floats:
    """The five components of `_PARTS` from a complete matrix actor x partner."""
    m = len(means)
    rows, columns = means.sum(axis=1) / (m - 1), means.sum(axis=0) / (m - 1)
    grand = float(means.sum()) / (m * (m - 1))
    lift, mix, shift = (m - 1) ** 2 / (m * (m - 2)), (m - 1) / (m * (m - 2)), (m - 1) / (m - 2)
    actor = lift * rows + mix * columns - shift * grand
    partner = lift * columns + mix * rows - shift * grand
    rest = means - actor[:, None] - partner[None, :] - grand
    i, j = np.triu_indices(m, 1)
    pairs = (m - 1) * (m - 2) / 2
    between = float(((rest[i, j] + rest[j, i]) ** 2).sum()) / 2 / (pairs - 1)
    within = float(((rest[i, j] - rest[j, i]) ** 2).sum()) / 2 / pairs
    share, part = between / (2 * (m - 2)), within / (2 * m)
    return np.array(
        [
            float(actor @ actor) / (m - 1) - share - part,
            float(partner @ partner) / (m - 1) - share - part,
            (between + within) / 2 - noise,
            float(actor @ partner) / (m - 1) - share + part,
            (between - within) / 2,
        ]
    )


def _with_errors(means: Floats, noise: float, about: dict[str, Any]) -> dict[str, Estimate]:
    m = len(means)
    values = _split(means, noise)
    keep = [np.arange(m) != k for k in range(m)]
    # A round robin of three has no between-pair spread left, so four models have no jackknife.
    left_out = [_split(means[k][:, k], noise) for k in keep] if m > 4 else []
    found = {}
    for at, name in enumerate(_PARTS):
        base = Estimate(float(values[at]), estimand=f"variance component: {name}", **about)
        gaps = np.array([parts[at] for parts in left_out])
        spread = float(((gaps - gaps.mean()) ** 2).sum()) if gaps.size else 0.0
        se = math.sqrt((m - 1) / m * spread)
        reason = TOO_FEW_MODELS if m == 4 else ZERO_VARIANCE
        known = se > 1e-12 * max(1e-300, abs(float(values[at])))
        found[name] = from_t(base, se, m - 1).with_(p=None) if known else base.with_(reason=reason)
    return found


def _told(
    mean: float | None,
    parts: Mapping[str, Estimate],
    noise: float | None,
    n_games: int,
    reason: str | None,
) -> SocialRelations:
    positive = {name: max(0.0, parts[name].estimate or 0.0) for name in _PARTS[:3]}
    positive |= {} if noise is None else {"error": noise}
    total = sum(positive.values())
    shares = {name: value / total for name, value in positive.items()} if total > 0 else {}
    actor = parts["actor"]
    return SocialRelations(
        mean=mean,
        error=noise,
        n_models=actor.n,
        n_games=n_games,
        missing=actor.missing,
        shares=shares,
        reason=reason,
        **parts,
    )
