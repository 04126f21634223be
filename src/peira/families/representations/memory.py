"""What a model will need, before its weights are read: weights, those of its untrained twin where the
run makes one, and what a batch keeps beside them.

Invariant: nothing is loaded to find out; where the free memory cannot be told, nothing is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peira.errors import InputError

if TYPE_CHECKING:
    from peira.families.representations.loading import Hub

HEAD_CHUNK = 2048  # positions whose logits exist at one time
SHARE = 0.95  # of the free memory that may be filled
LEAST = 64  # the smallest batch (tokens) there is


def default_batch_tokens(device: str) -> int:
    """Padded tokens in flight where `--batch-tokens` is not given."""
    return 65_536 if device.startswith("cuda") else 8_192


@dataclass(frozen=True)
class Need:
    """Bytes: of the weights, of the head's chunk per position, of everything else per token, and of
    the untrained twin's weights (none without a twin)."""

    weights: int
    head: int
    token: int
    twin: int = 0

    def above(self, tokens: int) -> int:
        """Bytes above the weights with `tokens` padded tokens in flight."""
        return self.head * min(tokens, HEAD_CHUNK) + self.token * tokens

    def fitting(self, free: float, tokens: int) -> int | None:
        """The largest batch, halving `tokens`, that `free` bytes hold; None if none does."""
        while tokens >= LEAST:
            if self.weights + self.twin + self.above(tokens) <= free:
                return tokens
            tokens //= 2
        return None


def need(source: str, hub: Hub) -> Need:
    """What a model needs, from its configuration alone."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(source, **hub.plain)
    with torch.device("meta"):
        bare = AutoModelForCausalLM.from_config(config)
    width = 4 if hub.dtype == "float32" else 2
    size, text = sum(p.numel() for p in bare.parameters()), config.get_text_config()
    # A position's logits: as computed, in float32, and what logsumexp makes of them.
    head = text.vocab_size * (width + 8)
    twin = 4 * size if size < hub.twin_below else 0  # drawn in float32, whatever the dtype
    return Need(size * width, head, _token_bytes(text, width), twin)


def _token_bytes(config: Any, width: int) -> int:
    """One token in flight: its keys and values in every layer, one block's intermediate values
    (six of the residual's width, three of the MLP's), and two float32 copies for the reducers."""
    hidden, heads = config.hidden_size, config.num_attention_heads
    pairs = getattr(config, "num_key_value_heads", None) or heads
    size = getattr(config, "head_dim", None) or hidden // heads
    inner = getattr(config, "intermediate_size", None) or 4 * hidden
    cache = 2 * config.num_hidden_layers * pairs * size
    return int(width * (cache + 6 * hidden + 3 * inner) + 2 * 4 * hidden)


def check_memory(name: str, source: str, hub: Hub, device: str) -> None:
    """InputError when weights and batch exceed the memory that is free on `device`."""
    free = free_bytes(device)
    if free is None:
        return
    wanted = need(source, hub)
    tokens = hub.batch_tokens or default_batch_tokens(device)
    if wanted.weights + wanted.twin + wanted.above(tokens) > SHARE * free:
        raise InputError(_too_much(name, wanted, tokens, hub.dtype, device, free))


def _too_much(
    name: str, wanted: Need, tokens: int, dtype: str, device: str, free: int
) -> str:  # fmt: skip
    batch = wanted.fitting(SHARE * free, tokens)
    remedies = ["--dtype bfloat16"] if dtype == "float32" else []
    remedies += [f"--batch-tokens {batch}"] if batch else []
    remedies += ["--null shuffled"] if wanted.twin else []
    remedies += ["--device map", "a smaller model"] if not batch else []
    twin = f", {wanted.twin / 1e9:.1f} GB for its untrained twin" if wanted.twin else ""
    return (
        f"--model: {name}: {wanted.weights / 1e9:.1f} GB of weights in {dtype}{twin} and"
        f" {wanted.above(tokens) / 1e9:.1f} GB for {tokens:,} tokens in flight,"
        f" {free / 1e9:.1f} GB free on {device}\n  allowed: what fits\n"
        f"  remedy: {', or '.join(remedies)}"
    )


def free_bytes(device: str) -> int | None:
    """Free memory of a device, or None where it cannot be told."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    info = Path("/proc/meminfo")
    if device != "cpu" or not info.is_file():
        return None
    line = next((x for x in info.read_text().splitlines() if x.startswith("MemAvailable")), None)
    return int(line.split()[1]) * 1024 if line else None
