"""Designs a study may have, each able to tell its power.

`unit` says what n counts; `power(n, effect, alpha)` is the chance that the design's own test
rejects. What a unit costs is the planner's matter.
Invariant: power is that of the test the analysis will run (exact for McNemar, noncentral t for
means, M - 2 degrees of freedom for models), never of a convenient stand-in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from peira.stats._arrays import Floats, Ints, Seed, check_positive, generator


class Design(Protocol):
    """What the planner needs of a design."""

    @property
    def unit(self) -> str:
        """What n counts."""
        ...

    @property
    def fewest(self) -> int:
        """Smallest n the test can be run with."""
        ...

    def power(self, n: int, effect: float, alpha: float) -> float:
        """Chance to reject at level alpha with n units when the effect is as given."""
        ...


def noncentral_t_power(noncentrality: float, df: float, alpha: float, sides: int = 2) -> float:
    """Power of a t test; two-sided counts both tails ("strict", as R's power.t.test)."""
    from scipy.special import nctdtr, stdtrit

    critical = float(stdtrit(df, 1 - alpha / sides))
    upper = 1 - float(nctdtr(df, noncentrality, critical))
    lower = float(nctdtr(df, noncentrality, -critical)) if sides == 2 else 0.0
    return min(1.0, max(0.0, upper + (lower if math.isfinite(lower) else 0.0)))


@dataclass(frozen=True, slots=True)
class PairedMean:
    """Mean paired difference of items: Var(d) = between + within_t/K_t + within_c/K_c.

    `between` is the variance of true item differences (omega^2), `within_*` that of replicates
    (Miller 2024). Give a plain sd of differences as `PairedMean(sd**2)`.
    """

    between: float
    within_treatment: float = 0.0
    within_control: float = 0.0
    replicates: int = 1
    unit: str = "pairs"
    fewest: int = 2

    def __post_init__(self) -> None:
        check_positive(replicates=self.replicates)
        check_positive(variance=self.variance)

    @property
    def variance(self) -> float:
        """Variance of an item's observed difference; a negative `between` counts as zero."""
        within = (self.within_treatment + self.within_control) / self.replicates
        return max(self.between, 0.0) + within

    def power(self, n: int, effect: float, alpha: float) -> float:
        """Paired t, two-sided."""
        return noncentral_t_power(effect / math.sqrt(self.variance / n), n - 1, alpha)


@dataclass(frozen=True, slots=True)
class ClusteredPairs:
    """Mean paired difference of items in clusters: n counts clusters.

    Design effect 1 + ((1 + CV^2) m - 1) ICC, with m items per cluster and CV of cluster size.
    """

    sd: float
    cluster_size: float
    icc: float
    size_cv: float = 0.0
    unit: str = "clusters"
    fewest: int = 6

    def __post_init__(self) -> None:
        if self.cluster_size < 1 or not -1 <= self.icc <= 1:
            raise ValueError(
                f"need cluster size >= 1 and -1 <= icc <= 1; got {self.cluster_size}, {self.icc}"
            )
        check_positive(sd=self.sd, design_effect=self.design_effect)

    @property
    def design_effect(self) -> float:
        """Variance of the mean against independent items."""
        return 1 + ((1 + self.size_cv**2) * self.cluster_size - 1) * self.icc

    def power(self, n: int, effect: float, alpha: float) -> float:
        """t with G - 1 degrees of freedom, two-sided."""
        variance = self.sd**2 * self.design_effect / (n * self.cluster_size)
        return noncentral_t_power(effect / math.sqrt(variance), n - 1, alpha)


@dataclass(frozen=True, slots=True)
class PairedBinary:
    """Paired pass/fail: `discordance` is the share of pairs that differ; effect = gain - loss."""

    discordance: float
    test: str = "mid-p"
    unit: str = "pairs"
    fewest: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.discordance <= 1:
            raise ValueError(f"discordance is a share of pairs in (0, 1]; got {self.discordance}")
        rejection_edge(np.array([1]), 0.05, self.test)  # refuses a test it does not know

    def power(self, n: int, effect: float, alpha: float) -> float:
        """Exact unconditional power; 0 if the effect exceeds the discordance it needs."""
        if abs(effect) > self.discordance + 1e-12:
            return math.nan
        gain = (self.discordance + effect) / 2
        return mcnemar_power(gain, self.discordance - gain, n, alpha=alpha, test=self.test)


def mcnemar_power(
    gain: float, loss: float, n: int, *, alpha: float = 0.05, test: str = "exact"
) -> float:
    """Exact power: sum over m of Bin(m; n, gain + loss) P(reject | m discordant pairs)."""
    from scipy.special import bdtr, bdtrc
    from scipy.stats import binom

    psi = gain + loss
    if not (gain >= 0 and loss >= 0 and psi <= 1 + 1e-12 and n >= 0):
        raise ValueError(f"gain and loss are shares of n pairs; got {gain=}, {loss=}, {n=}")
    if psi == 0:
        return 0.0
    psi = min(psi, 1.0)
    spread = 9 * math.sqrt(n * psi * (1 - psi)) + 40
    m = np.arange(max(0, math.floor(n * psi - spread)), min(n, math.ceil(n * psi + spread)) + 1)
    k = rejection_edge(m, alpha, test)
    share = min(1.0, max(0.0, gain / psi))
    reject = np.zeros(m.size)
    some = k >= 0
    reject[some] = bdtr(k[some], m[some], share) + bdtrc(m[some] - k[some] - 1, m[some], share)
    return float((binom.pmf(m, n, psi) * reject).sum())


def rejection_edge(m: Ints, alpha: float, test: str = "exact") -> Ints:
    """Largest k such that b <= k (or b >= m - k) is rejected among m pairs; -1 if none."""
    from scipy.stats import binom

    if test not in ("exact", "mid-p"):
        raise ValueError(f"test must be 'exact' or 'mid-p'; got {test!r}")
    k = np.asarray(binom.ppf(alpha / 2, m, 0.5)).astype(np.int64)
    upper = binom.cdf(k, m, 0.5)
    p = 2 * upper if test == "exact" else upper + binom.cdf(k - 1, m, 0.5)
    balanced = 2 * k == m
    return np.where((p <= alpha * (1 + 1e-12)) & ~balanced, k, k - 1)


def connor_units(gain: float, loss: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Connor's (1987) sample size for McNemar: optimistic for the exact test."""
    from scipy.special import ndtri

    psi, delta = gain + loss, gain - loss
    if delta == 0:
        raise ValueError("gain and loss are alike: no number of pairs tells them apart")
    a, b = float(ndtri(1 - alpha / 2)), float(ndtri(power))
    return math.ceil((a * math.sqrt(psi) + b * math.sqrt(psi - delta**2)) ** 2 / delta**2)


def miller_units(
    design: PairedMean, effect: float, *, alpha: float = 0.05, power: float = 0.8
) -> int:
    """Miller's (2024) normal sample size for a paired difference with replicates."""
    from scipy.special import ndtri

    if effect == 0:
        raise ValueError("no number of items finds an effect of zero")
    z = float(ndtri(1 - alpha / 2) + ndtri(power))
    return math.ceil(z**2 * design.variance / effect**2 - 1e-9)


@dataclass(frozen=True, slots=True)
class NonInferiority:
    """One-sided paired test that the difference exceeds -margin; effect is the true difference."""

    sd: float
    margin: float
    unit: str = "pairs"
    fewest: int = 2

    def __post_init__(self) -> None:
        check_positive(sd=self.sd, margin=self.margin)

    def power(self, n: int, effect: float, alpha: float) -> float:
        """One-sided paired t at alpha."""
        shift = (effect + self.margin) / (self.sd / math.sqrt(n))
        return noncentral_t_power(shift, n - 1, alpha, sides=1)


@dataclass(frozen=True, slots=True)
class TwoRates:
    """Two independent arms of n each; effect is added to the control's rate."""

    control_rate: float
    unit: str = "units per arm"
    fewest: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.control_rate <= 1:
            raise ValueError(f"control rate must lie in [0, 1]; got {self.control_rate}")

    def power(self, n: int, effect: float, alpha: float) -> float:
        """Normal power of the score test (pooled under the null)."""
        from scipy.special import ndtr, ndtri

        rate = self.control_rate + effect
        if not 0 <= rate <= 1:
            return math.nan
        pooled = (rate + self.control_rate) / 2
        null = math.sqrt(2 * pooled * (1 - pooled) / n)
        own = math.sqrt((rate * (1 - rate) + self.control_rate * (1 - self.control_rate)) / n)
        if own == 0:
            return float(null > 0)
        z = float(ndtri(1 - alpha / 2))
        return float(ndtr((abs(effect) - z * null) / own) + ndtr((-abs(effect) - z * null) / own))


@dataclass(frozen=True, slots=True)
class ScenarioRuns:
    """A factor of `cells` levels with n runs each: F test that any level differs.

    Effect is the largest difference between two levels, the rest in the middle (the least
    favourable pattern); `sd` is the noise between runs of one cell.
    """

    sd: float
    cells: int = 2
    unit: str = "runs per cell"
    fewest: int = 2

    def __post_init__(self) -> None:
        check_positive(sd=self.sd)
        if self.cells < 2:
            raise ValueError(f"a factor has at least two levels; got {self.cells}")

    def power(self, n: int, effect: float, alpha: float) -> float:
        """Noncentral F with (cells - 1, cells (n - 1)) degrees of freedom."""
        from scipy.special import fdtri, ncfdtr

        between, within = self.cells - 1, self.cells * (n - 1)
        critical = float(fdtri(between, within, 1 - alpha))
        noncentrality = n * effect**2 / (2 * self.sd**2)
        return 1 - float(ncfdtr(between, within, noncentrality, critical))


@dataclass(frozen=True, slots=True)
class RoundRobin:
    """Slope of model scores on capability in a round robin of n models: power by simulation.

    All ordered pairs play `seeds` games. Capability has standard deviation `capability_sd`;
    skill off the line has sd `model_sd`, a game `game_sd`. Effect is the slope. The simulation
    draws from `seed`, the same for every effect; between one n and the next it has a Monte Carlo
    error of about .01.
    """

    model_sd: float
    game_sd: float
    capability_sd: float = 1.0
    seeds: int = 4
    draws: int = 2000
    seed: Seed = 0
    unit: str = "models"
    fewest: int = 3

    def __post_init__(self) -> None:
        check_positive(game_sd=self.game_sd, capability_sd=self.capability_sd, seeds=self.seeds)
        if self.model_sd < 0:
            raise ValueError(f"model sd must not be negative; got {self.model_sd}")

    def power(self, n: int, effect: float, alpha: float) -> float:
        """Share of simulated tournaments in which the t test with M - 2 df rejects."""
        from scipy.special import ndtri, stdtrit

        rng = generator(self.seed)
        x = self.capability_sd * np.asarray(ndtri((np.arange(n) + 0.5) / n))
        x = x / x.std(ddof=1) * self.capability_sd
        skill = self.model_sd * rng.standard_normal((self.draws, n))
        # A least-squares skill averages 2(M-1) x seeds games: this is its exact error.
        noise = self.game_sd / math.sqrt(2 * n * self.seeds) * rng.standard_normal(skill.shape)
        scores = effect * x + skill + noise
        scores -= scores.mean(axis=1, keepdims=True)
        slopes = scores @ x / (x @ x)
        residuals = scores - slopes[:, None] * x
        errors = np.sqrt((residuals**2).sum(axis=1) / (n - 2) / (x @ x))
        return float((np.abs(slopes / errors) > stdtrit(n - 2, 1 - alpha / 2)).mean())


def best_of_k_inflation(k: int) -> float:
    """E[max of k standard normals]: how far the best of k null variations stands out by chance."""
    from scipy.special import ndtr

    z = np.linspace(-10.0, 10.0, 40_001)
    density: Floats = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return float(np.trapezoid(z * k * density * ndtr(z) ** (k - 1), z))
