"""Muon in float32: momentum whose matrices are made orthogonal before each step.

torch ships the same optimizer, but its Newton–Schulz runs in bfloat16, which costs more than the
whole model on a CPU without bfloat16 units.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

COEFFICIENTS = (3.4445, -4.775, 2.0315)  # Jordan et al. 2024: quintic, steep at zero


def orthogonal(matrices: Any, rounds: int = 5) -> Any:
    """The nearest (semi-)orthogonal matrices, approximately; shape (count, rows, columns)."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(rounds):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon:
    """Optimizer for a model's inner matrices, stepping those of one shape together."""

    def __init__(self, matrices: Iterable[Any], lr: float, momentum: float = 0.95) -> None:
        import torch

        self.momentum = momentum
        self.param_groups: list[dict[str, Any]] = [{"lr": lr}]
        shapes: dict[Any, list[Any]] = {}
        for matrix in matrices:
            shapes.setdefault(tuple(matrix.shape), []).append(matrix)
        self._shapes = [(group, torch.zeros(len(group), *s)) for s, group in shapes.items()]

    def step(self) -> None:
        import torch

        rate = self.param_groups[0]["lr"]
        with torch.no_grad():
            for group, velocity in self._shapes:
                gradient = torch.stack([p.grad for p in group])
                velocity.lerp_(gradient, 1 - self.momentum)
                update = orthogonal(gradient.lerp(velocity, self.momentum))
                scale = max(1.0, update.shape[-2] / update.shape[-1]) ** 0.5
                for p, u in zip(group, update, strict=True):
                    p.sub_(u, alpha=rate * scale)

    def state_dict(self) -> dict[str, Any]:
        return {"velocities": [velocity for _, velocity in self._shapes]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for (_, velocity), kept in zip(self._shapes, state["velocities"], strict=True):
            velocity.copy_(kept)

    def zero_grad(self, set_to_none: bool = True) -> None:
        for group, _ in self._shapes:
            for p in group:
                p.grad = None
