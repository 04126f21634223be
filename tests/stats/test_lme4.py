"""Why one reference number is not ours: R's Laplace fit stops its inner iteration early.

An independent implementation of lme4's PIRLS (external.cpp, `pwrssUpdate`; Bates et al. 2015) for one
random intercept: each evaluation starts from the linear predictor of the nAGQ=0 fit, ends as soon as
the penalised deviance moves by less than `tolPwrss` of itself, and takes the determinant of the
weights one step before. With lme4's default, 1e-7, that gives R's numbers; with 1e-14, ours.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import optimize
from scipy.special import expit

import peira.stats as ps
from peira.stats._arrays import Floats
from tests.stats.conftest import References

DELTA = 1e-4  # lme4's step for the Hessian


def penalised(y: Floats, eta: Floats, u: Floats) -> float:
    return float(2 * (np.logaddexp(0, eta) - y * eta).sum() + u @ u)


def settled(
    step: Callable[[Floats], tuple[float, Floats, float]], eta: Floats, tol: float
) -> tuple[float, Floats]:
    """(deviance, linear predictor) where lme4 would stop."""
    before = np.inf
    for _ in range(100):
        deviance, eta, determinant = step(eta)
        if abs(before - deviance) < tol * deviance:
            return deviance + determinant, eta
        before = deviance
    raise AssertionError("did not settle")


class Fit:
    """y ~ x + (1 | item) by Laplace, as lme4 evaluates it."""

    def __init__(self, y: Floats, x: Floats, item: np.ndarray, tol: float) -> None:
        self.y, self.x, self.item, self.tol = y, x, item, tol
        self.n = int(item.max()) + 1
        start = np.log((y + 0.5) / (1.5 - y))
        best = optimize.minimize_scalar(
            lambda sd: settled(self._both(sd), start, tol)[0], bounds=(0.1, 3), method="bounded"
        )
        self.start = settled(self._both(best.x), start, tol)[1]

    def deviance(self, parameters: Floats) -> float:
        sd, fixed = parameters[0], self.x @ parameters[1:]

        def step(eta: Floats) -> tuple[float, Floats, float]:
            weight, response = self._working(eta)
            m = 1 + sd**2 * np.bincount(self.item, weight, self.n)
            u = sd * np.bincount(self.item, weight * (response - fixed), self.n) / m
            eta = fixed + sd * u[self.item]
            return penalised(self.y, eta, u), eta, float(np.log(m).sum())

        return settled(step, self.start, self.tol)[0]

    def _both(self, sd: float) -> Callable[[Floats], tuple[float, Floats, float]]:
        """The stage without beta among the parameters (nAGQ=0)."""
        design = np.hstack([sd * np.eye(self.n)[self.item], self.x])
        ridge = np.diag([1.0] * self.n + [0.0] * self.x.shape[1])

        def step(eta: Floats) -> tuple[float, Floats, float]:
            weight, response = self._working(eta)
            m = design.T @ (weight[:, None] * design) + ridge
            found = np.linalg.solve(m, design.T @ (weight * response))
            eta = design @ found
            u, block = found[: self.n], m[: self.n, : self.n]
            return penalised(self.y, eta, u), eta, float(np.linalg.slogdet(block)[1])

        return step

    def _working(self, eta: Floats) -> tuple[Floats, Floats]:
        p = expit(eta)
        weight = p * (1 - p)
        return weight, eta + (self.y - p) / weight

    def optimum(self) -> tuple[float, float, float]:
        """(beta, its standard error from a finite-difference Hessian, log likelihood)."""
        options = {"xatol": 1e-7, "fatol": 1e-10, "maxiter": 2000}
        found = optimize.minimize(
            self.deviance, [1.0, 0.0, 0.0], method="Nelder-Mead", options=options
        )
        moves = np.eye(3) * DELTA
        hessian = [
            [
                sum(
                    a * b * self.deviance(found.x + a * i + b * j) for a in (1, -1) for b in (1, -1)
                )
                / (4 * DELTA**2)
                for j in moves
            ]
            for i in moves
        ]
        return found.x[2], float(np.sqrt(2 * np.linalg.inv(hessian)[2, 2])), -found.fun / 2


@pytest.mark.parametrize(
    ("tol", "whose"), [(1e-7, "R"), (1e-14, "ours")], ids=["lme4-default", "converged"]
)
def test_the_laplace_error_of_r_is_that_of_an_inner_iteration_stopped_early(
    refs: References, tol: float, whose: str
) -> None:
    rows = refs.rows("03_replicates")
    y = np.array([float(row["y_binary"]) for row in rows])
    treated = np.array([float(row["condition"] == "treatment") for row in rows])
    labels = [row["item"] for row in rows]
    _, item = np.unique(labels, return_inverse=True)
    beta, se, log_likelihood = Fit(
        y, np.column_stack([np.ones(y.size), treated]), item, tol
    ).optimum()
    if whose == "R":  # its other variance, item:condition, is zero, so this is the same model
        r = refs.expected("03_clustered_R")["refs"]["glmm_binary"]
        expected, within = (r["beta_logit"], r["se"], r["loglik"]), 1e-5
    else:
        cell = list(zip(labels, treated, strict=True))
        ours = ps.logistic_mixed(y, treated, {"cell": cell, "item": labels})
        expected, within = (ours.estimate, ours.se, ours.extra["log_likelihood"]), 1e-4
    assert (beta, se, log_likelihood) == pytest.approx(expected, abs=within)
