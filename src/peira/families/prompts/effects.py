"""One metric of one arm against a reference: everything significance.json says of it.

Invariant: the item is the unit, samples averaged within; δ = arm − reference over items scored on
both sides, always beside `delta_itt` and `bounds`, which count what δ leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peira.families.prompts.evaluated import TrialData
from peira.families.prompts.settings import StatsSettings
from peira.stats.effects import dominance, equivalence, noninferiority
from peira.stats.intervals import is_constant
from peira.stats.mcnemar import paired_outcomes
from peira.stats.paired import paired_difference
from peira.stats.permutation import sign_flip_p
from peira.stats.rank import hodges_lehmann, wilcoxon
from peira.stats.result import RESAMPLED, Estimate
from peira.study.seeds import derive

Floats = NDArray[np.float64]

#: What an unscored row counts as, where intention to treat can say so: not correct.
NOT_CORRECT = {"em": 0.0, "f1": 0.0, "abstain_rate": 0.0, "false_answer_rate": 1.0}
UNIT_RANGE = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Where a comparison stands: which items, which arms, at which temperature."""

    trial: TrialData
    temp: float
    kind: str
    arm: str
    reference: str
    items: NDArray[np.int64]

    @property
    def name(self) -> str:
        """The quantity's name, from which its random stream is taken."""
        slug = self.trial.record.slug
        return f"{slug}|{self.temp:g}|{self.kind}|{self.arm}|{self.reference}"

    @property
    def stats(self) -> StatsSettings:
        return self.trial.settings.analysis.stats

    @property
    def single(self) -> bool:
        """True for one sample per item."""
        return self.trial.settings.samples(self.temp) == 1

    def block(self, values: Any, arm: str) -> Any:
        """Items × samples of one arm at this temperature."""
        place = self.trial.arm_names.index(arm)
        return values[self.items][:, self.trial.draws(self.temp), place]

    def clusters(self) -> NDArray[Any]:
        return self.trial.cluster[self.items]


@dataclass(frozen=True, slots=True)
class Sides:
    """Item values of both arms; NaN where an item has none."""

    arm: Floats
    control: Floats

    @property
    def both(self) -> NDArray[np.bool_]:
        """Items with a value on both sides."""
        return np.isfinite(self.arm) & np.isfinite(self.control)

    @property
    def delta(self) -> Floats:
        """Arm minus reference of each item, NaN where a side has none."""
        return self.arm - self.control

    @property
    def known(self) -> Floats:
        """δ of the items with a value on both sides."""
        return self.delta[self.both]

    @property
    def binary(self) -> bool:
        """True if every value is 0 or 1."""
        values = np.concatenate([self.arm, self.control])
        return bool(np.isin(values[np.isfinite(values)], (0.0, 1.0)).all())


def sides(at: Comparison, metric: str) -> Sides:
    """Mean over an item's scored samples, of the comparison's items in order."""
    values = at.trial.values(metric)
    return Sides(scored_mean(at.block(values, at.arm)), scored_mean(at.block(values, at.reference)))


def scored_mean(block: Floats) -> Floats:
    """Mean of each item over its scored draws, NaN where there is none."""
    seen = np.isfinite(block)
    counts = seen.sum(axis=1)
    means = np.full(len(block), np.nan)
    np.divide(np.where(seen, block, 0.0).sum(axis=1), counts, out=means, where=counts > 0)
    return means


def filled(at: Comparison, metric: str, arm_value: float, control_value: float) -> Sides:
    """Both arms with their unscored rows counted as the given values."""
    scores, lost = at.trial.values(metric), at.trial.status != "ok"
    return Sides(*(
        scored_mean(np.where(at.block(lost, arm), value, at.block(scores, arm)))
        for arm, value in ((at.arm, arm_value), (at.reference, control_value))
    ))  # fmt: skip


def applicable(at: Comparison, metric: str) -> NDArray[np.bool_]:
    """Items the metric can apply to, whatever was answered."""
    items = [at.trial.items[n] for n in at.items]
    if metric == "false_answer_rate":
        return np.array([item.is_unanswerable for item in items], dtype=bool)
    if metric == "unsupported_rate":
        return np.array([bool(item.context) for item in items], dtype=bool)
    return np.ones(len(items), dtype=bool)


def estimate(at: Comparison, metric: str, values: Sides, clusters: NDArray[Any]) -> Estimate:
    """δ with the test and interval that §7 prescribes for its kind of data."""
    stats = at.stats
    clustered = len(set(clusters)) < len(clusters)
    both = values.both
    whole = np.concatenate([values.arm[both], values.control[both]])
    if at.single and not clustered and bool(np.isin(whole, (0.0, 1.0)).all()):
        return paired_outcomes(values.arm, values.control)
    unit = bool(whole.size) and whole.min() >= 0 and whole.max() <= 1
    found = paired_difference(
        values.arm, values.control, cluster=clusters if clustered else None,
        seed=derive(stats.random_seed, at.name, metric), resamples=stats.bootstrap_samples,
        score_range=UNIT_RANGE if unit else None,
    )  # fmt: skip
    if not stats.enable_permutation or found.estimate is None or found.n < 2:
        return found
    flip = sign_flip_p(
        cluster_sums(values.known, clusters[both]),
        derive(stats.random_seed, at.name, metric, "sign-flip"),
        stats.permutation_samples,
    )
    interval = found.method.split(" + ")[0] if found.low is not None else "none"
    how = f"sign-flip of {'cluster' if clustered else 'item'} sums ({flip.how})"
    return flip.on(found).with_(method=f"{interval} + {how}")


def cluster_sums(differences: Floats, clusters: NDArray[Any]) -> Floats:
    """Sum of δ over each cluster."""
    _, group = np.unique(clusters.astype(str), return_inverse=True)
    return np.bincount(group, weights=differences).astype(np.float64)


def reasoned(entry: dict[str, Any], reason: str | None) -> dict[str, Any]:
    """The entry with a reason, under `_reasons`, for each of its numbers that is None."""
    missing = [name for name, value in entry.items() if value is None]
    return entry | ({"_reasons": dict.fromkeys(missing, reason or "empty")} if missing else {})


def metric_entry(at: Comparison, metric: str, role: str) -> dict[str, Any]:
    """All that is said of one metric; undefined numbers are None, reasons under `_reasons`."""
    at = replace(at, items=at.items[applicable(at, metric)])
    values, clusters = sides(at, metric), at.clusters()
    found, both = estimate(at, metric, values, clusters), values.both
    exact = "McNemar" in found.method  # whose test stands first, its interval last
    methods = found.method.split(" + ")
    entry: dict[str, Any] = {
        "role": role, "n_items": found.n, "n_missing": len(at.items) - found.n,
        "control_mean": _mean(values.control[both]), "arm_mean": _mean(values.arm[both]),
        "delta_mean": found.estimate, "ci_95": found.limits,
        "ci_method": methods[-1 if exact else 0], "p_value": found.p,
        "p_method": "none" if found.p is None else methods[0 if exact else -1],
    }  # fmt: skip
    entry = reasoned(entry, found.reason)
    reasons: dict[str, str] = entry.pop("_reasons", {})
    if found.mc_error is not None:
        entry["mc_error"] = found.mc_error
    entry |= {name: found.extra[name] for name in RESAMPLED if name in found.extra}
    entry |= _sensitivity(at, metric, values, clusters)
    entry |= _ranks(values.known, reasons)
    entry |= _margins(at, metric, values.known)
    return entry | ({"flags": list(found.flags)} if found.flags else {}) | {"_reasons": reasons}


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if values.size else None


def _sensitivity(
    at: Comparison, metric: str, values: Sides, clusters: NDArray[Any]
) -> dict[str, Any]:
    """`delta_itt` with its p, and `bounds` from the least to the most the lost rows could make."""
    if metric not in NOT_CORRECT:
        nothing = dict.fromkeys(("delta_itt", "bounds"))
        return {**nothing, "_itt": dict.fromkeys(nothing, "not_identified")}
    if not any((at.block(at.trial.status, arm) != "ok").any() for arm in (at.arm, at.reference)):
        mean = _mean(values.known)
        return {"delta_itt": mean, "bounds": None if mean is None else [mean, mean], "_itt_p": None}
    treated = filled(at, metric, NOT_CORRECT[metric], NOT_CORRECT[metric])
    found = estimate(at, metric, treated, clusters)
    low, high = (_mean(filled(at, metric, end, 1.0 - end).known) for end in UNIT_RANGE)
    bounds = None if low is None or high is None else [low, high]
    return {"delta_itt": found.estimate, "bounds": bounds, "_itt_p": found.p}


def why_no_spread(delta: Floats) -> str | None:
    """Why differences have no standard deviation, or None if they have one."""
    if delta.size < 2:
        return "single_unit" if delta.size else "empty"
    return "zero_variance" if is_constant(delta) else None


def _ranks(delta: Floats, reasons: dict[str, str]) -> dict[str, Any]:
    hl, signed, counts = hodges_lehmann(delta), wilcoxon(delta, continuity=False), dominance(delta)
    gains, losses = int(counts.extra.get("gains") or 0), int(counts.extra.get("losses") or 0)
    why = why_no_spread(delta)
    entry = {
        "hodges_lehmann": hl.estimate,
        "cohens_d": None if why else float(delta.mean()) / float(delta.std(ddof=1)),
        "dominance": {
            "wins": gains, "losses": losses, "ties": int(delta.size) - gains - losses,
            "value": counts.estimate,
        },
        "wilcoxon": {
            "W": _smaller(signed), "p_value": signed.p,
            "n_zero": signed.extra.get("n_zero"), "zero_method": "pratt",
        },
    }  # fmt: skip
    if hl.estimate is None:
        reasons |= {"hodges_lehmann": hl.reason or "empty", "dominance/value": "empty"}
        reasons |= {f"wilcoxon/{name}": "empty" for name in ("W", "p_value", "n_zero")}
    if why:
        reasons["cohens_d"] = why
    return entry


def _smaller(signed: Estimate) -> float | None:
    sums = [signed.extra.get(name) for name in ("W_plus", "W_minus")]
    return None if None in sums else min(float(s) for s in sums if s is not None)


def _margins(at: Comparison, metric: str, delta: Floats) -> dict[str, Any]:
    margin, alpha = at.stats.tost_margins.get(metric), at.stats.tost_alpha
    if margin is None or delta.size < 2:
        return {}
    both = equivalence(delta, margin=margin, alpha=alpha)
    above = noninferiority(delta, margin=margin, alpha=alpha)
    return {
        "tost": _against(both, margin, alpha, "equivalent"),
        "non_inferiority": _against(above, margin, alpha, "non_inferior"),
    }


def _against(found: Estimate, margin: float, alpha: float, word: str) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "margin": margin, "p_value": found.p, "alpha": alpha,
        f"ci_{round(100 * (1 - 2 * alpha))}": found.limits,
        word: None if found.p is None else bool(found.p <= alpha),
    }  # fmt: skip
    return reasoned(entry, found.reason) if found.p is None else entry
