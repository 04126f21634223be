"""Open models with their insides in reach: hooks over transformers, one stable name per activation.

Names: `embed` (input of block 0), `blocks.k.{resid_pre,attn_out,mlp_out,resid_post}`, `final_norm`.
Layer k is raw `blocks.k.resid_post`; the last of Hugging Face's `hidden_states` is normalised and
never used. Invariant: one forward serves all layers and lengths; full logits never exist.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from peira.families.representations.blocks import BLOCKS, Blocks, find_blocks
from peira.families.representations.contexts import Batch, Run
from peira.families.representations.loading import Hub, load, needs_torch
from peira.families.representations.memory import HEAD_CHUNK
from peira.families.representations.words import Vocabulary, vocabulary_of

if TYPE_CHECKING:
    import torch

Reducer = Callable[[str, Any, Batch], Any]
Hook = Callable[["torch.Tensor"], "torch.Tensor | None"]

__all__ = ["BLOCKS", "HEAD_CHUNK", "HookedLLM", "Shared"]


class Shared(NamedTuple):
    """A context already forwarded: its key-value cache, activations and predictions."""

    cache: Any
    acts: dict[str, Any]
    final: Any


class HookedLLM:
    """A causal language model of transformers with named activations."""

    simulated = False

    def __init__(self, model: Any, tokenizer: Any, name: str, bos: str = "auto") -> None:
        needs_torch()
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.name = name
        self.revision = getattr(model.config, "_commit_hash", None)
        self.blocks: Blocks = find_blocks(model)
        self.bos_mode = bos
        self.forwards = 0

    @classmethod
    def from_pretrained(
        cls, name: str, *, dtype: Any = None, device: str = "auto", **hub: Any
    ) -> HookedLLM:
        """Load `name` (hub id, folder, or peira/tiny-graph-tracer).

        `dtype`: "float32" (default), "bfloat16", "float16" or a torch dtype; `torch_dtype` is a
        synonym. `hub`: revision, token, cache_dir, local_files_only, trust_remote_code,
        attn_implementation. Raises InputError for any other keyword, or for two dtypes.
        """
        model, tokenizer = load(name, Hub.of(dtype, device, hub))
        return cls(model, tokenizer, name)

    # -- what it is -------------------------------------------------------------------------
    @property
    def config(self) -> Any:
        return self.model.config.get_text_config()

    @property
    def num_layers(self) -> int:
        return len(self.blocks.modules)

    @property
    def hidden_size(self) -> int:
        return int(self.config.hidden_size)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device  # type: ignore[no-any-return]

    @property
    def dtype(self) -> str:
        return str(next(self.model.parameters()).dtype).removeprefix("torch.")

    @property
    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    @property
    def tiny(self) -> bool:
        return self.trained_length is not None

    @property
    def trained_length(self) -> int | None:
        """Longest walk (tokens) the model was trained on, where it says so."""
        value = getattr(self.model.config, "trained_length", None)
        return int(value) if value is not None else None

    @property
    def bos_id(self) -> int | None:
        """The token put before each context; None with `bos="none"` or where there is none."""
        if self.bos_mode == "none":
            return None
        value = getattr(self.tokenizer, "bos_token_id", None)
        value = self.config.bos_token_id if value is None and self.tokenizer is None else value
        return int(value) if value is not None else None

    @property
    def bos(self) -> bool:
        return self.bos_id is not None

    def vocabulary(self, source: str) -> Vocabulary:
        """The words of `source` that are single tokens here."""
        return vocabulary_of(self.tokenizer, source)

    def layer_name(self, layer: int | str) -> str:
        """The activation a `--layers` entry stands for."""
        return "embed" if layer == "emb" else f"blocks.{layer}.resid_post"

    def twin(self, seed: int) -> HookedLLM:
        """The same configuration with random weights."""
        import copy

        import torch
        from transformers import AutoModelForCausalLM

        with torch.random.fork_rng():
            torch.manual_seed(seed % 2**63)
            model = AutoModelForCausalLM.from_config(copy.deepcopy(self.model.config))
        model = model.to(device=self.device, dtype=next(self.model.parameters()).dtype)
        return HookedLLM(model, self.tokenizer, f"{self.name} (untrained twin)", self.bos_mode)

    # -- hooks ------------------------------------------------------------------------------
    @contextlib.contextmanager
    def hooks(self, functions: Mapping[str, Hook]) -> Iterator[None]:
        """Call each function with the named activation (B, T, d); what it returns replaces it."""
        handles = [self.blocks.attach(name, fn) for name, fn in functions.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    # -- one batch --------------------------------------------------------------------------
    def run(self, batch: Batch, names: Sequence[str], reducer: Reducer) -> Run:
        """One forward of a batch: `reducer` is called per name inside the forward, with float32
        activations aligned to the walk's tokens. Losses and node probabilities come along."""
        reduced: dict[str, Any] = {}
        batch = self._labelled(batch)

        def keep(name: str, h: torch.Tensor) -> None:
            reduced[name] = reducer(name, self._aligned(h), batch)

        final = self._forward(self._ids(batch.ids), names, keep, **self._bars(batch))
        losses, probabilities = self._predictions(final, batch)
        return Run(reduced, losses, probabilities, batch.labels)

    def _bars(self, batch: Batch) -> dict[str, Any]:
        """The attention mask of arms that bar a token, as a keyword; empty without such arms."""
        import torch

        barred = [(row, arm.barred) for row, arm in enumerate(batch.arms) if arm.barred is not None]
        if not barred:
            return {}
        offset, width = int(self.bos), batch.ids.shape[1] + int(self.bos)
        allowed = torch.ones(width, width, dtype=torch.bool, device=self.device).tril()
        mask = allowed.repeat(len(batch.arms), 1, 1, 1)
        for row, p in barred:
            mask[row, 0, p + offset + 1 :, p + offset] = False
        kind = next(self.model.parameters()).dtype
        return {"attention_mask": torch.where(mask, 0.0, torch.finfo(kind).min).to(kind)}

    def share(self, batch: Batch, names: Sequence[str]) -> Shared | None:
        """Forward one context (a batch of one row) and keep its cache for `run_shared`; None
        where the model's cache cannot be cut, so that plain batches are right."""
        from transformers import DynamicCache

        if getattr(self.model, "_is_stateful", False):
            return None
        cache, acts = DynamicCache(), {}

        def keep(name: str, h: torch.Tensor) -> None:
            acts[name] = h

        final = self._forward(
            self._ids(batch.ids), names, keep, past_key_values=cache, use_cache=True
        )
        return Shared(cache, acts, final)

    def run_shared(
        self, batch: Batch, names: Sequence[str], reducer: Reducer, shared: Shared, common: int
    ) -> Run:
        """As `run`, for rows whose first `common` tokens are those of the shared context."""
        import torch
        from transformers import DynamicCache

        rows, start = len(batch.arms), common + int(self.bos)
        cache = DynamicCache()
        for index, layer in enumerate(shared.cache.layers):
            kept = (layer.keys[:, :, :start], layer.values[:, :, :start])
            cache.update(*(x.expand(rows, -1, -1, -1) for x in kept), index)
        reduced: dict[str, Any] = {}
        batch = self._labelled(batch)

        def keep(name: str, h: torch.Tensor) -> None:
            before = shared.acts[name][:, :start].expand(rows, -1, -1)
            reduced[name] = reducer(name, self._aligned(torch.cat([before, h], 1)), batch)

        ids = self._ids(batch.ids)[:, start:]
        final = self._forward(ids, names, keep, past_key_values=cache, use_cache=True)
        final = torch.cat([shared.final[:, :start].expand(rows, -1, -1), final], 1)
        losses, probabilities = self._predictions(final, batch)
        return Run(reduced, losses, probabilities, batch.labels)

    def _forward(
        self, ids: torch.Tensor, names: Sequence[str], keep: Callable[..., None], **more: Any
    ) -> torch.Tensor:
        """The final normalised hidden states; `keep(name, h)` is called on the way."""
        import torch

        inner = [name for name in names if name != "final_norm"]
        more.setdefault("use_cache", False)
        self.forwards += len(ids)
        with torch.inference_mode(), self.hooks({name: partial(keep, name) for name in inner}):
            final = self.model.base_model(input_ids=ids, **more).last_hidden_state
        if "final_norm" in names:
            keep("final_norm", final)
        return final  # type: ignore[no-any-return]

    def _ids(self, ids: Any) -> torch.Tensor:
        import torch

        if self.bos_id is not None:
            ids = np.concatenate([np.full((len(ids), 1), self.bos_id), ids], axis=1)
        return torch.as_tensor(ids, device=self.device)

    def _aligned(self, h: torch.Tensor) -> torch.Tensor:
        return (h[:, 1:] if self.bos else h).float()

    def _labelled(self, batch: Batch) -> Batch:
        """Sequence position 0 enters no mean: without BOS it is the walk's first token."""
        if self.bos:
            return batch
        labels = batch.labels.copy()
        labels[:, 0] = -1
        return replace(batch, labels=labels)

    # -- the head ---------------------------------------------------------------------------
    def logits(self, final: torch.Tensor) -> torch.Tensor:
        """Logits (float32) of final hidden states, soft-capped where the model does."""
        import torch

        out = self.model.get_output_embeddings()(final).float()
        cap = getattr(self.config, "final_logit_softcapping", None)
        return torch.tanh(out / cap) * cap if cap else out  # type: ignore[no-any-return]

    def _predictions(self, final: torch.Tensor, batch: Batch) -> tuple[Any, Any]:
        """Losses (B, T) of each token, NaN where unpredicted or padding, and p (B, T, n)."""
        import torch

        rows, offset = len(final), int(self.bos)
        target = torch.as_tensor(batch.ids, device=self.device)
        told = final[:, : final.shape[1] - 1]
        wanted = target if offset else target[:, 1:]
        losses, _ = self._scored(told, wanted, None)
        nodes = torch.as_tensor(batch.node_ids, device=self.device)
        _, probabilities = self._scored(final[:, offset:], None, nodes)
        assert losses is not None and probabilities is not None
        if not offset:
            losses = np.concatenate([np.full((rows, 1), np.nan, np.float32), losses], axis=1)
        losses[np.arange(losses.shape[1])[None, :] >= batch.lengths[:, None]] = np.nan
        return losses, probabilities

    def _scored(
        self, final: torch.Tensor, target: torch.Tensor | None, nodes: torch.Tensor | None
    ) -> tuple[Any, Any]:
        """−ln p(target) (B, T) and p(nodes) (B, T, n), a chunk of positions at a time."""
        import torch

        rows, width, _ = final.shape
        flat = final.reshape(rows * width, -1)
        row_of = torch.arange(rows, device=final.device).repeat_interleave(width)
        losses, masses = [], []
        with torch.inference_mode():
            for start in range(0, rows * width, HEAD_CHUNK):
                part = slice(start, start + HEAD_CHUNK)
                logits = self.logits(flat[part])
                total = logits.logsumexp(-1)
                if target is not None:
                    picked = logits.gather(1, target.reshape(-1)[part, None])[:, 0]
                    losses.append((total - picked).cpu())
                if nodes is not None:
                    chosen = logits.gather(1, nodes[row_of[part]])
                    masses.append((chosen - total[:, None]).exp().cpu())
        loss = torch.cat(losses).reshape(rows, width).numpy() if losses else None
        mass = torch.cat(masses).reshape(rows, width, -1).numpy() if masses else None
        return loss, mass

    # -- the guide's face -------------------------------------------------------------------
    def forward_with_cache(
        self, text_or_ids: str | Sequence[int], layers: Sequence[int] | None = None
    ) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
        """Logits (1, T, vocabulary) and {layer: raw residual (1, T, d)} of one sequence, without
        BOS unless given. For looking at single sequences; `run` is the way to many."""
        import torch

        ids = self._sequence(text_or_ids)
        wanted = list(range(self.num_layers)) if layers is None else list(layers)
        cache: dict[int, torch.Tensor] = {}

        def keep(name: str, h: torch.Tensor) -> None:
            cache[int(name.split(".")[1])] = h.float()

        with torch.inference_mode():
            final = self._forward(ids, [f"blocks.{k}.resid_post" for k in wanted], keep)
            return self.logits(final), cache

    def _sequence(self, text_or_ids: str | Sequence[int]) -> torch.Tensor:
        import torch

        if isinstance(text_or_ids, str):
            text_or_ids = self.tokenizer.encode(text_or_ids, add_special_tokens=False)
        return torch.as_tensor([list(text_or_ids)], device=self.device)

    def compute_per_token_loss(self, text_or_ids: str | Sequence[int]) -> torch.Tensor:
        """−ln p of each token after the first (1, T − 1)."""
        import torch

        ids = self._sequence(text_or_ids)
        with torch.inference_mode():
            final = self._forward(ids, [], lambda name, h: None)
        losses, _ = self._scored(final[:, :-1], ids[:, 1:], None)
        return torch.as_tensor(losses)
