"""Draw an instance: item names and value vectors with a stated pairwise cosine.

Invariant: every vector is integer, non-negative and sums to exactly 100; every realised cosine is
within tolerance of the target or `PreferenceError` is raised; seats are exchangeable (rows are
permuted at random at the end, so no seat systematically holds the smaller support).

Construction: a shared vector s plus λ times vectors with disjoint supports. The mean cosine falls
from 1 to 0 as λ grows, so a bisection hits the target; integer local search (move one point of one
seat from one item to another) then closes the error of rounding.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from peira.errors import InputError
from peira.families.negotiation.game import ITEM_NAMES, Game
from peira.families.negotiation.settings import NegotiationSettings
from peira.study.seeds import generator

TOTAL = 100
RESTARTS, TRIALS = 200, 20
Values = NDArray[np.int64]


class PreferenceError(InputError):
    """No value vectors with the asked cosine exist, or none were found."""


def tolerance(n: int) -> float:
    """Largest allowed |cosine − target|: 0.01 for two seats, 0.03 for every pair of more."""
    return 0.01 if n == 2 else 0.03


@lru_cache(maxsize=4096)
def _draw(seed: int, n: int, m: int, competition: float, kappa: float, d: float) -> Game:
    rng = generator(seed, "negotiation/instance", n, m)
    names = tuple(ITEM_NAMES[k] for k in rng.permutation(len(ITEM_NAMES))[:m])
    values = value_vectors(rng, n, m, competition)
    rows = tuple(tuple(float(x) for x in row) for row in values.tolist())
    return Game(names, rows, cooperation=kappa, disagreement=d)


def draw_game(settings: NegotiationSettings, seed: int) -> Game:
    """The stated instance, else the one of these game settings and this seed (`random_seed` takes
    precedence)."""
    kappa = settings.cooperation if settings.preferences == "matrix" else 0.0
    if settings.instance is not None:
        stated = settings.instance
        return Game(stated.items, stated.values, kappa, settings.disagreement)
    chosen = seed if settings.random_seed is None else settings.random_seed
    return _draw(
        chosen, settings.num_agents, settings.num_items, settings.competition_level, kappa,
        settings.disagreement,
    )  # fmt: skip


@lru_cache(maxsize=1024)
def possible(n: int, m: int, competition: float) -> bool:
    """Whether vectors of this shape and cosine are found at all; n ≤ m always has them."""
    if 2 <= n <= m or competition == 1.0:
        return True
    try:
        value_vectors(generator("negotiation/possible"), n, m, competition, TRIALS)
    except PreferenceError:
        return False
    return True


def value_vectors(
    rng: np.random.Generator, n: int, m: int, competition: float, restarts: int = RESTARTS
) -> Values:
    """n integer vectors of length m, each summing to 100, pairwise cosine `competition`.

    Raises PreferenceError when n > m at competition 0, or when the target cannot be met.
    """
    if competition == 1.0:
        return np.repeat(_integers(rng.gamma(1.5, size=m), 1)[None], n, axis=0)
    if competition == 0.0:
        return _disjoint(rng, n, m)
    for _ in range(restarts):
        values = _between(rng, n, m, competition)
        if values is not None:
            return values[rng.permutation(n)]
    raise PreferenceError(
        f"competition_level: {competition}: no value vectors for {n} agents and {m} items\n"
        f"  allowed: a cosine that {n} non-negative vectors of length {m} can have pairwise\n"
        f"  remedy: raise num_items to at least {n}, or competition_level towards 1"
    )


def _disjoint(rng: np.random.Generator, n: int, m: int) -> Values:
    if n > m:
        raise PreferenceError(
            f"competition_level: 0 with {n} agents and {m} items\n"
            f"  allowed: num_items >= {n} (disjoint interests)\n"
            "  remedy: raise num_items or competition_level"
        )
    values = np.zeros((n, m), dtype=np.int64)
    for seat, support in zip(rng.permutation(n), _supports(rng, n, m), strict=True):
        values[seat, support] = _integers(rng.gamma(1.5, size=len(support)), 1)
    return values


def _supports(rng: np.random.Generator, n: int, m: int) -> list[NDArray[np.int64]]:
    """The items split at random into n parts of near-equal size."""
    return [np.asarray(part) for part in np.array_split(rng.permutation(m), n)]


def _integers(weights: NDArray[np.float64], floor: int) -> Values:
    """Largest-remainder rounding to a total of 100, at least `floor` for each item."""
    share = weights / weights.sum() * (TOTAL - floor * len(weights))
    whole = np.floor(share).astype(np.int64)
    rest = TOTAL - floor * len(weights) - int(whole.sum())
    whole[np.argsort(whole - share, kind="stable")[:rest]] += 1
    result: Values = whole + floor
    return result


def _between(
    rng: np.random.Generator, n: int, m: int, competition: float
) -> NDArray[np.int64] | None:
    shared = rng.gamma(1.5, size=m)
    own = np.zeros((n, m))
    if n <= m:
        for seat, support in enumerate(_supports(rng, n, m)):
            own[seat, support] = rng.gamma(1.5, size=len(support))
    else:
        own = rng.gamma(0.3, size=(n, m))
    own /= own.sum(axis=1, keepdims=True)
    shared /= shared.sum()
    mixed = _mixed_to(shared, own, competition)
    values = np.stack([_integers(row, 0) for row in mixed])
    return _refined(values, competition, tolerance(n))


def _mixed_to(
    shared: NDArray[np.float64], own: NDArray[np.float64], target: float
) -> NDArray[np.float64]:
    """(1−λ)·shared + λ·own with the mean pairwise cosine at `target`, by bisection on λ.

    Each cosine is a ratio of quadratics in λ, so the three Gram terms are computed once.
    """
    n = len(own)
    upper = np.triu_indices(n, 1)
    ss = float(shared @ shared)
    so = own @ shared
    oo = own @ own.T
    cross, gram, norms = (so[upper[0]] + so[upper[1]]), oo[upper], np.diagonal(oo)
    low, high = 0.0, 1.0
    for _ in range(24):
        lam = (low + high) / 2
        a, b, c = (1 - lam) ** 2 * ss, lam * (1 - lam), lam * lam
        length = np.sqrt(a + 2 * b * so + c * norms)
        cosine = (a + b * cross + c * gram) / (length[upper[0]] * length[upper[1]])
        low, high = (lam, high) if float(cosine.mean()) > target else (low, lam)
    lam = (low + high) / 2
    mixed: NDArray[np.float64] = (1 - lam) * shared + lam * own
    return mixed


def _refined(values: Values, target: float, allowed: float) -> Values | None:
    """Greedy integer local search; None if it stops short of the tolerance."""
    n, m = values.shape
    others = [np.array([k for k in range(n) if k != i]) for i in range(n)]
    for _ in range(400):
        error = _errors(values, target)
        if np.abs(error).max() <= allowed / 2:
            return values
        best, move = (error**2).sum() / 2, None
        for i in range(n):
            loss = _move_losses(values, i, others[i], target, error)
            spot = int(loss.argmin())
            if loss.flat[spot] < best - 1e-12:
                best, move = float(loss.flat[spot]), (i, *divmod(spot, m))
        if move is None:
            break
        seat, source, sink = move
        values[seat, source] -= 1
        values[seat, sink] += 1
    return values if np.abs(_errors(values, target)).max() <= allowed else None


def _errors(values: Values, target: float) -> NDArray[np.float64]:
    gram = (values @ values.T).astype(float)
    norm = np.sqrt(np.diagonal(gram))
    error: NDArray[np.float64] = gram / np.outer(norm, norm) - target
    np.fill_diagonal(error, 0.0)
    return error


def _move_losses(
    values: Values, i: int, others: NDArray[np.int64], target: float, error: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Loss after moving one point of seat i from item j to item k, for all (j, k)."""
    row = values[i].astype(float)
    rest = values[others].astype(float)
    norm2 = row @ row + 2.0 * (row[None, :] - row[:, None]) + 2.0
    dots = (rest @ row)[:, None, None] + rest[:, None, :] - rest[:, :, None]
    lengths = np.sqrt((rest * rest).sum(axis=1))[:, None, None]
    cosine = dots / (np.sqrt(norm2)[None] * lengths)
    loss: NDArray[np.float64] = ((cosine - target) ** 2).sum(axis=0)
    loss = loss + (error**2).sum() / 2 - (error[i] ** 2).sum()
    loss[row < 1, :] = np.inf
    np.fill_diagonal(loss, np.inf)
    return loss
