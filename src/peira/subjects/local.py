"""`hf:PATH_OR_NAME`: a Hugging Face causal language model inside this process.

Requests are decoded together in small continuous batches: a new one joins at the next token, a
finished one leaves. Invariant: each request draws from its own seed, so an answer does not depend
on what it happened to share a batch with (beyond float rounding).
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from peira.errors import InputError, MissingExtra, ProviderStop, TrialFailed
from peira.subjects.hub import first_line, lacking
from peira.subjects.route import Route
from peira.subjects.subject import Finish, Reply, Request, Sampling, Usage
from peira.subjects.wire.dialect import Fit, finished, split_thinking

if TYPE_CHECKING:
    from peira.subjects.options import SubjectOptions

PREFIX = "hf:"
CARRIES = frozenset({"temperature", "top_p", "top_k", "max_tokens", "stop", "seed"})
LIMITS = {"temperature": (0.0, inf), "top_p": (0.0, 1.0), "top_k": (1, inf), "max_tokens": (1, inf)}
COLDEST = 1e-5  # a temperature below which the likeliest token is taken: its logits would overflow
DEFAULT_MAX_TOKENS = 512


class LocalOptions(BaseModel):
    """`subjects: {name: {local: …}}` of an hf: model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str = Field("auto", description="cpu, cuda, cuda:1, mps; auto: the best there is")
    dtype: str = Field("auto", description="float32, bfloat16, float16; auto: the checkpoint's")
    max_batch: int = Field(16, ge=1, description="requests decoded together")
    chat_template: bool = Field(True, description="use the tokenizer's chat template if it has one")


@dataclass(slots=True)
class Row:
    """One request being decoded."""

    request: Request
    prompt: list[int]
    limit: int
    future: asyncio.Future[Reply]
    generator: Any
    made: list[int] = field(default_factory=list)
    finish: Finish | None = None
    text: str = ""


class LocalModel:
    """A loaded model and its decoding thread. One per path and process."""

    def __init__(self, path: str, options: LocalOptions) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.torch = torch
        self.options = options
        self.device = _device(options.device)
        dtype = options.dtype if options.dtype == "auto" else getattr(torch, options.dtype)
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
        self.model = model.to(self.device).eval()
        self.window = int(getattr(model.config, "max_position_embeddings", 0) or 0) or None
        self.ends = _ends(self.model, self.tokenizer)
        self.waiting: deque[Row] = deque()
        self._lock = threading.Lock()
        self._busy = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hf")

    # -- asking -------------------------------------------------------------------------------
    async def answer(self, request: Request) -> Reply:
        """Join the batch and wait for the answer."""
        loop = asyncio.get_running_loop()
        row = self._row(request, loop.create_future())
        with self._lock:
            self.waiting.append(row)
            if not self._busy:
                self._busy = True
                self._thread.submit(self._run, loop)
        return await row.future

    def _row(self, request: Request, future: asyncio.Future[Reply]) -> Row:
        prompt = self._encode(request)
        limit = request.sampling.max_tokens or DEFAULT_MAX_TOKENS
        if self.window is not None and len(prompt) + 1 > self.window:
            raise TrialFailed(
                "context", f"the prompt has {len(prompt)} tokens; the model takes {self.window}"
            )
        if self.window is not None:
            limit = min(limit, self.window - len(prompt))
        seed = request.sampling.seed if request.sampling.seed is not None else request.seed
        generator = self.torch.Generator().manual_seed(seed & 0x7FFF_FFFF_FFFF_FFFF)
        return Row(request, prompt, limit, future, generator)

    def _encode(self, request: Request) -> list[int]:
        messages = [{"role": m.role, "content": m.content} for m in request.messages]
        if self.options.chat_template and getattr(self.tokenizer, "chat_template", None):
            ids = self.tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=False
            )
        else:
            ids = self.tokenizer("\n\n".join(m["content"] for m in messages))["input_ids"]
        if not ids:
            raise ProviderStop("hf: the tokenizer made no tokens of the prompt")
        return [int(each) for each in ids]

    # -- the decoding thread --------------------------------------------------------------------
    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        batch = Batch(self)
        try:
            while True:
                with self._lock:
                    joining = self._take(batch)
                    if not batch.rows and not joining and not self.waiting:
                        self._busy = False
                        return
                if joining:
                    batch.join(joining)
                for row in batch.step():
                    loop.call_soon_threadsafe(_set, row.future, self._reply(row))
        except Exception as error:  # noqa: BLE001 - every waiter must learn of it
            with self._lock:
                rows = [*batch.rows, *batch.joining, *self.waiting]
                self.waiting.clear()
                self._busy = False
            for row in rows:
                loop.call_soon_threadsafe(_fail, row.future, error)

    def _take(self, batch: Batch) -> list[Row]:
        room = self.options.max_batch - len(batch.rows)
        if batch.rows and not batch.mergeable:
            return []
        taken = [self.waiting.popleft() for _ in range(min(room, len(self.waiting)))]
        return [row for row in taken if not row.future.cancelled()]

    def _reply(self, row: Row) -> Reply:
        text, reasoning = split_thinking(row.text)
        usage = Usage(len(row.prompt), len(row.made))
        name = str(getattr(self.model.config, "_name_or_path", "") or "")
        served = Path(name).name if name else self.model.config.model_type
        return Reply(text, reasoning, usage, finished(row.finish or "stop", text), served)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


class Batch:
    """Rows decoded together, left-padded over one key-value cache."""

    def __init__(self, owner: LocalModel) -> None:
        self.owner = owner
        self.torch = owner.torch
        self.rows: list[Row] = []
        self.joining: list[Row] = []
        self.cache: Any = None
        self.mask: Any = None
        self.mergeable = True

    def join(self, rows: list[Row]) -> None:
        """Read the prompts of new rows and put them beside those under way."""
        torch, device = self.torch, self.owner.device
        self.joining = rows
        longest = max(len(row.prompt) for row in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros(len(rows), longest, dtype=torch.long)
        for k, row in enumerate(rows):
            ids[k, longest - len(row.prompt) :] = torch.tensor(row.prompt)
            mask[k, longest - len(row.prompt) :] = 1
        mask = mask.to(device)
        logits, cache = self._forward(ids.to(device), mask, None)
        self._sample(rows, logits)
        self._merge(cache, mask)
        self.rows += rows
        self.joining = []

    def step(self) -> list[Row]:
        """One token for every row that has not finished; returns those that have."""
        torch = self.torch
        going = [k for k, row in enumerate(self.rows) if row.finish is None]
        done = self._leave(going)
        if self.rows and going:
            ids = torch.tensor([[row.made[-1]] for row in self.rows], device=self.owner.device)
            one = torch.ones(len(self.rows), 1, dtype=torch.long, device=self.owner.device)
            self.mask = torch.cat([self.mask, one], dim=1)
            logits, self.cache = self._forward(ids, self.mask, self.cache)
            self._sample(self.rows, logits)
        return done

    def _forward(self, ids: Any, mask: Any, cache: Any) -> tuple[Any, Any]:
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        with self.torch.inference_mode():
            out = self.owner.model(
                input_ids=ids, attention_mask=mask, position_ids=positions,
                past_key_values=cache, use_cache=True,
            )  # fmt: skip
        return out.logits[:, -1].float().cpu(), out.past_key_values

    # -- rows coming and going ------------------------------------------------------------------
    def _merge(self, cache: Any, mask: Any) -> None:
        torch = self.torch
        self.mergeable = _plain(cache)
        if not self.rows:
            self.cache, self.mask = cache, mask
            return
        longest = max(self.mask.shape[1], mask.shape[1])
        pad = torch.nn.functional.pad
        for mine, other in zip(self.cache.layers, cache.layers, strict=True):
            for name in ("keys", "values"):
                both = [getattr(layer, name) for layer in (mine, other)]
                grown = [pad(t, (0, 0, longest - t.shape[2], 0)) for t in both]
                setattr(mine, name, torch.cat(grown, dim=0))
        masks = [pad(m, (longest - m.shape[1], 0)) for m in (self.mask, mask)]
        self.mask = torch.cat(masks, dim=0)

    def _leave(self, going: list[int]) -> list[Row]:
        """Take finished rows out; without a plain cache only when all have finished."""
        if len(going) == len(self.rows):
            return []
        done = [row for row in self.rows if row.finish is not None and not row.future.done()]
        if not going:
            self.rows, self.cache, self.mask, self.mergeable = [], None, None, True
        elif self.mergeable:
            self._keep(going)
        return done

    def _keep(self, going: list[int]) -> None:
        index = self.torch.tensor(going, device=self.owner.device)
        start = int(self.mask[index].argmax(dim=1).min())  # columns that are padding for all go too
        self.mask = self.mask[index][:, start:]
        for layer in self.cache.layers:
            layer.keys = layer.keys[index][:, :, start:]
            layer.values = layer.values[index][:, :, start:]
        self.rows = [self.rows[k] for k in going]

    # -- choosing tokens ------------------------------------------------------------------------
    def _sample(self, rows: list[Row], logits: Any) -> None:
        for row, scores in zip(rows, logits, strict=True):
            if row.finish is None:
                self._extend(row, choose(scores, row.request.sampling, row.generator))

    def _extend(self, row: Row, token: int) -> None:
        if row.future.cancelled():
            row.finish = "stop"
        elif token in self.owner.ends:
            row.text, row.finish = self._text(row), "stop"
            row.made.append(token)
        else:
            row.made.append(token)
            row.text = self._text(row) if row.request.sampling.stop else ""
            for stop in row.request.sampling.stop:
                head, found, _ = row.text.partition(stop)
                if found:
                    row.text, row.finish = head, "stop"
                    return
            if len(row.made) >= row.limit:
                row.text, row.finish = self._text(row), "length"

    def _text(self, row: Row) -> str:
        return str(self.owner.tokenizer.decode(row.made, skip_special_tokens=True))


def choose(scores: Any, sampling: Sampling, generator: Any) -> int:
    """One token from logits of shape (vocabulary,): greedy at temperature 0, else top-k, top-p."""
    import torch

    temperature = 1.0 if sampling.temperature is None else sampling.temperature
    if temperature < COLDEST:
        return int(scores.argmax())
    probabilities, order = torch.sort((scores / temperature).softmax(-1), descending=True)
    if sampling.top_k is not None:
        probabilities = probabilities[: sampling.top_k]
    if sampling.top_p is not None and sampling.top_p < 1:
        before = probabilities.cumsum(-1) - probabilities
        probabilities = probabilities[: max(1, int((before < sampling.top_p).sum()))]
    return int(order[int(torch.multinomial(probabilities, 1, generator=generator))])


def _plain(cache: Any) -> bool:
    """True if every layer keeps plain (batch, head, token, width) keys and values."""
    layers: list[Any] = getattr(cache, "layers", None) or []
    return bool(layers) and all(type(layer).__name__ == "DynamicLayer" for layer in layers)


def _ends(model: Any, tokenizer: Any) -> frozenset[int]:
    stated: Any = getattr(model.generation_config, "eos_token_id", None)
    ids: list[Any] = list(stated) if isinstance(stated, list | tuple) else [stated]
    return frozenset(int(each) for each in (*ids, tokenizer.eos_token_id) if each is not None)


def _device(wanted: str) -> Any:
    import torch

    if wanted != "auto":
        return torch.device(wanted)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _set(future: asyncio.Future[Reply], reply: Reply) -> None:
    if not future.done():
        future.set_result(reply)


def _fail(future: asyncio.Future[Reply], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


class LocalWire:
    """Implements `Wire`; loads the model at the first request."""

    free = True

    def __init__(self, name: str, path: str, options: LocalOptions) -> None:
        self.name = name
        self.path = path
        self.options = options
        self._model: LocalModel | None = None
        self._loading = asyncio.Lock()

    async def send(self, request: Request) -> Reply:
        """Decode one answer."""
        async with self._loading:
            if self._model is None:
                self._model = await asyncio.to_thread(self._load)
        return await self._model.answer(request)

    def _load(self) -> LocalModel:
        if said := lacking(self.path):
            raise ProviderStop(f"cannot be loaded ({said})")
        try:
            return LocalModel(self.path, self.options)
        except (OSError, ValueError) as error:
            raise ProviderStop(f"cannot be loaded ({first_line(error)})") from error

    async def close(self) -> None:
        if self._model is not None:
            self._model.close()
            self._model = None


def open_local(name: str, options: SubjectOptions) -> Route:
    """The route of an `hf:` name. Raises MissingExtra without the extra `local`, InputError for a
    path that is not a model or options that do not fit."""
    from importlib.util import find_spec

    if find_spec("torch") is None or find_spec("transformers") is None:
        raise MissingExtra(f"subject {name!r}", "local")
    path = name.removeprefix(PREFIX)
    where = Path(path).expanduser()
    if path.startswith((".", "/", "~")) and not (where / "config.json").is_file():
        raise InputError(f"subject {name!r}: no model there\n  allowed: a folder with config.json")
    try:
        local = LocalOptions.model_validate(options.local)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"subjects.{name}.local.{first['loc'][0]}: {first['msg']}") from error
    target = str(where) if where.exists() else path
    return Route(
        name, LocalWire(name, target, local), name, "local", sampling=options.sampling,
        fit=Fit(name, "a model in this process", CARRIES, LIMITS, frozenset(options.allow_drop)),
        details={"wire": "local", "path": where.name, "local": local.model_dump()},
    )  # fmt: skip
