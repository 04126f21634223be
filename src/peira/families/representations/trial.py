"""How one trial runs: load, draw, forward in blocks, checkpoint each block, sum up.

Invariant: a context is finished only when all its arms are; finished contexts are in run.db before
the next block starts, and a trial that goes on adds contexts and never redoes one.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from peira.engine.lab import Lab
from peira.errors import InputError
from peira.families.representations import graphs, loading
from peira.families.representations.catalogue import Entry
from peira.families.representations.contexts import (
    Arm,
    Batch,
    Context,
    Plan,
    Run,
    batch_of,
    draw_context,
)
from peira.families.representations.fields import BLOCKS, TOKENS, pack, unpack
from peira.families.representations.memory import LEAST, default_batch_tokens
from peira.families.representations.reducers import Moments, span
from peira.families.representations.settings import RepresentationSettings
from peira.families.representations.simulated import MixerLLM
from peira.families.representations.walks import Walk
from peira.families.representations.watching import Meter, Progress
from peira.families.representations.words import Vocabulary, all_words, groups, need, unstable
from peira.study.seeds import derive, generator

if TYPE_CHECKING:
    from peira.families.representations.experiments.base import Experiment

log = logging.getLogger("peira.representations")
REDRAWS = 100


@dataclass(eq=False)
class Spec:
    """A trial, resolved: everything an experiment needs."""

    settings: RepresentationSettings
    entry: Entry
    seed: int
    model: Any
    structure: graphs.Structure
    vocabulary: Vocabulary
    walk: Walk
    lengths: tuple[int, ...]
    layers: tuple[int | str, ...]
    window: int | None
    null: tuple[str, ...]
    tokens: int = 0
    dropped: set[str] = field(default_factory=set)
    halvings: int = 0

    @property
    def names(self) -> list[str]:
        """Activation names of the layers."""
        return [self.model.layer_name(layer) for layer in self.layers]

    @property
    def keys(self) -> list[str]:
        """Keys of the layers in results.json."""
        return [f"layer_{layer}" for layer in self.layers]

    @property
    def length(self) -> int:
        return self.lengths[-1]

    @property
    def condition(self) -> str:
        return self.settings.condition or self.entry.conditions[0]

    @property
    def mode(self) -> str:
        return self.settings.mode or (self.entry.modes[0] if self.entry.modes else "")

    @property
    def moments(self) -> Moments:
        return Moments(self.lengths, self.window)

    @property
    def label(self) -> str | None:
        """`simulated`, `tiny`, or None for a language model."""
        if self.model.simulated:
            return "simulated"
        return "tiny" if self.model.tiny else None

    def rng(self, purpose: str) -> np.random.Generator:
        return generator(self.seed, purpose)

    @cached_property
    def twin(self) -> Any:
        """The untrained twin, made once per trial."""
        return self.model.twin(derive(self.seed, "twin"))

    def draw(self, index: int) -> Context:
        """Context `index`, redrawn without the words whose ids do not survive decoding and encoding:
        the same whatever was drawn before it."""
        plan = Plan(self.seed, self.structure, self.vocabulary, self.walk, self.length,
                    self.settings.assignment, self.condition)  # fmt: skip
        if self.settings.graphs == "per_context":
            plan = replace(plan, structure=self.graph_of(index))
        for _ in range(REDRAWS):
            context = draw_context(plan, index)
            bad = self._offenders(context)
            if not bad:
                return context
            self.dropped |= bad
            plan = replace(plan, vocabulary=plan.vocabulary.without(sorted(bad)))
        raise InputError("vocabulary: contexts do not survive decoding and encoding\n"
                         "  remedy: --vocabulary random, or another model")  # fmt: skip

    def graph_of(self, index: int) -> graphs.Structure:
        """The graph of context `index` under `graphs: per_context`."""
        seed = derive(self.seed, "graph", index)
        own = graphs.draw(graph_spec(self.settings), seed, self.settings.branching)
        return replace(own, walk=self.walk)

    def _offenders(self, context: Context) -> set[str]:
        if self.model.tokenizer is None:
            return set()
        broken = set(unstable([int(i) for i in context.natural.ids], self.model.tokenizer))
        pairs = zip(context.words, context.node_ids, strict=True)
        return {word for word, i in pairs if int(i) in broken}


def graph_spec(settings: RepresentationSettings) -> str:
    """The `--graph` value of a trial: given, the condition where that is a graph, or the default."""
    entry = settings.entry
    if settings.graph:
        return settings.graph
    if entry.open_conditions and settings.condition:
        return "ring:7" if settings.condition == "days" else settings.condition
    return entry.graph


def resolve(settings: RepresentationSettings, seed: int, simulated: str | None = None) -> Spec:
    """Load the model and fix every default. `simulated` is the name of a simulated model."""
    entry = settings.entry
    _check_checkpoints(settings.checkpoints)
    below = twin_below(settings)
    model = MixerLLM(simulated) if simulated else loading.cached(
        settings.model or loading.default_model(), settings.dtype, settings.device, settings.bos,
        settings.batch_tokens, below,
    )  # fmt: skip
    if settings.steer and model.simulated:
        raise InputError(
            "--steer: a simulated model has nothing to steer\n  remedy: a real --model"
        )
    structure = _structure(settings, seed)
    vocabulary = model.vocabulary(settings.vocabulary)
    need(len(vocabulary.nouns()), structure.num_nodes, vocabulary.source)
    seen = model.trained_length if entry.name == "park" else None  # where the model says so
    lengths = settings.lengths or tuple(n for n in entry.lengths if seen is None or n <= seen)
    window = entry.window if settings.window is None else (settings.window or None)
    left_out = {"none"} if model.num_parameters < below else {"none", "untrained"}
    null = tuple(n for n in settings.null or entry.null if n not in left_out)
    return Spec(
        settings, entry, seed, model, structure, vocabulary, structure.walk, lengths,
        resolve_layers(settings.layers or entry.layers, model.num_layers), window, null,
    )  # fmt: skip


SMALL = 1_000_000_000  # parameters below which an experiment that has a twin by default makes it


def twin_below(settings: RepresentationSettings) -> float:
    """With fewer parameters than this the trial needs an untrained twin of its model."""
    if "untrained" not in (settings.null or settings.entry.null):
        return 0
    return math.inf if settings.null else SMALL


def _check_checkpoints(folders: Sequence[str]) -> None:
    """InputError for a `--checkpoints` folder that holds no model, before anything is run."""
    for folder in folders:
        if not (Path(folder) / "config.json").is_file():
            raise InputError(f"--checkpoints: {folder}: no model there (no config.json)\n"
                             "  allowed: folders in Hugging Face form")  # fmt: skip


def _structure(settings: RepresentationSettings, seed: int) -> graphs.Structure:
    spec = graph_spec(settings)
    if spec == "crossed":
        structure = graphs.crossed()[0]
    else:
        need(len(all_words()), graphs.node_count(spec, settings.branching), "the packaged words")
        structure = graphs.draw(spec, seed, settings.branching)
    walk = Walk.parse(settings.walk) if settings.walk else Walk()
    extra = dict(structure.extra)
    if settings.condition == "days":
        extra["words"] = groups()["days"]
    return replace(structure, walk=walk, extra=extra)


def resolve_layers(asked: Sequence[int | str] | None, count: int) -> tuple[int | str, ...]:
    """Layers as non-negative numbers; InputError naming one that is out of range."""
    if asked is None:
        return tuple(range(count))
    out: list[int | str] = []
    for layer in asked:
        if isinstance(layer, str):
            out.append(layer)
            continue
        if not -count <= layer < count:
            raise InputError(f"--layers: {layer}: out of range\n"
                             f"  allowed: 0 to {count - 1}, negative from the end, emb")  # fmt: skip
        out.append(layer % count)
    return tuple(dict.fromkeys(out))


# -- blocks of contexts ---------------------------------------------------------------------------


async def contexts(spec: Spec, work: Experiment, lab: Lab, meter: Meter) -> list[dict[str, Any]]:
    """The record of every context in order, restored or measured."""
    done = restored(lab)
    todo = [i for i in range(spec.settings.n_contexts) if i not in done]
    progress = Progress(lab.slug, spec.settings.n_contexts, len(done))
    await lab.checkpoint("layers", list(spec.layers))
    while todo:
        await asyncio.sleep(0)  # another trial's turn: nothing is awaited between room and meter
        room = meter.room(spec.settings.token_budget)
        block = next_block(todo, block_size(spec))[: int(max(1, min(room // costs(spec), 1e9)))]
        todo = todo[len(block) :]
        before = spec.tokens
        found = dict(zip(block, _measured(spec, work, block), strict=True))
        used, number = spec.tokens - before, f"{block[0]:06d}"
        meter.tokens += used
        await lab.checkpoint(f"{TOKENS}/{number}", str(used))  # without its block it does not count
        await lab.checkpoint(f"{BLOCKS}{number}", pack(found))
        done |= found
        progress.tick(len(done), spec.tokens)
        lab.progress(f"{len(done)} of {spec.settings.n_contexts} contexts")
    return [done[i] for i in range(spec.settings.n_contexts)]


def costs(spec: Spec) -> int:
    """Tokens of a context, roughly."""
    return spec.length * spec.entry.rows(spec.length)


def restored(lab: Lab) -> dict[int, dict[str, Any]]:
    """Records that earlier attempts of this trial finished, by context."""
    found: dict[int, dict[str, Any]] = {}
    for name in lab.restored_names():
        if name.startswith(BLOCKS):
            found |= unpack(lab.restored(name) or b"")
    return found


def spent(lab: Lab) -> int:
    """Tokens that earlier attempts of this trial forwarded for the records that are restored."""
    blocks = [name.removeprefix(BLOCKS) for name in lab.restored_names() if name.startswith(BLOCKS)]
    kept = (TOKENS, *(f"{TOKENS}/{number}" for number in blocks))
    return sum(int(lab.restored(name) or b"0") for name in kept)


def block_size(spec: Spec) -> int:
    """Contexts per block: `--batch-size`, or what `--batch-tokens` holds, never more than 32."""
    if spec.settings.batch_size is not None:
        return spec.settings.batch_size
    return max(1, min(32, batch_tokens(spec) // costs(spec)))


def batch_tokens(spec: Spec) -> int:
    """Padded tokens in flight, after the halvings that lack of memory forced."""
    tokens = spec.settings.batch_tokens or default_batch_tokens(str(spec.model.device))
    return max(LEAST, tokens >> spec.halvings)


def next_block(todo: Sequence[int], size: int) -> list[int]:
    """The first contexts to do, on a fixed grid of numbers, so that a resumed run batches alike."""
    return [i for i in todo[:size] if i // size == todo[0] // size]


def _measured(spec: Spec, work: Experiment, block: list[int]) -> list[dict[str, Any]]:
    """Records of a block; out of memory halves the batch and tries again, recorded."""
    drawn = [work.draw(spec, i) for i in block]
    while True:
        try:
            return work.measure(spec, drawn)
        except RuntimeError as error:
            if "out of memory" not in str(error).lower() or batch_tokens(spec) <= LEAST:
                raise
            spec.halvings += 1
            log.warning("out of memory: batches halved to %d tokens", batch_tokens(spec))


# -- forwards -------------------------------------------------------------------------------------


def forward(
    spec: Spec, pairs: Sequence[tuple[Context, Arm]], reducer: Any, model: Any = None
) -> list[dict[str, Any]]:
    """Run (context, arm) rows in batches of equal length; per row its reduced activations by name
    (`reduced`), `losses`, `mass`, `nodes`."""
    out: list[dict[str, Any]] = [{} for _ in pairs]
    for rows in _batches(pairs, batch_tokens(spec)):
        batch = batch_of([pairs[i] for i in rows])
        found = (model or spec.model).run(batch, spec.names, reducer)
        spec.tokens += int(batch.ids.size)
        for i, row in zip(rows, rows_of(found, batch), strict=True):
            out[i] = row
    return out


def rows_of(found: Run, batch: Batch) -> list[dict[str, Any]]:
    """A forward's results by row, cut to the row's own length."""
    return [
        {"reduced": {name: _of_row(value, k) for name, value in found.reduced.items()},
         "losses": found.losses[k, :size], "mass": found.node_probabilities[k, :size],
         "nodes": found.labels[k, :size]}
        for k, size in enumerate(batch.lengths)
    ]  # fmt: skip


def _of_row(value: Any, k: int) -> Any:
    return {key: part[k] for key, part in value.items()} if isinstance(value, Mapping) else value[k]


def _batches(pairs: Sequence[tuple[Context, Arm]], tokens: int) -> Iterator[list[int]]:
    """Rows of equal length together, at most `tokens` tokens at a time."""
    by_length: dict[int, list[int]] = {}
    for i, (_, arm) in enumerate(pairs):
        by_length.setdefault(arm.length, []).append(i)
    for length, rows in by_length.items():
        size = max(1, tokens // length)
        yield from (rows[k : k + size] for k in range(0, len(rows), size))


def record_arms(
    spec: Spec, drawn: Sequence[Context], arms: Callable[[Context], Mapping[str, Arm]],
    model: Any = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """One record per context with the moments and predictions of each arm."""
    named = [(c, name, arm) for c in drawn for name, arm in arms(c).items()]
    rows = forward(spec, [(c, arm) for c, _, arm in named], spec.moments, model)
    records: dict[int, dict[str, Any]] = {c.index: {} for c in drawn}
    for (context, name, _), row in zip(named, rows, strict=True):
        records[context.index] |= arm_record(spec, name, row)
    return [records[c.index] for c in drawn]


def arm_record(spec: Spec, name: str, row: dict[str, Any]) -> dict[str, Any]:
    """The flat record of one arm."""
    moments = [row["reduced"][key] for key in spec.names]
    sinks = sorted({(t, round(r, 1)) for m in moments for t, r in m["sinks"]})
    nodes, size = row["nodes"], row["mass"].shape[1]
    seen = np.stack([_counts(nodes, *span(n, spec.window), size) for n in spec.lengths])
    return {
        f"{name}/gram": np.stack([m["gram"] for m in moments]),
        f"{name}/bare": np.stack([m["gram_without_sinks"] for m in moments]),
        f"{name}/wide": np.stack([m["wide"] for m in moments]),
        f"{name}/wide_visits": _counts(nodes, *spec.moments.wide, size),
        f"{name}/scatter": np.stack([m["scatter"] for m in moments]),
        f"{name}/finite": np.array([m["finite"] for m in moments]),
        f"{name}/sinks": np.array(sinks, dtype=np.float32).reshape(-1, 2),
        f"{name}/visits": seen, f"{name}/losses": row["losses"], f"{name}/mass": row["mass"],
        f"{name}/nodes": nodes,
    }  # fmt: skip


def _counts(nodes: Any, start: int, stop: int, size: int) -> Any:
    part = nodes[start:stop]
    return np.bincount(part[part >= 0], minlength=size)
