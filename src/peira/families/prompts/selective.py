"""Selective answering: how much an arm answers, and how right it is when it does.

Ratios of sums over items, errors by clusters (statistics §5). Invariant: a rate over answered rows
never exceeds 1, and curves exist only where a scorer gave a `confidence` for both arms: abstention
rates are not confidences.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from peira.families.prompts.effects import Comparison, cluster_sums, reasoned
from peira.stats.selective import ratio_of_sums, risk_coverage

Floats = NDArray[np.float64]
CONFIDENCE = "confidence"


def selective_risk(at: Comparison) -> dict[str, Any]:
    """Both arms: coverage, selective accuracy, accuracy over all scored rows, each with limits."""
    arms = (at.reference, at.arm)
    curves = CONFIDENCE in at.trial.metrics and all(
        np.isfinite(at.block(at.trial.values(CONFIDENCE), arm)).any() for arm in arms
    )
    return {arm: _one(at, arm, curves) for arm in arms}


def _one(at: Comparison, arm: str, curves: bool) -> dict[str, Any]:
    em = at.block(at.trial.values("em"), arm)
    scored = np.isfinite(em)
    answered = scored & (at.block(at.trial.values("abstain_rate"), arm) == 0)
    counts = {
        "coverage": (answered, scored),
        "selective_accuracy": (np.where(answered, em, 0.0), answered),
        "accuracy": (np.where(scored, em, 0.0), scored),
    }
    entry: dict[str, Any] = {
        "n_scored": int(scored.sum()), "n_answered": int(answered.sum()), "_reasons": {},
    }  # fmt: skip
    for name, pair in counts.items():
        found = ratio_of_sums(
            *(cluster_sums(rows.sum(axis=1).astype(float), at.clusters()) for rows in pair)
        )
        limits = found.limits and [max(0.0, found.limits[0]), min(1.0, found.limits[1])]
        part = reasoned({name: found.estimate, f"{name}_ci_95": limits}, found.reason)
        entry["_reasons"] |= part.pop("_reasons", {})
        entry |= part
    if curves:
        sure = at.block(at.trial.values(CONFIDENCE), arm)
        entry |= curve(em[answered], sure[answered], at.stats.risk_thresholds)
    return entry


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
