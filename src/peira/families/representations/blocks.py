"""Where each architecture keeps its residual stream: a table, and one rule for the others.

Invariant: a name means the same place in every model; a place that cannot be told is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from peira.errors import InputError


@dataclass(frozen=True)
class Paths:
    """Module paths: the list of blocks, and inside a block what writes to the residual stream."""

    blocks: str
    attention: str
    mlp: str


_LLAMA = Paths("layers", "self_attn", "mlp")
_GEMMA = Paths("layers", "post_attention_layernorm", "post_feedforward_layernorm")
# Paths of the block list are relative to the model without its head (`base_model`).
BLOCKS: dict[str, Paths] = {
    "gpt2": Paths("h", "attn", "mlp"),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma": _LLAMA,
    "gemma2": _GEMMA,
    "gemma3": Paths("language_model.layers", _GEMMA.attention, _GEMMA.mlp),
    "gemma3_text": _GEMMA,
    "gpt_neox": Paths("layers", "attention", "mlp"),
}


@dataclass(frozen=True, eq=False)
class Blocks:
    """The blocks of one model and how to hook them."""

    modules: Any
    paths: Paths | None

    def attach(self, name: str, function: Callable[[Any], Any]) -> Any:
        """Hook `function` on the activation `name`; returns the handle. InputError if unknown."""
        if name == "embed":
            return _before(self.modules[0], function)
        parts = name.split(".")
        if len(parts) != 3 or parts[0] != "blocks" or not parts[1].isdigit():
            raise self._unknown(name)
        index, place = int(parts[1]), parts[2]
        if index >= len(self.modules):
            raise self._unknown(name)
        block = self.modules[index]
        if place == "resid_post":
            return _after(block, function)
        if place == "resid_pre":
            return _before(block, function)
        if place in ("attn_out", "mlp_out") and self.paths is not None:
            path = self.paths.attention if place == "attn_out" else self.paths.mlp
            return _after(block.get_submodule(path), function)
        raise self._unknown(name)

    def _unknown(self, name: str) -> InputError:
        return InputError(
            f"activation {name!r}: no such place in this model\n"
            f"  allowed: embed, final_norm, blocks.k.resid_pre|attn_out|mlp_out|resid_post,"
            f" k = 0…{len(self.modules) - 1}"
        )


def _after(module: Any, function: Callable[[Any], Any]) -> Any:
    def hook(_: Any, __: Any, output: Any) -> Any:
        if not isinstance(output, tuple):
            return function(output)
        new = function(output[0])
        return None if new is None else (new, *output[1:])

    return module.register_forward_hook(hook)


def _before(module: Any, function: Callable[[Any], Any]) -> Any:
    def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            new = function(args[0])
            return None if new is None else ((new, *args[1:]), kwargs)
        new = function(kwargs["hidden_states"])
        return None if new is None else (args, {**kwargs, "hidden_states": new})

    return module.register_forward_pre_hook(hook, with_kwargs=True)


def find_blocks(model: Any) -> Blocks:
    """The model's blocks, by the table or by the one module list of the right length."""
    paths = BLOCKS.get(model.config.model_type)
    if paths is not None:
        return Blocks(model.base_model.get_submodule(paths.blocks), paths)
    import torch

    count = model.config.get_text_config().num_hidden_layers
    found = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == count]
    if len(found) != 1:
        raise InputError(
            f"--model: architecture {model.config.model_type!r}: {len(found)} lists of {count}"
            f" blocks\n  allowed: {', '.join(BLOCKS)}, or exactly one such list"
        )
    return Blocks(found[0], None)
