"""`sim:mixer`: a model whose layers mix each token with the one before it, and nothing else.

It has the face of `HookedLLM` and needs numpy only. Planted truths: mixing (α, σ), mass that grows
with context (`half`), a context factor behind loss and geometry (`css`), a hypothesis component
with a latency (`latency`, `commit`), an attention sink, overflow. Invariant: what it computes for a
row depends on that row's context seed, arm and tokens alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from peira.families.representations.contexts import Arm, Batch, Context, Run
from peira.families.representations.words import Vocabulary, vocabulary
from peira.study.seeds import generator
from peira.subjects.simulated import SimSpec, parse_sim
from peira.subjects.subject import Request

LOSS_NOISE = 0.1  # SD of a token's loss about its law, so that losses vary between contexts
CSS_TOKENS = slice(10, 20)
SIDE = 4.0  # norm of a word's hypothesis component, well above what mixing says of the hypotheses


@dataclass(frozen=True)
class Dials:
    """The options of `sim:mixer`."""

    alpha: float = 1.0
    sigma: float = 0.0
    half: float = 20.0
    css: float = 0.0
    latency: float = 4.0
    commit: float = 0.0
    sink: float = 0.0
    overflow: float = 0.0
    d: int = 512
    layers: int = 4

    @classmethod
    def of(cls, spec: SimSpec) -> Dials:
        spec.only(*(f.name for f in fields(cls)))
        given = {f.name: spec.number(f.name, f.default) for f in fields(cls)}  # type: ignore[arg-type]
        return cls(**given | {name: int(given[name]) for name in ("d", "layers")})  # type: ignore[arg-type]


class Placeholder:
    """The mixer holds no conversation: as a subject it only says what it is."""

    def answer(self, request: Request) -> str:
        return "sim:mixer is an activation source, not a speaker"


class MixerLLM:
    """The simulated model. `layer_names` and `run` as `HookedLLM`."""

    simulated = True
    tiny = False
    tokenizer = None
    revision = None
    device = "numpy"
    dtype = "float32"
    bos = False
    trained_length = None
    num_parameters = 0

    def __init__(self, name: str = "sim:mixer") -> None:
        self.name = name
        self.dials = Dials.of(parse_sim(name))
        self.noise = "noise"

    @property
    def num_layers(self) -> int:
        return self.dials.layers

    @property
    def hidden_size(self) -> int:
        return self.dials.d

    def twin(self, seed: int) -> MixerLLM:
        """The same model without mixing, and with noise of its own."""
        other = MixerLLM(self.name)
        other.dials = replace(self.dials, alpha=0.0)
        other.noise = f"noise of twin {seed}"
        return other

    def vocabulary(self, source: str) -> Vocabulary:
        """Every packaged word is one token here."""
        return vocabulary(source, None)

    def layer_name(self, layer: int | str) -> str:
        return "embed" if layer == "emb" else f"blocks.{layer}.resid_post"

    def run(
        self, batch: Batch, names: Sequence[str], reducer: Callable[[str, Any, Batch], Any]
    ) -> Run:
        """Reduced activations by name, losses (B, T) and node probabilities (B, T, n)."""
        rows = list(zip(batch.contexts, batch.arms, strict=True))
        base = [self._parts(context, arm) for context, arm in rows]
        labelled = replace(batch, labels=_without_first(batch.labels))
        reduced = {}
        for name in names:
            h = np.zeros((*batch.ids.shape, self.dials.d), dtype=np.float32)
            for row, (context, arm) in enumerate(rows):
                h[row, : arm.length] = self._layer(name, context, arm, base[row])
            reduced[name] = reducer(name, h, labelled)
        losses, probabilities = self._predictions(batch)
        return Run(reduced, losses, probabilities, labelled.labels)

    # -- activations ------------------------------------------------------------------------
    def _parts(self, context: Context, arm: Arm) -> dict[str, Any]:
        """Word vectors by token, and the hypothesis component, of one row."""
        d = self.dials.d
        ids, where = np.unique(arm.ids, return_inverse=True)
        table = np.stack([_unit(generator(context.seed, "word", int(i)), d) for i in ids])
        parts: dict[str, Any] = {"own": table[where]}
        if arm.decided is not None:
            side = np.stack([_unit(generator(context.seed, "side", int(i)), d) for i in ids])
            parts["side"] = SIDE * side[where] * self._commitment(context, arm)[:, None]
        return parts

    def _commitment(self, context: Context, arm: Arm) -> Any:
        """±½ towards a hypothesis, per token."""
        t = np.arange(arm.length)
        assert arm.decided is not None
        if arm.decided == 0:
            return np.full(arm.length, 0.5 * arm.truth)
        start = 0.0
        if self.dials.commit:
            drawn = generator(context.seed, arm.name, "commit").choice([-0.5, 0.5])
            start = self.dials.commit * drawn
        lag = np.clip(t - arm.decided + 1, 0, None)
        rest = 0.5 ** (lag / self.dials.latency)
        return rest * start + (1 - rest) * 0.5 * arm.truth

    def _layer(self, name: str, context: Context, arm: Arm, parts: dict[str, Any]) -> Any:
        depth = 0.0 if name == "embed" else _depth(name) / max(self.dials.layers - 1, 1)
        own = parts["own"]
        before = np.concatenate([np.zeros_like(own[:1]), own[:-1]])
        if arm.barred is not None:
            before[arm.barred + 1 : arm.barred + 2] = 0.0
        alpha = self.dials.alpha * float(np.exp(self._factor(context) / 2))
        h = own + alpha * depth * before
        if "side" in parts:
            h = h + depth * parts["side"]
        if self.dials.sigma:
            rng = generator(context.seed, arm.name, name, self.noise)
            noise = rng.standard_normal(own.shape)
            h = h + self.dials.sigma * noise / np.linalg.norm(noise, axis=1, keepdims=True)
        if self.dials.sink:
            h[0] = self.dials.sink * _unit(generator("sink"), self.dials.d)
        if depth and self._overflows(context):
            h[1:] = np.inf
        return h

    def _factor(self, context: Context) -> float:
        """What stands behind loss and geometry of a context; 0 where nothing is planted."""
        drawn = float(generator(context.seed, "factor").standard_normal())
        return drawn if self.dials.css else 0.0

    def _overflows(self, context: Context) -> bool:
        return bool(generator(context.seed, "overflow").random() < self.dials.overflow)

    # -- predictions ------------------------------------------------------------------------
    def _predictions(self, batch: Batch) -> tuple[Any, Any]:
        rows = [self._row(c, arm) for c, arm in zip(batch.contexts, batch.arms, strict=True)]
        width = batch.ids.shape[1]
        losses = np.full((len(rows), width), np.nan, dtype=np.float32)
        probabilities = np.zeros((len(rows), width, batch.nodes), dtype=np.float32)
        for row, (loss, mass) in enumerate(rows):
            losses[row, : len(loss)], probabilities[row, : len(mass)] = loss, mass
        return losses, probabilities

    def _row(self, context: Context, arm: Arm) -> tuple[Any, Any]:
        """Losses (T,) and node probabilities (T, n): neighbours share mass t/(t+half)."""
        size, words = len(context.node_ids), 467.0
        t = np.arange(arm.length)
        mass = t / (t + self.dials.half)
        graph_of = np.zeros(arm.length, dtype=int) if arm.graph_of is None else arm.graph_of
        nodes = np.where(arm.node_of >= 0, arm.node_of, 0)
        near = np.stack(context.graphs)[np.minimum(graph_of, len(context.graphs) - 1), nodes]
        near = near * (arm.node_of >= 0)[:, None]
        degree = near.sum(1, keepdims=True)
        spread = np.full((arm.length, size), 1.0 / words) * (1 - mass)[:, None]
        law = np.where(degree > 0, near / np.maximum(degree, 1), 1.0 / words)
        probabilities = spread + mass[:, None] * law
        return self._losses(context, arm, probabilities, words), probabilities

    def _losses(self, context: Context, arm: Arm, probabilities: Any, words: float) -> Any:
        node = np.array([{int(i): k for k, i in enumerate(context.node_ids)}.get(int(i), -1)
                         for i in arm.ids[1:]])  # fmt: skip
        given = probabilities[np.arange(arm.length - 1), node]
        told = np.concatenate([[1.0 / words], np.where(node >= 0, given, 1.0 / words)])
        noise = generator(context.seed, arm.name, "loss").standard_normal(arm.length)
        losses = -np.log(np.clip(told, 1e-6, 1)) + LOSS_NOISE * noise
        losses[CSS_TOKENS] -= self.dials.css * self._factor(context)
        losses[0] = np.nan
        return losses


def _without_first(labels: Any) -> Any:
    """Labels with sequence position 0 in no mean (there is no BOS here)."""
    out = labels.copy()
    out[:, 0] = -1
    return out


def _depth(name: str) -> int:
    return int(name.split(".")[1])


def _unit(rng: np.random.Generator, d: int) -> Any:
    vector = rng.standard_normal(d)
    return vector / np.linalg.norm(vector)
