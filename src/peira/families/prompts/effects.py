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
from peira.stats.result import Estimate
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
    """Item values of both arms."""

    arm: Floats
    control: Floats


def sides(at: Comparison, metric: str) -> Sides:
    """Mean over an item's scored samples, of the comparison's items in order; NaN where an item
    has none."""
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
    return Sides(
        _filled(at, metric, at.arm, arm_value), _filled(at, metric, at.reference, control_value)
    )


def _filled(at: Comparison, metric: str, arm: str, value: float) -> Floats:
    scores = at.block(at.trial.values(metric), arm)
    lost = at.block(at.trial.status, arm) != "ok"
    return scored_mean(np.where(lost, value, scores))


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
    both = np.isfinite(values.arm) & np.isfinite(values.control)
    whole = np.concatenate([values.arm[both], values.control[both]])
    if at.single and not clustered and _is_binary(whole):
        return paired_outcomes(values.arm, values.control)
    seed = derive(stats.random_seed, at.name, metric)
    unit = bool(whole.size) and whole.min() >= 0 and whole.max() <= 1
    found = paired_difference(
        values.arm, values.control, cluster=clusters if clustered else None, seed=seed,
        resamples=stats.bootstrap_samples, score_range=UNIT_RANGE if unit else None,
    )  # fmt: skip
    if not stats.enable_permutation or found.estimate is None or found.n < 2:
        return found
    flip = sign_flip_p(
        cluster_sums((values.arm - values.control)[both], clusters[both]),
        derive(stats.random_seed, at.name, metric, "sign-flip"),
        stats.permutation_samples,
    )
    interval = found.method.split(" + ")[0] if found.low is not None else "none"
    return found.with_(
        p=flip.p,
        mc_error=flip.mc_error,
        method=f"{interval} + sign-flip of {'cluster' if clustered else 'item'} sums ({flip.how})",
    )


def _is_binary(values: Floats) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def cluster_sums(differences: Floats, clusters: NDArray[Any]) -> Floats:
    """Sum of δ over each cluster."""
    _, group = np.unique(clusters.astype(str), return_inverse=True)
    return np.bincount(group, weights=differences).astype(np.float64)


def metric_entry(at: Comparison, metric: str, role: str) -> dict[str, Any]:
    """All that is said of one metric; undefined numbers are None, reasons under `_reasons`."""
    at = replace(at, items=at.items[applicable(at, metric)])
    values, clusters = sides(at, metric), at.clusters()
    found = estimate(at, metric, values, clusters)
    both = np.isfinite(values.arm) & np.isfinite(values.control)
    entry: dict[str, Any] = {
        "role": role,
        "n_items": found.n,
        "n_missing": len(at.items) - found.n,
        "control_mean": _mean(values.control[both]),
        "arm_mean": _mean(values.arm[both]),
        "delta_mean": found.estimate,
        "ci_95": None if found.low is None or found.high is None else [found.low, found.high],
        "ci_method": found.method.split(" + ")[-1 if "McNemar" in found.method else 0],
        "p_value": found.p,
        "p_method": _p_method(found),
        "mc_error": found.mc_error,
    }
    reasons = _missing_reasons(entry, found)
    if found.mc_error is None:
        del entry["mc_error"]
    entry |= _sensitivity(at, metric, values, clusters)
    entry |= _ranks(values, reasons)
    entry |= _margins(at, metric, values)
    return entry | ({"flags": list(found.flags)} if found.flags else {}) | {"_reasons": reasons}


def _p_method(found: Estimate) -> str:
    if found.p is None:
        return "none"
    return found.method.split(" + ")[0 if "McNemar" in found.method else -1]


def _missing_reasons(entry: dict[str, Any], found: Estimate) -> dict[str, str]:
    reason = found.reason or "empty"
    names = ("control_mean", "arm_mean", "delta_mean", "ci_95", "p_value")
    return {name: reason for name in names if entry[name] is None}


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if values.size else None


def _sensitivity(
    at: Comparison, metric: str, values: Sides, clusters: NDArray[Any]
) -> dict[str, Any]:
    """`delta_itt` with its p, and `bounds` from the least to the most the lost rows could make."""
    if metric not in NOT_CORRECT:
        return {
            "delta_itt": None, "bounds": None,
            "_itt": {"delta_itt": "not_identified", "bounds": "not_identified"},
        }  # fmt: skip
    if not _any_lost(at):
        mean = _mean(_difference(values))
        return {"delta_itt": mean, "bounds": None if mean is None else [mean, mean], "_itt_p": None}
    fill = NOT_CORRECT[metric]
    treated = filled(at, metric, fill, fill)
    found = estimate(at, metric, treated, clusters)
    low, high = (
        _mean(_difference(filled(at, metric, arm, control)))
        for arm, control in ((0.0, 1.0), (1.0, 0.0))
    )
    return {
        "delta_itt": found.estimate,
        "bounds": None if low is None or high is None else [low, high],
        "_itt_p": found.p,
    }


def _any_lost(at: Comparison) -> bool:
    status = at.trial.status
    return any(bool((at.block(status, arm) != "ok").any()) for arm in (at.arm, at.reference))


def _difference(values: Sides) -> Floats:
    delta = values.arm - values.control
    return delta[np.isfinite(delta)]


def _ranks(values: Sides, reasons: dict[str, str]) -> dict[str, Any]:
    delta = _difference(values)
    hl, signed = hodges_lehmann(delta), wilcoxon(delta, continuity=False)
    spread = float(delta.std(ddof=1)) if delta.size > 1 and not is_constant(delta) else None
    counts = dominance(delta)
    gains, losses = int(counts.extra.get("gains") or 0), int(counts.extra.get("losses") or 0)
    entry = {
        "hodges_lehmann": hl.estimate,
        "cohens_d": None if spread is None else float(delta.mean()) / spread,
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
    if spread is None:
        reasons["cohens_d"] = (
            "empty" if not delta.size else "single_unit" if delta.size == 1 else "zero_variance"
        )
    return entry


def _smaller(signed: Estimate) -> float | None:
    sums = [signed.extra.get(name) for name in ("W_plus", "W_minus")]
    return None if None in sums else min(float(s) for s in sums if s is not None)


def _margins(at: Comparison, metric: str, values: Sides) -> dict[str, Any]:
    margin = at.stats.tost_margins.get(metric)
    delta = _difference(values)
    if margin is None or delta.size < 2:
        return {}
    alpha = at.stats.tost_alpha
    both = equivalence(delta, margin=margin, alpha=alpha)
    above = noninferiority(delta, margin=margin, alpha=alpha)
    return {
        "tost": _against(both, margin, alpha, "equivalent"),
        "non_inferiority": _against(above, margin, alpha, "non_inferior"),
    }


def _against(found: Estimate, margin: float, alpha: float, word: str) -> dict[str, Any]:
    limits = None if found.low is None or found.high is None else [found.low, found.high]
    entry: dict[str, Any] = {
        "margin": margin, "p_value": found.p, "alpha": alpha,
        f"ci_{round(100 * (1 - 2 * alpha))}": limits,
        word: None if found.p is None else bool(found.p <= alpha),
    }  # fmt: skip
    if found.p is None:
        entry["_reasons"] = dict.fromkeys(
            [name for name, value in entry.items() if value is None], found.reason or "empty"
        )
    return entry
