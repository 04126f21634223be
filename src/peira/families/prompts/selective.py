"""Selective answering: how much an arm answers, and how right it is when it does.

Ratios of sums over items, errors by clusters (statistics §5). Invariant: a rate over answered rows
never exceeds 1, and curves exist only where a scorer gave a `confidence` for both arms: abstention
rates are not confidences.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from peira.families.prompts.effects import Comparison, cluster_sums
from peira.stats.result import Estimate
from peira.stats.selective import ratio_of_sums, risk_coverage

Floats = NDArray[np.float64]
CONFIDENCE = "confidence"


def selective_risk(at: Comparison) -> dict[str, Any]:
    """Both arms: coverage, selective accuracy, accuracy over all scored rows, each with limits."""
    arms = (at.reference, at.arm)
    curves = all(_has_confidence(at, arm) for arm in arms)
    return {arm: _one(at, arm, curves) for arm in arms}


def _one(at: Comparison, arm: str, curves: bool) -> dict[str, Any]:
    em = at.block(at.trial.values("em"), arm)
    quiet = at.block(at.trial.values("abstain_rate"), arm)
    scored = np.isfinite(em)
    answered = scored & (quiet == 0)
    counts = {
        "coverage": (answered, scored),
        "selective_accuracy": (np.where(answered, em, 0.0), answered),
        "accuracy": (np.where(scored, em, 0.0), scored),
    }
    entry: dict[str, Any] = {
        "n_scored": int(scored.sum()), "n_answered": int(answered.sum()), "_reasons": {},
    }  # fmt: skip
    for name, (hits, rows) in counts.items():
        _put(entry, name, ratio(hits.sum(axis=1), rows.sum(axis=1), at.clusters()))
    if curves:
        sure = at.block(at.trial.values(CONFIDENCE), arm)
        entry |= curve(em[answered], sure[answered], at.stats.risk_thresholds)
    return entry


def _put(entry: dict[str, Any], name: str, found: Estimate) -> None:
    low, high = found.low, found.high
    limits = None if low is None or high is None else [max(0.0, low), min(1.0, high)]
    entry |= {name: found.estimate, f"{name}_ci_95": limits}
    missing = [key for key in (name, f"{name}_ci_95") if entry[key] is None]
    entry["_reasons"] |= dict.fromkeys(missing, found.reason)


def ratio(hits: Any, rows: Any, clusters: NDArray[Any]) -> Estimate:
    """Σ hits / Σ rows with the delta-method error over clusters."""
    return ratio_of_sums(
        cluster_sums(np.asarray(hits, dtype=float), clusters),
        cluster_sums(np.asarray(rows, dtype=float), clusters),
    )


def _has_confidence(at: Comparison, arm: str) -> bool:
    if CONFIDENCE not in at.trial.metrics:
        return False
    return bool(np.isfinite(at.block(at.trial.values(CONFIDENCE), arm)).any())


def curve(correct: Floats, confidence: Floats, thresholds: tuple[float, ...]) -> dict[str, Any]:
    """Risk among the answers at least as confident as each threshold, AURC and AUGRC."""
    keep = np.isfinite(confidence) & np.isfinite(correct)
    right, sure = correct[keep], confidence[keep]
    points = []
    for threshold in thresholds:
        kept = sure >= threshold
        risk = 1 - float(right[kept].mean()) if kept.any() else None
        coverage = float(kept.mean()) if kept.size else None
        points.append({"threshold": threshold, "coverage": coverage, "risk": risk})
    areas = risk_coverage(sure, right)
    return {"curve": points, "aurc": areas.aurc, "augrc": areas.augrc}
