"""Speed of the representations family: ratios, same model, same run.

    python benchmarks/bench_representations.py [--layers 12] [--naive-layers 1]

1. Leave-one-out over all layers and the guide's 14 lengths, one context, against the naive loops.
   The full loop (two forwards per length, position and layer) repeats the one per length and position
   once per layer, so its time is measured on `--naive-layers` layers and scaled.
2. What reducing all layers costs over a bare forward, on a 12-layer, 768-wide model.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from peira.families.representations.contexts import Arm, batch_of
from peira.families.representations.experiments import of
from peira.families.representations.influence import Pairs, distances, shape, without_own
from peira.families.representations.models import HookedLLM
from peira.families.representations.reducers import Moments, Vectors
from peira.families.representations.settings import RepresentationSettings
from peira.families.representations.trial import Spec, resolve


def clock(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds and result."""
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def deep_model(layers: int, width: int, words: int = 167) -> Any:
    """A random Llama with the tiny model's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    heads = width // 64
    config = LlamaConfig(
        vocab_size=words, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=512,
        bos_token_id=1, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def naive(spec: Spec, context: Any, layers: list[int]) -> Any:
    """Two forwards per (layer, length, position): with the item and without it."""
    pairs = Pairs.of(spec.structure)
    natural, out = context.natural, np.full((len(layers), len(spec.lengths), spec.length), np.nan)
    for i, layer in enumerate(layers):
        name = spec.model.layer_name(layer)
        for j, n in enumerate(spec.lengths):
            for p in range(1, n):
                arm = Arm("full", natural.ids[:n], natural.node_of[:n])
                less = Arm("less", np.delete(arm.ids, p), np.delete(arm.node_of, p))
                h = spec.model.run(batch_of([(context, arm)]), [name], Vectors()).reduced[name][0]
                _, own, _, seen = without_own(h.astype(float), arm.node_of, pairs.edges.shape[0])
                row = spec.model.run(batch_of([(context, less)]), [name], Moments((n - 1,)))
                gram = row.reduced[name]["gram"][0, 0].astype(float)
                there = shape(distances(gram), seen[p], pairs)["energy"]
                out[i, j, p] = there - shape(own[p], seen[p], pairs)["energy"]
    return out


def leave_one_out(layers: int, naive_layers: int) -> None:
    settings = RepresentationSettings(
        experiment="loo_multilayer", model="peira/tiny-graph-tracer", n_contexts=2
    )
    spec = resolve(settings, 42)
    if layers != spec.model.num_layers:
        made = HookedLLM(deep_model(layers, 128), spec.model.tokenizer, "random")
        spec.model, spec.layers = made, tuple(range(layers))
    context = spec.draw(0)
    from peira.families.representations.experiments.loo import influences

    influences(spec, context)
    ours, found = clock(lambda: influences(spec, context))
    some = list(range(layers))[-naive_layers:]
    theirs, truth = clock(lambda: naive(spec, context, some))
    gap = np.nanmax(np.abs(found["loo/energy_influence"][-naive_layers:] - truth))
    each = theirs / naive_layers
    print(f"leave-one-out, {layers} layers, {len(spec.lengths)} lengths, one context (CPU seconds)")
    print(f"  ours, all layers                        {ours:8.2f}")
    print(
        f"  two forwards per length, position       {each:8.2f}   ratio {each / ours:6.1f}  (bar 3)"
    )
    print(
        f"  the same per layer (scaled)             {each * layers:8.2f}   ratio {each * layers / ours:6.1f}  (bar 50)"
    )
    print(f"  largest difference                      {gap:.1e}  (bar 1e-5)")


def reducing() -> None:
    import torch

    model = HookedLLM(deep_model(12, 768), None, "random", bos="none")
    spec = resolve(
        RepresentationSettings(experiment="hierarchical", model="sim:mixer", n_contexts=2),
        42,
        "sim:mixer",
    )
    contexts = [spec.draw(i) for i in range(4)]
    pairs = []
    for c in contexts:
        ids = c.node_ids % 160 + 2
        pairs.append(
            (type(c)(**{**c.__dict__, "node_ids": ids}), Arm("natural", ids[c.nodes], c.nodes))
        )
    batch, names = batch_of(pairs), [model.layer_name(k) for k in range(12)]
    ids = torch.as_tensor(batch.ids)

    def bare() -> None:
        with torch.inference_mode():
            model.model.base_model(ids, use_cache=False)

    moments = Moments(spec.lengths)

    def keep(name: str, h: Any) -> None:
        moments(name, h.float(), batch)

    def reduced() -> None:
        model._forward(ids, names, keep)

    bare()
    times = [(clock(bare)[0], clock(reduced)[0]) for _ in range(3)]
    plain, full = (min(t[k] for t in times) for k in range(2))
    print(f"reducing 12 layers, width 768, {len(spec.lengths)} lengths: {plain:.2f} s bare, {full:.2f} s reduced,"
          f" + {100 * (full / plain - 1):.0f} % (bar 30 %)")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--naive-layers", type=int, default=1)
    args = parser.parse_args()
    of("loo_multilayer")
    leave_one_out(args.layers, args.naive_layers)
    reducing()


if __name__ == "__main__":
    main()
