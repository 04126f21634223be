"""False findings of the representations family, counted over seeds where there is nothing to find.

    python benchmarks/sims_representations.py [--scale 0.1]

1. Layer 0 of `sim:mixer` (d 4,096, ring 10, walks of 400, 12 contexts) holds no structure: no claim in
   at least 181 of 200 seeds, against shuffled contexts alone and against the twin as well.
2. `css=0` plants no sensitivity: any q < .05, for each Φ, in at most 19 of 200 seeds. Φ = mass is read
   from the predictions that give the last 20 losses, and before those the walk still ties both to the
   degrees of the nodes it dwells at: without any tie is only the mass of another context.
3. Untrained GPT-2-shaped models against shuffled contexts and another untrained twin: at most 3 of 20
   with a claim of structure anywhere.

Prints the table of docs/representations.md; exit code 1 if a row misses its bar. All data are
simulated. About 11 CPU-minutes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from peira.families.representations.experiments.base import Experiment
from peira.families.representations.settings import RepresentationSettings
from peira.families.representations.summary import claims, losses_of, potentials, spec_values
from peira.families.representations.trial import Spec, resolve
from peira.stats.columns import q_values, sensitivity

TWO_NULLS = ("shuffled", "untrained")
Row = tuple[str, int, int]  # what, false findings, most allowed


def records_of(spec: Spec) -> list[dict[str, Any]]:
    experiment, count = Experiment(), spec.settings.n_contexts
    blocks = [range(i, min(i + 8, count)) for i in range(0, count, 8)]
    return [r for b in blocks for r in experiment.measure(spec, [experiment.draw(spec, i) for i in b])]  # fmt: skip


def spec_of(model: str, seed: int, **settings: Any) -> Spec:
    given = RepresentationSettings(experiment="css", model=model, **settings)
    return resolve(given, seed, model if model.startswith("sim:") else None)


def any_claim(spec: Spec) -> tuple[bool, bool]:
    """Is any layer × length cell claimed against shuffled contexts; against the twin as well?"""
    records = records_of(spec)
    arms = {name: spec_values(spec, records, name) for name in ("natural", *TWO_NULLS)}
    one = {name: arms[name] for name in ("natural", "shuffled")}
    return bool(claims(one)[0].any()), bool(claims(arms)[0].any())


def layer_zero(seeds: int) -> Iterator[Row]:
    about: dict[str, Any] = {"graph": "ring:10", "lengths": (400,), "layers": (0,), "n_contexts": 12,
                             "window": 0, "null": TWO_NULLS}  # fmt: skip
    found = [any_claim(spec_of("sim:mixer,d=4096,layers=2,sigma=1", s, **about)) for s in range(seeds)]  # fmt: skip
    for k, wording in enumerate(("order-dependent", "structure")):
        yield f"layer 0 of sim:mixer: a claim of {wording}", sum(f[k] for f in found), 19


def no_sensitivity(seeds: int) -> Iterator[Row]:
    hits: Counter[str] = Counter()
    for seed in range(seeds):
        spec = spec_of("sim:mixer,css=0,d=256", seed, n_contexts=24)
        records = records_of(spec)
        losses = losses_of(records, spec.length)
        for kind, phi in potentials(spec_values(spec, records, "natural")).items():
            other = np.roll(phi, 1, 0) if kind == "mass" else phi
            hits[kind] += bool((q_values(sensitivity(losses, other).p) < 0.05).any())
    for kind, what in (
        ("separation", "F"),
        ("structure", "1 − R"),
        ("mass", "another context's mass"),
    ):
        yield f"sim:mixer,css=0, Φ = {what}: any q < .05", hits[kind], 19


def untrained(seeds: int) -> Iterator[Row]:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from peira.families.representations import tiny
    from peira.families.representations.models import HookedLLM

    config = GPT2Config(vocab_size=167, n_embd=96, n_layer=6, n_head=4, n_positions=256,
                        bos_token_id=1, eos_token_id=None, pad_token_id=0)  # fmt: skip
    hits = 0
    for seed in range(seeds):
        spec = spec_of(tiny.NAME, seed, n_contexts=20, null=TWO_NULLS, lengths=(50, 200))
        torch.manual_seed(seed)
        model = HookedLLM(GPT2LMHeadModel(config), spec.model.tokenizer, "untrained")
        hits += any_claim(replace(spec, model=model, layers=tuple(range(6))))[1]
    yield "untrained GPT-2-shaped models: a claim of structure", hits, 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the seeds")
    many, few = (max(1, round(n * parser.parse_args().scale)) for n in (200, 20))
    np.seterr(all="raise", under="ignore")
    failed = 0
    print("| where there is nothing | false findings | at most |\n|---|---|---|")
    for rows, seeds in ((layer_zero, many), (no_sensitivity, many), (untrained, few)):
        started = time.process_time()
        for what, hits, most in rows(seeds):
            failed += hits > most
            print(f"| {what} | {hits} of {seeds} | {most} |", flush=True)
        print(f"{time.process_time() - started:.0f} s CPU", file=sys.stderr, flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
