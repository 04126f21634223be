"""Solution points by mixed-integer programming (scipy's HiGHS), where no frontier is listed.

Variables are x[j, k] ∈ {0, 1}: item j goes to seat k. Leximin is solved level by level; the Nash
product by outer approximation: log is concave, so tangents at the points found so far bound it from
above, and the loop ends when the bound meets the best point found. All results are exact up to the
solver's tolerance (1e-6 of a point of utility).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from peira.families.negotiation.game import Game

SLACK = 1e-7
Point = tuple[float, ...]
Array = NDArray[np.float64]


@dataclass
class Program:
    """A growing linear program over the allocation and `extra` further variables."""

    game: Game
    extra: int = 0
    binary_extra: Sequence[int] = ()
    rows: list[Array] = field(default_factory=list)
    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)

    @property
    def cells(self) -> int:
        return self.game.n * self.game.m

    def utility_row(self, seat: int) -> Array:
        """Coefficients of a seat's utility over all variables."""
        return np.concatenate([self.game.matrix[seat].ravel(), np.zeros(self.extra)])

    def extra_row(self, index: int, weight: float = 1.0) -> Array:
        """Coefficients of one further variable."""
        row = np.zeros(self.cells + self.extra)
        row[self.cells + index] = weight
        return row

    def at_least(self, row: Array, bound: float) -> None:
        """Add row·variables ≥ bound."""
        self.rows.append(row)
        self.lower.append(bound)
        self.upper.append(np.inf)

    def maximise(self, objective: Array) -> tuple[Array, float] | None:
        """Allocation [m, n] and objective value; None when infeasible."""
        from scipy.optimize import Bounds, LinearConstraint, milp

        game, width = self.game, self.cells + self.extra
        once = np.zeros((game.m, width))
        for j in range(game.m):
            once[j, j * game.n : (j + 1) * game.n] = 1
        constraints = [LinearConstraint(once, 1, 1)]
        if self.rows:
            matrix = np.vstack(self.rows)
            constraints.append(LinearConstraint(matrix, np.array(self.lower), np.array(self.upper)))
        integer = np.concatenate([np.ones(self.cells), np.zeros(self.extra)])
        low = np.concatenate([np.zeros(self.cells), np.full(self.extra, -np.inf)])
        high = np.concatenate([np.ones(self.cells), np.full(self.extra, np.inf)])
        for index in self.binary_extra:
            spot = self.cells + index
            integer[spot], low[spot], high[spot] = 1, 0, 1
        found = milp(-objective, integrality=integer, bounds=Bounds(low, high),
                     constraints=constraints, options={"mip_rel_gap": 0.0})  # fmt: skip
        if found.x is None:
            return None
        return np.round(found.x[: self.cells]).reshape(game.m, game.n), float(-found.fun)


def _point(game: Game, chosen: Array) -> Point:
    return tuple(float(x) for x in np.einsum("ijk,jk->i", game.matrix, chosen))


def utilitarian(game: Game) -> Point:
    """Largest sum of utilities; ties by the larger minimum."""
    program = Program(game)
    total = sum((program.utility_row(i) for i in range(game.n)), np.zeros(program.cells))
    solved = program.maximise(total)
    assert solved is not None
    return _leximin(game, [(total, solved[1] - SLACK)])


def egalitarian(game: Game) -> Point:
    """Leximin: raise the smallest utility, then the second smallest, and so on."""
    return _leximin(game, [])


def _leximin(
    game: Game, floors: Sequence[tuple[Array, float]], rows: Sequence[Array] | None = None
) -> Point:
    """Leximin over `rows` (default: utilities) by sums of the k smallest (Ogryczak & Śliwiński).

    The sum of the k smallest values is max over t of k·t − Σ_i max(0, t − y_i), which is linear, so
    maximising it for k = 1..n in turn, keeping each level, gives the leximin optimum exactly.
    """
    n = game.n
    values = rows or [game.matrix[i].ravel() for i in range(n)]
    program = Program(game, extra=n * (n + 1))
    wide = [np.concatenate([row, np.zeros(program.extra)]) for row in values]
    for row, bound in floors:
        program.at_least(np.concatenate([row, np.zeros(program.extra)]), bound)
    chosen: Array | None = None
    for k in range(1, n + 1):
        base = (k - 1) * (n + 1)
        objective = program.extra_row(base, k)
        for i in range(n):
            short = program.extra_row(base + 1 + i)
            program.at_least(short, 0.0)
            program.at_least(short + wide[i] - program.extra_row(base), 0.0)
            objective -= short
        solved = program.maximise(objective)
        assert solved is not None
        chosen = solved[0]
        program.at_least(objective, solved[1] - SLACK)
    assert chosen is not None
    return _point(game, chosen)


def ideals(game: Game, rational: bool = True) -> Point:
    """Each seat's largest utility, over individually rational outcomes or over all."""
    best = []
    for i in range(game.n):
        program = Program(game)
        if rational:
            for k in range(game.n):
                program.at_least(program.utility_row(k), game.disagreement - SLACK)
        solved = program.maximise(program.utility_row(i))
        best.append(math.nan if solved is None else solved[1])
    return tuple(best)


def kalai_smorodinsky(game: Game) -> Point | None:
    """Leximin of the shares of the ideal gain; None when no outcome is individually rational."""
    ideal = ideals(game)
    if any(math.isnan(x) for x in ideal):
        return None
    d = game.disagreement
    rows, floors = [], []
    for i in range(game.n):
        row = game.matrix[i].ravel()
        floors.append((row, d - SLACK))
        span = ideal[i] - d
        # Σ_jk x_jk / m = 1, so a constant can be carried by the allocation's own variables.
        constant = np.full(len(row), 1.0 / game.m)
        rows.append((row - d * constant) / span if span > 1e-9 else constant)
    return _leximin(game, floors, rows)


def nash(game: Game) -> tuple[Point, float, int]:
    """Most seats with a positive gain, then the largest product of those gains."""
    program, most = _positive_program(game)
    n, d = game.n, game.disagreement
    objective = sum((program.extra_row(i) for i in range(n)), np.zeros(program.cells + 2 * n))
    best: tuple[float, Point] | None = None
    for guess in ([1.0] * n, [10.0] * n, [50.0] * n, [100.0] * n):
        _add_tangents(program, guess)
    for _ in range(500):
        solved = program.maximise(objective)
        assert solved is not None
        point = _point(game, solved[0])
        gains = [u - d for u in point]
        value = sum(math.log(g) for g in gains if g > 1e-6)
        if best is None or value > best[0]:
            best = (value, point)
        if solved[1] <= best[0] + 1e-7:
            break
        _add_tangents(program, gains)
    assert best is not None
    return best[1], math.exp(best[0]) if most else 0.0, most


def _positive_program(game: Game) -> tuple[Program, int]:
    """Variables w_i (log gain) and z_i (gains at all), with the most z_i that can be one.

    The smallest positive gain is found per seat, so that z_i = 1 means a gain of at least that.
    """
    n = game.n
    program = Program(game, extra=2 * n, binary_extra=range(n, 2 * n))
    smallest = _smallest_step(game)
    reach = float(np.abs(game.matrix).sum()) + abs(game.disagreement) + 1
    for i in range(n):
        z = program.extra_row(n + i)
        row = program.utility_row(i)
        program.at_least(row - (smallest + reach) * z, game.disagreement - reach)
        program.at_least(math.log(reach) * z - program.extra_row(i), 0.0)
    count = sum((program.extra_row(n + i) for i in range(n)), np.zeros(program.cells + 2 * n))
    solved = program.maximise(count)
    assert solved is not None
    most = round(solved[1])
    program.at_least(count, most - 0.5)
    return program, most


def _smallest_step(game: Game) -> float:
    """A positive number below every positive gain: half the grid all values lie on, if coarse."""
    scaled = np.asarray(game.values) * 100
    whole = bool(np.allclose(scaled, np.round(scaled)))
    return 1e-3 if whole and game.cooperation == 0 else 1e-4


def _add_tangents(program: Program, gains: Sequence[float]) -> None:
    """w_i ≤ log g + (u_i − d − g)/g, lifted out of the way when z_i = 0."""
    n, d = program.game.n, program.game.disagreement
    reach = float(np.abs(program.game.matrix).sum()) + abs(d) + 1
    for i, g in enumerate(gains):
        if g <= 1e-6:
            continue
        slope, intercept = 1.0 / g, math.log(g) - (d + g) / g
        # With z_i = 0, w_i ≤ 0 and the utility may lie below d: the tangent must allow w_i = 0.
        lift = max(0.0, -(intercept + slope * (d - reach)))
        row = slope * program.utility_row(i) - program.extra_row(i)
        row = row - lift * program.extra_row(n + i)
        program.at_least(row, -intercept - lift)


def domination_gap(game: Game, utilities: Sequence[float]) -> tuple[float, Point]:
    """Largest total gain with nobody losing against `utilities`, and the point that gives it."""
    program = Program(game)
    for i, u in enumerate(utilities):
        program.at_least(program.utility_row(i), u - SLACK)
    total = sum((program.utility_row(i) for i in range(game.n)), np.zeros(program.cells))
    solved = program.maximise(total)
    if solved is None:
        return 0.0, tuple(utilities)
    point = _point(game, solved[0])
    return max(0.0, sum(point) - sum(utilities)), point
