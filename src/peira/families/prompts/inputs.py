"""What a trial's questions are made of: items, prompts, instructions, read once per process.

Invariant: identity is taken from bytes, never from paths; a changed file makes another trial.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peira.errors import InputError
from peira.families.prompts.counting import TokenCounter, token_counter
from peira.families.prompts.data import TYPES, Item, ItemType, items_digest, read_bytes, select
from peira.families.prompts.prepare import MANIFEST, find_items
from peira.families.prompts.settings import PromptsSettings

SHIPPED = Path(__file__).with_name("instructions")
MOST_KEPT = 8


@dataclass(frozen=True, slots=True)
class Prompt:
    """One arm's system prompt. `sha256` is of the raw bytes; None is no system message."""

    path: str | None
    text: str | None
    sha256: str | None
    tokens: int


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything a trial asks with."""

    items: tuple[Item, ...]
    prompts: Mapping[str, Mapping[str, Prompt]]
    instructions: Mapping[ItemType, str]
    items_sha256: str
    instructions_sha256: str
    counter: TokenCounter
    merged: int = 0

    def arms(self, settings: PromptsSettings) -> dict[str, Prompt]:
        """The arms of one prompt set, control first."""
        return {arm: self.prompts[settings.prompt_set][arm] for arm in settings.arms}

    def names_of(self, prompt: Prompt) -> tuple[str, ...]:
        """Every `set.arm` that has this prompt: effects are planted in prompts, not in names."""
        return tuple(
            f"{name}.{arm}"
            for name, arms in self.prompts.items()
            for arm, other in arms.items()
            if other.sha256 == prompt.sha256
        )


def inputs_of(settings: PromptsSettings) -> Inputs:
    """The inputs of a trial. Raises InputError naming the file at fault."""
    relevant = settings.model_dump_json(
        include={"data", "sizes", "limit_items", "paths", "prompt_sets", "task_instructions",
                 "abstain_phrase", "tokenizer"}
    )  # fmt: skip
    key = (relevant, *_stamps(settings))
    if key not in _kept:
        _kept[key] = _inputs(settings)
        if len(_kept) > MOST_KEPT:
            del _kept[next(iter(_kept))]
    return _kept[key]


_kept: dict[tuple[Any, ...], Inputs] = {}


def _inputs(settings: PromptsSettings) -> Inputs:
    loaded = find_items(settings.data_plan)
    items = select(loaded.items, settings.data.seed, settings.caps)
    if not items:
        raise InputError(
            f"data: no items are left of {len(loaded.items)}\n  allowed: at least one item\n"
            "  remedy: raise the caps in `sizes`"
        )
    counter = token_counter(settings.tokenizer)
    prompts = {
        name: {arm: read_prompt(path, counter) for arm, path in arms.items()}
        for name, arms in settings.prompt_sets.items()
    }
    instructions = {kind: _instruction(f"{kind}_book", settings) for kind in TYPES}
    digest = hashlib.sha256("\0".join(instructions.values()).encode()).hexdigest()
    return Inputs(items, prompts, instructions, items_digest(items), digest, counter, loaded.merged)


def _stamps(settings: PromptsSettings) -> tuple[Any, ...]:
    """Sizes and times of the files behind the inputs: a changed file is read again."""
    plan = settings.data_plan
    paths = [
        *(Path(p) for arms in settings.prompt_sets.values() for p in arms.values() if p),
        *(file.path for file in plan.files),
        *(Path(p) for p in settings.task_instructions.model_dump().values() if p),
        *((plan.prepared_dir / MANIFEST, plan.raw_dir) if plan.source == "prepared" else ()),
    ]
    stats = [(str(path), path.stat()) for path in paths if path.exists()]
    return (str(Path.cwd()), *((path, s.st_size, s.st_mtime_ns) for path, s in stats))


def read_prompt(path: str | None, counter: TokenCounter) -> Prompt:
    """A system prompt. Raises InputError for an empty or non-UTF-8 file."""
    if path is None:
        return Prompt(None, None, None, 0)
    data = read_bytes(Path(path))
    text = _utf8(path, data).strip()
    if not text:
        raise InputError(f"{path}: an empty prompt\n  allowed: some text, or null for no prompt")
    return Prompt(path, text, hashlib.sha256(data).hexdigest(), counter.count(text))


def _instruction(name: str, settings: PromptsSettings) -> str:
    given = getattr(settings.task_instructions, name)
    path = Path(given) if given else SHIPPED / f"{name}.txt"
    text = _utf8(str(path), read_bytes(path)).strip()
    return text.replace("{abstain_phrase}", settings.abstain_phrase)


def _utf8(path: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start})\n  allowed: UTF-8 text") from None
