"""What memory above the weights follows: the batch and the head's chunk, and nothing else.

    python benchmarks/bench_representations_memory.py

Each row is a process of its own: a random Llama (8 layers of width 512, 32,000 words) in bfloat16, its
peak resident memory over a trial less what was resident once the weights were read and one context
had been forwarded (libraries, threads, the first buffers). Doubling contexts, layers kept or lengths
must change it by at most 5 %; the last row doubles the batch, to show what does. Linux only.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

BASE: dict[str, Any] = {
    "n_contexts": 16,
    "layers": 4,
    "lengths": (16, 64, 128, 256),
    "batch_tokens": 4096,
}
ROWS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "contexts doubled": {"n_contexts": 32},
    "layers kept doubled": {"layers": 8},
    "lengths doubled": {"lengths": (16, 24, 32, 48, 64, 96, 128, 256)},
    "batch doubled": {"batch_tokens": 8192},
}  # fmt: skip


def write_model(folder: Path) -> None:
    """A random model with a tokenizer of the packaged words and many others."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from peira.families.representations.words import all_words

    names = ["<pad>", "<bos>", "<unk>", *all_words()]
    names += [f"<{i}>" for i in range(32_000 - len(names))]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(names)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<bos>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(names), hidden_size=512, intermediate_size=1024, num_hidden_layers=8,
        num_attention_heads=8, num_key_value_heads=8, bos_token_id=1, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


def status(name: str) -> float:
    """A field of this process's memory, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(x for x in lines if x.startswith(name)).split()[1]) / 1024


def measure(model: str, about: dict[str, Any]) -> float:
    """Peak memory (MB) of measuring and summing up one trial, above that of the loaded model."""
    from peira.families.representations.experiments import of
    from peira.families.representations.settings import RepresentationSettings
    from peira.families.representations.trial import block_size, resolve

    layers = tuple(range(about.pop("layers")))
    settings = RepresentationSettings(
        experiment="hierarchical",
        model=model,
        dtype="bfloat16",
        device="cpu",
        layers=layers,
        **about,
    )
    spec, experiment = resolve(settings, 42), of("hierarchical")
    experiment.measure(spec, [experiment.draw(spec, 0)])
    before, records = status("VmRSS"), []
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    for start in range(0, settings.n_contexts, block_size(spec)):
        block = range(start, min(start + block_size(spec), settings.n_contexts))
        records += experiment.measure(spec, [experiment.draw(spec, i) for i in block])
    experiment.summarise(spec, records)
    return status("VmHWM") - before


def main() -> int:
    if len(sys.argv) == 3:
        print(measure(sys.argv[1], json.loads(sys.argv[2])))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        found = {}
        for name, change in ROWS.items():
            words = [sys.executable, __file__, folder, json.dumps(BASE | change)]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            found[name] = float(done.stdout.split()[-1])
            gap = 100 * (found[name] / found["as it is"] - 1)
            bar = "" if name in ("as it is", "batch doubled") else "(bar 5 %)"
            print(f"{name:22} {found[name]:8.0f} MB above weights {gap:+6.1f} % {bar}", flush=True)
    return int(any(abs(found[n] / found["as it is"] - 1) > 0.05 for n in list(ROWS)[1:4]))


if __name__ == "__main__":
    sys.exit(main())
