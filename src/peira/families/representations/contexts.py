"""Contexts and their arms: token ids with the node each token stands for.

Invariant: a context is drawn from (seed, index, purpose) alone, so context c is the same whatever
the number of contexts, the batch, the device or the model; `node_of[t]` belongs to token t.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from peira.families.representations.graphs import Structure, conflict_words
from peira.families.representations.walks import Walk, draw_walk
from peira.families.representations.words import Vocabulary, need
from peira.study.seeds import derive, generator

Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, eq=False)
class Arm:
    """One token sequence of a context. `node_of` is −1 for tokens that enter no mean.

    The rest but `barred` is what a simulated model may see: `graph_of[t]`, which of the context's graphs holds
    at t; `truth` ±1 with `decided`, the first token that tells the hypotheses apart.
    """

    name: str
    ids: Ints
    node_of: Ints
    graph_of: Ints | None = None
    truth: float = 0.0
    decided: int | None = None
    barred: int | None = None  # later tokens may not attend to this one

    @property
    def length(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Context:
    """One walk with its own words. `node_ids` (n,) are the nodes' token ids."""

    index: int
    seed: int
    words: tuple[str, ...]
    node_ids: Ints
    nodes: Ints
    structure: Structure
    arms: Mapping[str, Arm] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def graphs(self) -> tuple[Any, ...]:
        """Adjacency matrices (n, n) a walk may follow: the graph's, and the second one's if any."""
        second = self.structure.extra.get("second")
        own = self.structure.adjacency
        return (own,) if second is None else (own, second)

    @property
    def natural(self) -> Arm:
        return self.arms["natural"]

    def rng(self, purpose: str) -> np.random.Generator:
        """A stream of this context's own."""
        return generator(self.seed, purpose)

    def arm(self, name: str, nodes: Sequence[int] | Ints, **fields: Any) -> Arm:
        """An arm that walks `nodes` in this context's words."""
        at = np.asarray(nodes, dtype=np.int64)
        return Arm(name, self.node_ids[at], at, **fields)

    def with_arms(self, *arms: Arm, **notes: Any) -> Context:
        """The same context with further arms (later ones replace earlier ones of a name)."""
        named = {arm.name: arm for arm in arms}
        return replace(self, arms={**self.arms, **named}, notes={**self.notes, **notes})


@dataclass(frozen=True)
class Plan:
    """What a context is drawn from besides its index."""

    seed: int
    structure: Structure
    vocabulary: Vocabulary
    walk: Walk
    length: int
    assignment: str = "random"  # or "sorted", "semantic"
    condition: str = ""


def draw_words(plan: Plan, rng: np.random.Generator) -> list[str]:
    """A word for each node, by the rule of the graph and the assignment."""
    structure, n = plan.structure, plan.structure.num_nodes
    if "groups" in structure.extra and plan.condition != "unrelated":
        return conflict_words(structure, plan.vocabulary.groups, rng)
    fixed = structure.extra.get("words")
    if fixed is not None:
        return [fixed[i] for i in rng.permutation(n)]
    if plan.assignment == "sorted":
        pool = plan.vocabulary.nouns()
        need(len(pool), n, plan.vocabulary.source)
        return list(pool[:n])
    if plan.assignment == "semantic":
        return _by_group(plan, rng)
    return plan.vocabulary.draw(n, rng)


def _by_group(plan: Plan, rng: np.random.Generator) -> list[str]:
    """Each cluster takes words of one semantic group."""
    labels = plan.structure.clusters
    sizes = np.bincount(labels)
    able = [m for m in plan.vocabulary.groups.values() if len(m) >= sizes.max()]
    need(len(able), len(sizes), "the vocabulary's semantic groups")
    chosen = [list(rng.permutation(np.array(able[i]))) for i in rng.permutation(len(able))]
    return [str(chosen[label].pop()) for label in labels]


def draw_context(plan: Plan, index: int) -> Context:
    """Context `index`: its words, its walk, and the natural arm."""
    seed = derive(plan.seed, "context", index)
    words = draw_words(plan, generator(seed, "words"))
    ids = np.array([plan.vocabulary.id_of(word) for word in words], dtype=np.int64)
    structure = plan.structure
    law = structure.steps(plan.walk)
    nodes = draw_walk(structure.adjacency, law, plan.walk, plan.length, generator(seed, "walk"))
    at = np.asarray(nodes, dtype=np.int64)
    context = Context(index, seed, tuple(words), ids, at, structure)
    return context.with_arms(context.arm("natural", at))


def shuffled(context: Context, of: str = "natural") -> Arm:
    """The same tokens in random order: what order alone contributes is gone."""
    source = context.arms[of]
    order = context.rng("shuffle").permutation(source.length)
    return Arm("shuffled", source.ids[order], source.node_of[order])


@dataclass(frozen=True, eq=False)
class Batch:
    """Arms of possibly different contexts, right-padded. Row b is arm b of context b.

    `labels` (B, T): node whose mean the token enters, −1 for none.
    """

    arms: tuple[Arm, ...]
    contexts: tuple[Context, ...]
    ids: Ints
    labels: Ints
    lengths: Ints

    @property
    def node_ids(self) -> Ints:
        return np.stack([context.node_ids for context in self.contexts])

    @property
    def nodes(self) -> int:
        return len(self.contexts[0].node_ids)


@dataclass(frozen=True, eq=False)
class Run:
    """What one forward pass of a batch leaves.

    `reduced` by activation name; `losses` (B, T), NaN where there is no prediction of the token;
    `node_probabilities` (B, T, n), the prediction made at t; `labels` (B, T) as used."""

    reduced: dict[str, Any]
    losses: Any
    node_probabilities: Any
    labels: Any


def batch_of(pairs: Sequence[tuple[Context, Arm]]) -> Batch:
    """A batch of (context, arm) rows. Pads with id 0, which causal attention never sees."""
    lengths = np.array([arm.length for _, arm in pairs])
    ids = np.zeros((len(pairs), lengths.max()), dtype=np.int64)
    labels = np.full_like(ids, -1)
    for row, (_, arm) in enumerate(pairs):
        ids[row, : arm.length] = arm.ids
        labels[row, : arm.length] = arm.node_of
    arms, contexts = tuple(a for _, a in pairs), tuple(c for c, _ in pairs)
    return Batch(arms, contexts, ids, labels, lengths)
