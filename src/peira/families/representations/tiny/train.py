"""Train `peira/tiny-graph-tracer` by next-token loss alone, on one CPU thread.

    python -m peira.families.representations.tiny.train --seed 0 --out DIR

Walks that never stay come first (induction forms fastest), then lazy walks (a node that may follow
itself is no longer pushed away from its neighbours), last a short cycle of lazier ones. Every ten
seconds a line tells how far it is; killed, the same command goes on from there. Invariant: the
weights depend on the seed and the recipe only.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from peira.errors import InputError
from peira.families.representations.tiny.data import BOS, FIRST, PAD, Mixture, batch
from peira.families.representations.tiny.muon import Muon
from peira.families.representations.words import tiny_words
from peira.store.rundir import streamed

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


def _plan(recipe: Recipe) -> Iterator[tuple[int, Stage, float]]:
    """Of every step: the cycle it opens or belongs to, its stage, its share of the rates."""
    for cycle, stages in enumerate(recipe.cycles()):
        for step, stage in enumerate(s for s in stages for _ in range(s.steps)):
            yield cycle, stage, _rate(step, stages, recipe)


def _step(model: Any, optimizers: list[Any], ids: Any) -> float:
    from torch.nn import functional

    logits = model(ids[:, :-1]).logits.float()
    loss = functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    loss.backward()  # type: ignore[no-untyped-call]
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


class Training:
    """A training as far as it has come. Invariant: broken off and gone on with from what `keep` wrote,
    it makes the weights that it makes in one go."""

    def __init__(self, seed: int, recipe: Recipe) -> None:
        import torch
        from transformers import LlamaForCausalLM

        torch.set_num_threads(1)
        torch.manual_seed(seed)
        self.seed, self.recipe, self.plan = seed, recipe, list(_plan(recipe))
        self.model = LlamaForCausalLM(model_config()).train()
        self.losses: list[float] = []
        self._began, self._before = time.process_time(), 0.0

    @property
    def cpu_minutes(self) -> float:
        """Spent on it by this process and those before."""
        return (self._before + time.process_time() - self._began) / 60

    def _open(self, cycle: int) -> None:
        self.cycle, self.optimizers = cycle, _optimizers(self.model, self.recipe)
        self._bases = [[group["lr"] for group in o.param_groups] for o in self.optimizers]
        self._rng = np.random.default_rng(self.seed + 1000 * cycle)

    def step(self) -> None:
        """One more step."""
        import torch

        cycle, stage, scale = self.plan[len(self.losses)]
        if not self.losses or cycle != self.cycle:
            self._open(cycle)
        for optimizer, rates in zip(self.optimizers, self._bases, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * scale
        shares = replace(self.recipe.mixture, stay=stage.stay)
        ids = batch(stage.rows, stage.length, shares, self._rng)
        self.losses.append(_step(self.model, self.optimizers, torch.from_numpy(ids)))

    def _about(self) -> str:
        return json.dumps({"seed": self.seed, "recipe": asdict(self.recipe)})

    def keep(self, path: Path) -> None:
        """Write all that the remaining steps depend on."""
        import torch

        state = {
            "about": self._about(), "losses": self.losses, "seconds": 60 * self.cpu_minutes,
            "model": self.model.state_dict(), "rng": self._rng.bit_generator.state,
            "optimizers": [o.state_dict() for o in self.optimizers],
        }  # fmt: skip
        with streamed(path, ", then the same command goes on") as handle:
            torch.save(state, handle)

    def go_on(self, path: Path) -> None:
        """Take up what `keep` wrote. Raises InputError if it is of another seed or recipe."""
        import torch

        kept = torch.load(path, weights_only=True)
        if kept["about"] != self._about():
            raise InputError(
                f"{path}: a training begun with another seed or recipe\n"
                "  allowed: to go on with the same\n  remedy: another --out, or remove that file"
            )
        self.losses, self._before = kept["losses"], kept["seconds"]
        self._open(self.plan[len(self.losses) - 1][0])
        self.model.load_state_dict(kept["model"])
        self._rng.bit_generator.state = kept["rng"]
        for optimizer, state in zip(self.optimizers, kept["optimizers"], strict=True):
            optimizer.load_state_dict(state)

    def told(self) -> str:
        done, planned = len(self.losses), len(self.plan)
        left = self.cpu_minutes * (planned / done - 1)
        return (f"step {done} of {planned}, loss {np.mean(self.losses[-50:]):.4f}, "
                f"{self.cpu_minutes:.1f} CPU-minutes, about {left:.0f} more")  # fmt: skip


def train(
    seed: int,
    out: Path,
    recipe: Recipe | None = None,
    keep: tuple[int, ...] = (),
    every: float = 10.0,
) -> None:
    """Train and write the model, its tokenizer and `training.json` to `out`.

    `keep` names steps whose weights are kept too, as `out/checkpoints/step_<n>`. Each `every` seconds
    a line on stderr tells how far it is, and `out/training.pt` holds what going on needs.
    """
    training, held = Training(seed, recipe or Recipe()), out / "training.pt"
    if held.exists():
        training.go_on(held)
        _say(f"goes on where it was left: {training.told()}")
    else:
        _say(f"begins: {len(training.plan)} steps on one thread; weights go to {out}")
    last = time.monotonic()
    while len(training.losses) < len(training.plan):
        if len(training.losses) in keep:
            save(training.model, out / "checkpoints" / f"step_{len(training.losses)}")
        training.step()
        if time.monotonic() - last >= every:
            training.keep(held)
            _say(training.told())
            last = time.monotonic()
    save(training.model, out)
    _write_log(out, training)
    held.unlink(missing_ok=True)
    _say(f"done: {training.told()}")


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def save(model: Any, folder: Path) -> None:
    """Write weights, configuration and tokenizer in Hugging Face form."""
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def _write_log(out: Path, training: Training) -> None:
    losses = training.losses
    curve = [float(np.mean(losses[i : i + 25])) for i in range(0, len(losses), 25)]
    record = {
        "seed": training.seed,
        "recipe": asdict(training.recipe),
        "cpu_minutes": round(training.cpu_minutes, 2),
        "loss_every_25_steps": [round(x, 4) for x in curve],
    }
    (out / "training.json").write_text(json.dumps(record, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("tiny-graph-tracer"))
    parser.add_argument("--keep", type=int, nargs="*", default=(100, 400, 800, 1300, 2400))
    args = parser.parse_args()
    try:
        train(args.seed, args.out, keep=tuple(args.keep))
    except InputError as error:
        _say(str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
