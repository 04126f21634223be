"""Loading models: names, keywords, memory, one copy per process.

Invariant: an unknown or contradictory keyword is an error, never dropped; a model that does not fit
is refused before its weights are read.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from peira.errors import InputError, MissingExtra
from peira.families.representations import tiny
from peira.subjects.hub import first_line, is_cached, lacking

DTYPES = ("float32", "bfloat16", "float16")
HUB = ("revision", "token", "cache_dir", "local_files_only", "trust_remote_code", "attn_implementation")  # fmt: skip
DEFAULT = "meta-llama/Meta-Llama-3-8B"


def have_torch() -> bool:
    """Is the extra `local` installed?"""
    return all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


def needs_torch() -> None:
    """Raise MissingExtra without torch and transformers."""
    if not have_torch():
        raise MissingExtra("a model inside this process (representations)", "local")


@dataclass(frozen=True)
class Hub:
    """How to load: dtype and device by name, and what transformers is told."""

    dtype: str = "float32"
    device: str = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)
    batch_tokens: int | None = None  # None: the device's default
    twin_below: float = 0  # with fewer parameters than this, an untrained twin is made beside it

    @property
    def plain(self) -> dict[str, Any]:
        """What configurations and tokenizers are told, which know no attention."""
        return {k: v for k, v in self.options.items() if k != "attn_implementation"}

    @classmethod
    def of(cls, dtype: Any, device: str, hub: Mapping[str, Any]) -> Hub:
        """From keywords; InputError for unknown or contradictory ones."""
        given = dict(hub)
        other = given.pop("torch_dtype", None)
        if dtype is not None and other is not None and dtype_name(dtype) != dtype_name(other):
            raise InputError(f"from_pretrained: dtype={dtype!r} and torch_dtype={other!r}\n"
                             "  allowed: one of them, or the same")  # fmt: skip
        unknown = sorted(set(given) - set(HUB))
        if unknown:
            raise InputError(f"from_pretrained: unknown keyword {unknown[0]!r}\n"
                             f"  allowed: dtype, torch_dtype, device, {', '.join(HUB)}")  # fmt: skip
        chosen = dtype if dtype is not None else other
        return cls(dtype_name(chosen) if chosen is not None else "float32", device, given)


def dtype_name(value: Any) -> str:
    """`float32` from "float32", "torch.float32" or torch.float32; InputError otherwise."""
    name = str(value).removeprefix("torch.")
    if name not in DTYPES:
        raise InputError(f"--dtype: {name}\n  allowed: {' '.join(DTYPES)}")
    return name


def pick_device(device: str) -> str:
    """`auto` made concrete; InputError for a device that is not there."""
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if device == "map" and importlib.util.find_spec("accelerate") is None:
        raise InputError("--device: map: needs accelerate, which is not installed\n"
                         "  allowed: auto, cpu, cuda, mps\n  remedy: pip install accelerate")  # fmt: skip
    able = {"cpu": True, "map": True, "cuda": torch.cuda.is_available(),
            "mps": torch.backends.mps.is_available()}  # fmt: skip
    if not able.get(device.partition(":")[0], False):
        usable = [name for name, ok in able.items() if ok]
        raise InputError(f"--device: {device}: not available here\n"
                         f"  allowed: auto, {', '.join(usable)}")  # fmt: skip
    return device


def default_model() -> str:
    """Llama-3-8B if its files are in the local cache, else the embedded tiny model."""
    installed = importlib.util.find_spec("huggingface_hub") is not None
    return DEFAULT if installed and is_cached(DEFAULT) else tiny.NAME


def source_of(name: str) -> str:
    """What transformers is given for a model name."""
    return str(tiny.folder()) if name == tiny.NAME else name


def load(name: str, hub: Hub) -> tuple[Any, Any]:
    """Model and tokenizer. Raises InputError when it is not found or does not fit."""
    needs_torch()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    from peira.families.representations.memory import check_memory

    logging.disable_progress_bar()
    source, device = source_of(name), pick_device(hub.device)
    check_there(name, hub)
    options = {"attn_implementation": attention_of(source, hub), **hub.options}
    try:
        check_memory(name, source, hub, device)
        placed = {"device_map": "auto"} if device == "map" else {}
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=getattr(torch, hub.dtype), **options, **placed
        )
        tokenizer = _tokenizer(AutoTokenizer, source, hub.plain)
    except (OSError, ValueError) as error:
        raise _not_loaded(name, first_line(error)) from error
    return (model if device == "map" else model.to(device)), tokenizer


def _not_loaded(name: str, said: str) -> InputError:
    return InputError(
        f"--model: {name}: cannot be loaded ({said})\n"
        "  allowed: a cached or reachable hub id, a folder in Hugging Face form\n"
        f"  remedy: --model {tiny.NAME} (embedded), or hf download {name}"
    )


def check_there(name: str, hub: Hub | None = None) -> None:
    """InputError for a model that is neither a folder, nor cached, nor on the hub."""
    if name == tiny.NAME or name.startswith("sim:"):
        return
    needs_torch()
    asked = ("revision", "cache_dir", "token", "local_files_only")
    told = {k: v for k, v in hub.options.items() if k in asked} if hub else {}
    if said := lacking(name, **told):
        raise _not_loaded(name, said)


EAGER_ONLY = frozenset({"gemma2"})  # attention soft-capping, which sdpa cannot do


def attention_of(source: str, hub: Hub) -> str:
    """sdpa, except for architectures that transformers runs eagerly only."""
    from transformers import AutoConfig

    try:
        kind = AutoConfig.from_pretrained(source, **hub.plain).model_type
    except (OSError, ValueError):
        return "sdpa"  # `load` says what is wrong with it
    return "eager" if kind in EAGER_ONLY else "sdpa"


def _tokenizer(auto: Any, source: str, options: Mapping[str, Any]) -> Any:
    """The tokenizer, or None for a folder that has none (a bare test model)."""
    folder = Path(source)
    if folder.is_dir() and not any(folder.glob("tokenizer*")) and not any(folder.glob("vocab*")):
        return None
    return auto.from_pretrained(source, **options)


@lru_cache(maxsize=2)
def cached(
    name: str, dtype: str, device: str, bos: str, batch_tokens: int | None, twin_below: float
) -> Any:
    """One model per process and setting: trials of a run share it."""
    from peira.families.representations.models import HookedLLM

    hub = Hub(dtype, device, batch_tokens=batch_tokens, twin_below=twin_below)
    model, tokenizer = load(name, hub)
    _fit_threads(model)
    return HookedLLM(model, tokenizer, name, bos)


SMALL = 20_000_000  # parameters below which threads cost more than they bring


def _fit_threads(model: Any) -> None:
    """One thread for small models on a CPU: measured 2 s of CPU against 20 s with two threads on a
    busy machine, for one context of leave-one-out."""
    import os

    import torch

    small = sum(p.numel() for p in model.parameters()) < SMALL
    if (
        small
        and "OMP_NUM_THREADS" not in os.environ
        and next(model.parameters()).device.type == "cpu"
    ):
        torch.set_num_threads(1)
