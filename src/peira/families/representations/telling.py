"""What is told of a finished trial: its summary as JSON, what reproducing needs, its activations."""

from __future__ import annotations

import io
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from peira.errors import InputError
from peira.families.representations import tiny
from peira.families.representations.reducers import NodeMeans, Vectors
from peira.families.representations.summary import plain
from peira.families.representations.trial import Spec, forward
from peira.store.manifest import versions

COMPUTING = ("peira", "numpy", "torch", "transformers")


def describe(spec: Spec, began: float) -> dict[str, Any]:
    """What reproducing needs of the model and the data."""
    vocabulary, model = spec.vocabulary, spec.model
    return {
        "model": model.name, "revision": model.revision, "dtype": model.dtype,
        "device": str(model.device), "tiny": tiny.NAME if model.tiny else None,
        "layers_of_model": model.num_layers, "hidden_size": model.hidden_size, "bos": model.bos,
        "vocabulary": vocabulary.source, "words": len(vocabulary.words),
        "dropped_words": sorted({*vocabulary.dropped, *spec.dropped})[:200],
        "tokens_forwarded": spec.tokens, "batch_halvings": spec.halvings,
        "seconds": round(time.perf_counter() - began, 3),
    }  # fmt: skip


def with_structures(spec: Spec, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records with their own graph, where each context has one."""
    if spec.settings.graphs != "per_context":
        return list(records)
    return [{**record, "structure": spec.graph_of(i)} for i, record in enumerate(records)]


def told(spec: Spec, summary: Any, began: float) -> dict[str, Any]:
    """A trial's summary as strict JSON."""
    config = {
        "model": spec.model.name, "n_contexts": spec.settings.n_contexts,
        **spec.settings.model_dump(mode="json", exclude={"model", "n_contexts", "experiment"}),
    }  # fmt: skip
    data: dict[str, Any] = plain({
        "experiment": spec.entry.name, "question": spec.entry.question,
        "condition": spec.condition, "model": spec.model.name, "label": spec.label,
        "n_contexts": spec.settings.n_contexts, "layers": list(spec.layers),
        "lengths": list(spec.lengths), "window": spec.window, "graph": spec.structure.name,
        "walk": f"{spec.walk.kind}:{spec.walk.stay}" if spec.walk.stay else spec.walk.kind,
        "null": list(spec.null), "config": config, "answer": summary.answer,
        "results": summary.results, "findings": [f.to_dict() for f in summary.findings],
        "diagnostics": summary.diagnostics, "reasons": summary.reasons, "curves": summary.curves,
        "details": describe(spec, began), "versions": dict.fromkeys(COMPUTING) | versions(COMPUTING),
    })  # fmt: skip
    return data


def announce_activations(spec: Spec) -> None:
    """Say what `--save-activations` will take; more than the free disk is refused beforehand."""
    size = spec.settings.n_contexts * len(spec.layers) * _kept(spec) * spec.model.hidden_size * 4
    free = shutil.disk_usage(".").free
    sys.stderr.write(f"activations: {size / 1e6:,.1f} MB into raw_data/activations.npz\n")
    if size > 0.8 * free:
        raise InputError(f"--save-activations: {size / 1e9:.1f} GB, {free / 1e9:.1f} GB free\n"
                         "  remedy: fewer --layers or contexts, or `means`")  # fmt: skip


def _kept(spec: Spec) -> int:
    """Vectors kept per context and layer."""
    tokens = spec.settings.save_activations == "tokens"
    return spec.length if tokens else spec.structure.num_nodes


def activations(spec: Spec) -> bytes:
    """Node means (`means`) or every token's activation (`tokens`) of the natural arms, as npz."""
    reducer = Vectors() if spec.settings.save_activations == "tokens" else NodeMeans()
    count, size = spec.settings.n_contexts, (_kept(spec), spec.model.hidden_size)
    kept = {name: np.empty((count, *size), np.float32) for name in spec.names}
    nodes = np.empty((count, spec.length), np.int64)
    for i in range(count):
        context = spec.draw(i)
        (row,) = forward(spec, [(context, context.natural)], reducer)
        nodes[i] = row["nodes"]
        for name, array in kept.items():
            array[i] = row["reduced"][name]
    out = io.BytesIO()
    named = dict(zip(spec.keys, kept.values(), strict=True))
    np.savez(out, allow_pickle=False, nodes=nodes, **named)
    return out.getvalue()
