"""Bayesian influence by stochastic gradient Langevin dynamics, and the toy it is shown on.

BIF_ij = −Cov(ℓ_i, ℓ_j) over draws w' = w − (ε/2)[nβ∇L + γ(w − w*)] + N(0, ε). Source: Lee et al. 2025
(arXiv:2510.12071); the toy's modes: Saxe et al. 2014 (arXiv:1312.6120). Invariant: every chain is
seeded by name; R̂ and the effective sample size are returned beside every estimate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Sampler:
    """Chains and their dynamics. The defaults are the specification's."""

    chains: int = 64
    draws: int = 400
    epsilon: float = 2e-4
    n_beta: float = 100.0
    gamma: float = 100.0
    burn: int = 200


@dataclass(frozen=True, eq=False)
class Influence:
    """−Cov and −correlation of item losses (n, n); R̂ and ESS of the mean loss."""

    bif: Floats
    correlation: Floats
    r_hat: float
    ess: float


def sample(
    w: Floats, gradient: Callable[[Floats], Floats], losses: Callable[[Floats], Floats],
    sampler: Sampler, rng: np.random.Generator,
) -> Floats:  # fmt: skip
    """Losses (chains, draws, items) along SGLD from w (p,). `gradient` maps (chains, p) to (chains, p),
    `losses` (chains, p) to (chains, items)."""
    at = np.repeat(w[None], sampler.chains, 0)
    out = []
    for step in range(sampler.burn + sampler.draws):
        drift = sampler.n_beta * gradient(at) + sampler.gamma * (at - w)
        noise = rng.standard_normal(at.shape) * np.sqrt(sampler.epsilon)
        at = at - sampler.epsilon / 2 * drift + noise
        if step >= sampler.burn:
            out.append(losses(at))
    return np.asarray(np.stack(out, 1), dtype=float)


def influence(drawn: Floats) -> Influence:
    """BIF from losses (chains, draws, items)."""
    flat = drawn.reshape(-1, drawn.shape[-1])
    covariance = np.cov(flat.T)
    spread = np.sqrt(np.diag(covariance))
    correlation = covariance / np.maximum(np.outer(spread, spread), 1e-300)
    mean = drawn.mean(-1)
    return Influence(-covariance, -correlation, r_hat(mean), effective_size(mean))


def r_hat(chains: Floats) -> float:
    """Split-free Gelman-Rubin R̂ of (chains, draws)."""
    draws = chains.shape[1]
    within = chains.var(1, ddof=1).mean()
    between = draws * chains.mean(1).var(ddof=1)
    return float(np.sqrt(((draws - 1) / draws * within + between / draws) / max(within, 1e-300)))


def effective_size(chains: Floats) -> float:
    """Draws divided by the integrated autocorrelation time (initial positive sequence)."""
    x = chains - chains.mean(1, keepdims=True)
    variance = (x**2).mean()
    total = 1.0
    for lag in range(1, x.shape[1]):
        rho = (x[:, lag:] * x[:, :-lag]).mean() / max(variance, 1e-300)
        if rho <= 0:
            break
        total += 2 * rho
    return float(x.size / total)


# -- the toy --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Toy:
    """A two-layer linear network on the items of a binary tree."""

    items: int = 8
    hidden: int = 16
    scale: float = 1e-3
    rate: float = 0.5
    steps: int = 120
    seed: int = 0

    def features(self) -> Floats:
        """(15, 8): one feature per tree node, 1 for the items below it."""
        rows, size = [], self.items
        while size >= 1:
            rows += [
                [float(i // size == k) for i in range(self.items)]
                for k in range(self.items // size)
            ]
            size //= 2
        return np.array(rows)

    def singular_values(self) -> Floats:
        """Of the input-output correlation, which set the times of the modes."""
        return np.asarray(np.linalg.svd(self.features() / self.items, compute_uv=False))

    def start(self) -> tuple[Floats, Floats]:
        rng = np.random.default_rng(self.seed)
        first = rng.standard_normal((self.hidden, self.items)) * self.scale
        return first, rng.standard_normal((len(self.features()), self.hidden)) * self.scale

    def train(self, without: int | None = None) -> list[tuple[Floats, Floats]]:
        """Weights after each of 0…steps, by full-batch gradient descent, an item left out or not."""
        first, second = self.start()
        y = self.features()
        keep = np.array([i for i in range(self.items) if i != without])
        x = np.eye(self.items)[:, keep]
        out = [(first, second)]
        for _ in range(self.steps):
            error = second @ first @ x - y[:, keep]
            g2, g1 = error @ (first @ x).T / self.items, second.T @ error @ x.T / self.items
            first, second = first - self.rate * g1, second - self.rate * g2
            out.append((first, second))
        return out

    def losses(self, weights: tuple[Floats, Floats]) -> Floats:
        """½|ŷ − y|² per item."""
        return np.asarray(0.5 * ((weights[1] @ weights[0] - self.features()) ** 2).sum(0))

    def retraining(self, without: int = 0) -> Floats:
        """(steps + 1, items): loss with the item − without it; negative: the item helped, as in
        BIF, whose sign is that of the change of ℓ_j when ℓ_i weighs more."""
        full, less = self.train(), self.train(without)
        return np.array([self.losses(a) - self.losses(b) for a, b in zip(full, less, strict=True)])

    def bif(
        self, weights: tuple[Floats, Floats], sampler: Sampler, rng: np.random.Generator
    ) -> Influence:
        """Influence between items at one point of training."""
        first, second = weights
        y, cut = self.features(), first.size
        w = np.concatenate([first.ravel(), second.ravel()])

        def split(at: Floats) -> tuple[Floats, Floats]:
            return (at[:, :cut].reshape(-1, *first.shape), at[:, cut:].reshape(-1, *second.shape))

        def gradient(at: Floats) -> Floats:
            a, b = split(at)
            error = (b @ a - y) / self.items
            parts = (np.swapaxes(b, 1, 2) @ error, error @ np.swapaxes(a, 1, 2))
            return np.concatenate([p.reshape(len(at), -1) for p in parts], 1)

        def losses(at: Floats) -> Floats:
            a, b = split(at)
            return np.asarray(0.5 * ((b @ a - y) ** 2).sum(1))

        return influence(sample(w, gradient, losses, sampler, rng))


# -- language models over training ----------------------------------------------------------------


def class_influence(model: Any, ids: Any, masks: Any, sampler: Sampler, seed: int) -> Influence:
    """BIF between classes of tokens of a causal language model, around its present weights.

    `ids` (B, T + 1) with the first column BOS; each mask (B, T) picks a class's tokens. The weights
    are put back afterwards.
    """
    import torch
    from torch.nn import functional

    parameters = [p for p in model.parameters() if p.requires_grad]
    home = [p.detach().clone() for p in parameters]
    generator = torch.Generator(device=home[0].device).manual_seed(seed % 2**63)
    picks = [torch.as_tensor(m, device=home[0].device) for m in masks]
    rows = torch.as_tensor(ids, device=home[0].device)
    drawn = np.zeros((sampler.chains, sampler.draws, len(masks)))
    for chain in range(sampler.chains):
        _put(parameters, home)
        for step in range(sampler.burn + sampler.draws):
            logits = model(rows[:, :-1]).logits.float()
            loss = functional.cross_entropy(logits.transpose(1, 2), rows[:, 1:], reduction="none")
            if step >= sampler.burn:
                drawn[chain, step - sampler.burn] = [float(loss[m].mean().detach()) for m in picks]
            gradients = torch.autograd.grad(loss.mean(), parameters)
            with torch.no_grad():
                for p, g, w in zip(parameters, gradients, home, strict=True):
                    noise = torch.randn(p.shape, generator=generator, device=p.device)
                    drift = sampler.n_beta * g + sampler.gamma * (p - w)
                    p.add_(-sampler.epsilon / 2 * drift + sampler.epsilon**0.5 * noise)
    _put(parameters, home)
    return influence(drawn)


def _put(parameters: Sequence[Any], values: Sequence[Any]) -> None:
    import torch

    with torch.no_grad():
        for p, v in zip(parameters, values, strict=True):
            p.copy_(v)
