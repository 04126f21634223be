"""Reducers: what is kept of activations while a forward pass runs.

A reducer is called inside the hook with (name, h, batch); h is float32 (B, T, d), aligned with the
walk's tokens, a torch tensor or (simulated model) a numpy array; the code works for both. Invariant:
nothing of size d leaves a reducer unless a caller asked for vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from peira.families.representations.contexts import Batch

WIDE = 200  # least number of tokens behind population geometry (as many as there are)
SINK = 10.0  # a token whose norm exceeds this many times its layer's median is a sink


def like(h: Any, array: Any) -> Any:
    """`array` as the same kind of tensor as h, on its device."""
    if isinstance(h, np.ndarray):
        return np.asarray(array, dtype=h.dtype)
    import torch

    return torch.as_tensor(np.ascontiguousarray(array), dtype=h.dtype, device=h.device)


def to_numpy(value: Any) -> Any:
    """A numpy array, from torch or numpy."""
    return value if isinstance(value, np.ndarray) else value.detach().cpu().numpy()


def one_hot(labels: Any, nodes: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(B, n, T): 1 where token t enters the mean of node n."""
    return np.asarray(labels[:, None, :] == np.arange(nodes)[None, :, None], dtype=np.float32)


def span(length: int, window: int | None) -> tuple[int, int]:
    """Tokens that means at context length N run over: the last `window` of N, or all."""
    return (0 if window is None else max(0, length - window)), length


@dataclass(frozen=True)
class Moments:
    """Gram matrix of centred node means and within-node scatter, per row and context length.

    Call returns {"gram": (B, N, n, n), "scatter": (B, N), "finite": (B,), "sinks": a list per row,
    "gram_without_sinks" and "wide": (B, n, n) at the longest length}.
    """

    lengths: tuple[int, ...]
    window: int | None = None

    @property
    def wide(self) -> tuple[int, int]:
        """The span that population geometry is taken over: at least `WIDE` tokens, so that a short
        window does not leave most nodes unvisited."""
        return span(self.lengths[-1], None if self.window is None else max(self.window, WIDE))

    def __call__(self, name: str, h: Any, batch: Batch) -> dict[str, Any]:
        h, finite = _finite(h, batch)
        sinks = _sinks(to_numpy((h * h).sum(-1) ** 0.5), batch)
        hot = one_hot(batch.labels, batch.nodes)
        h = _centred(h, batch.labels)
        spans = [span(length, self.window) for length in self.lengths]
        grams, scatters = zip(*(_moments(h, hot, *limits) for limits in spans), strict=True)
        return {
            "gram": np.stack(grams, 1), "scatter": np.stack(scatters, 1), "finite": finite,
            "wide": grams[-1] if self.wide == spans[-1] else _moments(h, hot, *self.wide)[0],
            "sinks": sinks,
            "gram_without_sinks": _without(h, hot, sinks, spans[-1]) if any(sinks) else grams[-1],
        }  # fmt: skip


def _finite(h: Any, batch: Batch) -> tuple[Any, Any]:
    """h with non-finite rows zeroed, and which rows were finite (over their own tokens)."""
    inside = np.arange(h.shape[1])[None, :] < batch.lengths[:, None]
    bad = to_numpy(abs(h).sum(-1))
    finite: Any = np.isfinite(np.where(inside, bad, 0.0)).all(1)
    if not finite.all():
        h = h + 0  # a copy
        h[np.flatnonzero(~finite)] = 0
    return h, finite


def _centred(h: Any, labels: Any) -> Any:
    """h less each row's mean over labelled tokens: a shift that keeps sums small."""
    weights = (labels >= 0).astype(np.float32)
    weights /= np.maximum(weights.sum(1, keepdims=True), 1.0)
    return h - like(h, weights)[:, None, :] @ h


def _moments(h: Any, hot: Any, start: int, stop: int) -> tuple[Any, Any]:
    part, counts = h[:, start:stop], hot[:, :, start:stop].sum(2)
    sums = like(h, hot[:, :, start:stop]) @ part
    means = sums / like(h, np.maximum(counts, 1.0))[:, :, None]
    seen = (counts > 0).astype(np.float32)
    share = seen / np.maximum(seen.sum(1, keepdims=True), 1.0)
    centre = like(h, share)[:, None, :] @ means
    middled = (means - centre) * like(h, seen)[:, :, None]
    gram = to_numpy(middled @ middled.mT)
    weight = like(h, hot[:, :, start:stop].sum(1))
    total = to_numpy(((part * part).sum(-1) * weight).sum(-1))
    inside = to_numpy(((means * means).sum(-1) * like(h, counts)).sum(-1))
    return gram.astype(np.float32), np.maximum(total - inside, 0).astype(np.float32)


def _sinks(norms: Any, batch: Batch) -> list[list[tuple[int, float]]]:
    """Per row (token, norm over the row's median) of every labelled sink."""
    found = []
    for row, labels, length in zip(norms, batch.labels, batch.lengths, strict=True):
        scale = float(np.median(row[:length])) or 1.0
        at = np.flatnonzero((row[:length] > SINK * scale) & (labels[:length] >= 0))
        found.append([(int(t), float(row[t] / scale)) for t in at])
    return found


def _without(
    h: Any, hot: Any, sinks: list[list[tuple[int, float]]], limits: tuple[int, int]
) -> Any:
    bare = hot.copy()
    for row, found in enumerate(sinks):
        bare[row, :, [t for t, _ in found]] = 0.0
    return _moments(h, bare, *limits)[0]


@dataclass(frozen=True)
class Vectors:
    """Everything, as float32 numpy (B, T, d): for experiments that need the tokens themselves."""

    def __call__(self, name: str, h: Any, batch: Batch) -> Any:
        return to_numpy(h).astype(np.float32)


@dataclass(frozen=True)
class NodeMeans:
    """Node means as vectors (B, n, d), over all labelled tokens; zero where unvisited."""

    def __call__(self, name: str, h: Any, batch: Batch) -> Any:
        hot = one_hot(batch.labels, batch.nodes)
        sums = like(h, hot) @ h
        return to_numpy(sums / like(h, np.maximum(hot.sum(2), 1.0))[:, :, None])
