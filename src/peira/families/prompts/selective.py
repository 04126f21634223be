"""Selective answering: how much an arm answers, and how right it is when it does.

Ratios of sums over items, errors by clusters through the influence (C_i − θ N_i)/mean N
(statistics §5). Invariant: a rate over answered rows never exceeds 1, and curves exist only where a
scorer gave a `confidence` for both arms: abstention rates are not confidences.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from peira.families.prompts.effects import Comparison
from peira.stats.clustered import cluster_mean

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
    right = np.where(answered, em, 0.0)
    counts = {
        "coverage": (answered.sum(axis=1), scored.sum(axis=1)),
        "selective_accuracy": (right.sum(axis=1), answered.sum(axis=1)),
        "accuracy": (np.where(scored, em, 0.0).sum(axis=1), scored.sum(axis=1)),
    }
    entry: dict[str, Any] = {"_reasons": {}}
    for name, (hits, rows) in counts.items():
        value, limits, reason = ratio(hits.astype(float), rows.astype(float), at.clusters())
        entry |= {name: value, f"{name}_ci_95": limits}
        if reason is not None:
            missing = [n for n, v in ((name, value), (f"{name}_ci_95", limits)) if v is None]
            entry["_reasons"] |= dict.fromkeys(missing, reason)
    if curves:
        sure = at.block(at.trial.values(CONFIDENCE), arm)
        entry |= curve(1 - em[answered], sure[answered], at.stats.risk_thresholds)
    return entry


def ratio(
    hits: Floats, rows: Floats, clusters: NDArray[Any]
) -> tuple[float | None, list[float] | None, str | None]:
    """Σ hits / Σ rows over items with its 95 % limits by clusters, and why either is missing."""
    total = rows.sum()
    if total == 0:
        return None, None, "empty"
    theta = float(hits.sum() / total)
    influence = (hits - theta * rows) / rows.mean()
    spread = cluster_mean(influence, clusters)
    if spread.low is None or spread.high is None:
        return theta, None, spread.reason or "zero_variance"
    half = (spread.high - spread.low) / 2
    return theta, [max(0.0, theta - half), min(1.0, theta + half)], None


def _has_confidence(at: Comparison, arm: str) -> bool:
    if CONFIDENCE not in at.trial.metrics:
        return False
    sure = at.block(at.trial.values(CONFIDENCE), arm)
    return bool(np.isfinite(sure).any())


def curve(errors: Floats, confidence: Floats, thresholds: tuple[float, ...]) -> dict[str, Any]:
    """Risk at each threshold, AURC and AUGRC; ties in confidence taken in random order, exactly.

    AURC = mean of R_k, AUGRC = mean of (errors among the k surest)/n (Traub et al. 2024).
    """
    keep = np.isfinite(confidence) & np.isfinite(errors)
    errors, confidence = errors[keep], confidence[keep]
    n = errors.size
    if n == 0:
        return {"curve": [], "aurc": None, "augrc": None}
    order = np.argsort(-confidence, kind="stable")
    ranked, levels = errors[order], confidence[order]
    _, group = np.unique(-levels, return_inverse=True)
    shared = (np.bincount(group, weights=ranked) / np.bincount(group))[group]
    total = np.cumsum(shared)
    points = []
    for threshold in thresholds:
        kept = confidence >= threshold
        risk = float(errors[kept].mean()) if kept.any() else None
        points.append({"threshold": threshold, "coverage": float(kept.mean()), "risk": risk})
    return {
        "curve": points,
        "aurc": float((total / np.arange(1, n + 1)).mean()),
        "augrc": float((total / n).mean()),
    }
