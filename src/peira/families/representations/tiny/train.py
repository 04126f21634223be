"""Train `peira/tiny-graph-tracer` by next-token loss alone, on one CPU thread.

    python -m peira.families.representations.tiny.train --seed 0 --out DIR

Walks that never stay come first (induction forms fastest), then lazy walks (a node that may follow
itself is no longer pushed away from its neighbours), last a short cycle of lazier ones. Invariant: the weights depend on
the seed and the recipe only.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from peira.families.representations.tiny.data import BOS, FIRST, PAD, Mixture, batch
from peira.families.representations.tiny.muon import Muon
from peira.families.representations.words import tiny_words

UNUSED = ("<unused0>", "<unused1>")


@dataclass(frozen=True)
class Stage:
    """Some steps at one sequence length; `stay` bounds the walks' stay probability. A stage with a
    `rate` begins a new cycle: fresh optimizers, the rate falling from there to zero."""

    steps: int
    rows: int
    length: int
    stay: tuple[float, float]
    rate: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """Everything the weights depend on besides the seed."""

    stages: tuple[Stage, ...] = (
        Stage(800, 48, 64, (0.0, 0.0)),
        Stage(500, 28, 128, (0.0, 0.0)),
        Stage(1100, 28, 128, (0.0, 0.5)),
        Stage(1500, 10, 384, (0.0, 0.5)),
        Stage(400, 10, 384, (0.18, 0.5), rate=0.4),
    )
    muon_rate: float = 0.02
    adam_rate: float = 3e-3
    warmup: int = 60
    mixture: Mixture = field(default_factory=Mixture)

    def cycles(self) -> list[tuple[Stage, ...]]:
        """Stages between restarts of the rate."""
        out: list[tuple[Stage, ...]] = []
        for stage in self.stages:
            if stage.rate or not out:
                out.append(())
            out[-1] = (*out[-1], stage)
        return out


def model_config() -> Any:
    """The architecture: .70 M parameters, 2.8 MB of safetensors."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=FIRST + len(tiny_words()) + len(UNUSED),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=None,
        trained_length=384,
    )


def tokenizer() -> Any:
    """A word-level tokenizer: words separated by spaces, BOS added on request only."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<bos>", *tiny_words(), *UNUSED]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(names)}, unk_token=UNUSED[0]))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<bos>", unk_token=UNUSED[0]
    )


def _optimizers(model: Any, recipe: Recipe) -> list[Any]:
    """Muon for the blocks' matrices, Adam for embeddings, head and norms."""
    import torch

    inner = [p for n, p in model.named_parameters() if p.ndim == 2 and ".layers." in n]
    chosen = {id(p) for p in inner}
    outer = [p for p in model.parameters() if id(p) not in chosen]
    return [
        Muon(inner, lr=recipe.muon_rate),
        torch.optim.AdamW(outer, lr=recipe.adam_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def _rate(step: int, stages: tuple[Stage, ...], recipe: Recipe) -> float:
    """First cycle: warm-up, a constant rate, then linearly to zero over the last 60 %. Later
    cycles: linearly from the stage's rate to zero."""
    steps = sum(stage.steps for stage in stages)
    if stages[0].rate:
        return stages[0].rate * (1 - step / steps)
    left = (steps - step) / (0.6 * steps)
    return min(1.0, (step + 1) / recipe.warmup, max(left, 0.01))


def _batches(stages: tuple[Stage, ...], mixture: Mixture, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    for stage in stages:
        shares = replace(mixture, stay=stage.stay)
        for _ in range(stage.steps):
            yield batch(stage.rows, stage.length, shares, rng)


def _step(model: Any, optimizers: list[Any], ids: Any) -> float:
    from torch.nn import functional

    logits = model(ids[:, :-1]).logits.float()
    loss = functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    loss.backward()  # type: ignore[no-untyped-call]
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


def train(seed: int, out: Path, recipe: Recipe | None = None, keep: tuple[int, ...] = ()) -> None:
    """Train and write the model, its tokenizer and `training.json` to `out`.

    `keep` names steps whose weights are kept too, as `out/checkpoints/step_<n>`.
    """
    import torch
    from transformers import LlamaForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    recipe = recipe or Recipe()
    model = LlamaForCausalLM(model_config())
    model.train()
    started = time.process_time()
    losses: list[float] = []
    for cycle, stages in enumerate(recipe.cycles()):
        optimizers = _optimizers(model, recipe)
        bases = [[group["lr"] for group in o.param_groups] for o in optimizers]
        for step, ids in enumerate(_batches(stages, recipe.mixture, seed + 1000 * cycle)):
            if len(losses) in keep:
                save(model, out / "checkpoints" / f"step_{len(losses)}")
            _set_rates(optimizers, bases, _rate(step, stages, recipe))
            losses.append(_step(model, optimizers, torch.from_numpy(ids)))
            if len(losses) % 50 == 0:
                _report(len(losses), losses, started, out)
    save(model, out)
    _write_log(out, seed, recipe, losses, started)


def _set_rates(optimizers: list[Any], bases: list[list[float]], scale: float) -> None:
    for optimizer, rates in zip(optimizers, bases, strict=True):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * scale


def _report(step: int, losses: list[float], started: float, out: Path) -> None:
    seconds = time.process_time() - started
    line = f"step {step} loss {np.mean(losses[-50:]):.4f} cpu {seconds / 60:.1f} min\n"
    out.mkdir(parents=True, exist_ok=True)
    with (out / "training.log").open("a") as log:
        log.write(line)


def save(model: Any, folder: Path) -> None:
    """Write weights, configuration and tokenizer in Hugging Face form."""
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def _write_log(out: Path, seed: int, recipe: Recipe, losses: list[float], started: float) -> None:
    curve = [float(np.mean(losses[i : i + 25])) for i in range(0, len(losses), 25)]
    record = {
        "seed": seed,
        "recipe": asdict(recipe),
        "cpu_minutes": round((time.process_time() - started) / 60, 2),
        "loss_every_25_steps": [round(x, 4) for x in curve],
    }
    (out / "training.json").write_text(json.dumps(record, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("tiny-graph-tracer"))
    parser.add_argument("--keep", type=int, nargs="*", default=(100, 400, 800, 1300, 2400))
    args = parser.parse_args()
    train(args.seed, args.out, keep=tuple(args.keep))


if __name__ == "__main__":
    main()
