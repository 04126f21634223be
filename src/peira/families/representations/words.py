"""The packaged words, and which of them a tokenizer can carry.

Invariant: a context's token ids are composed from single-token words, never re-tokenised, and
decoding then encoding them returns the same ids; so token t and node t cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from peira.errors import InputError

ORDERED_GROUPS = ("days", "months", "park")  # not everyday nouns: rings, and Park's own sixteen
TINY_GROUPS = 11  # the groups the tiny model's tokenizer knows: the three above and eight more


@cache
def groups() -> dict[str, tuple[str, ...]]:
    """Semantic group -> its words, in file order."""
    return _parse((files(__package__) / "vocabulary.txt").read_text("utf-8"))


def _parse(text: str) -> dict[str, tuple[str, ...]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    named = [line.partition(":") for line in lines]
    return {name.strip(): tuple(words.split()) for name, _, words in named}


def all_words() -> tuple[str, ...]:
    """Every packaged word, in file order."""
    return tuple(word for members in groups().values() for word in members)


def tiny_words() -> tuple[str, ...]:
    """The 163 words of the tiny model's tokenizer."""
    return tuple(word for members in list(groups().values())[:TINY_GROUPS] for word in members)


def group_of(word: str) -> str | None:
    """The semantic group of a packaged word, or None."""
    return next((name for name, members in groups().items() if word in members), None)


@dataclass(frozen=True)
class Vocabulary:
    """Words a walk may be written in, each with the one token id it has after a space."""

    words: tuple[str, ...]
    ids: tuple[int, ...]
    groups: dict[str, tuple[str, ...]]
    source: str
    dropped: tuple[str, ...] = ()
    outside: tuple[int, ...] = ()  # ids of no word here: what out-of-vocabulary injections draw
    _index: dict[str, int] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        self._index.update(zip(self.words, self.ids, strict=True))

    def id_of(self, word: str) -> int:
        """The token id of `word`; InputError when the vocabulary does not hold it."""
        if word not in self._index:
            raise InputError(f"vocabulary: {word!r} is not a single token here\n"
                             f"  allowed: {len(self.words)} words of {self.source}")  # fmt: skip
        return self._index[word]

    def nouns(self) -> tuple[str, ...]:
        """The words outside the ordered groups (days, months)."""
        ordered = {*self.groups.get("days", ()), *self.groups.get("months", ())}
        return tuple(word for word in self.words if word not in ordered)

    def draw(self, count: int, rng: np.random.Generator, avoid: Sequence[str] = ()) -> list[str]:
        """`count` different nouns in random order, none of `avoid`."""
        pool = [word for word in self.nouns() if word not in set(avoid)]
        need(len(pool), count, self.source)
        return [pool[i] for i in rng.permutation(len(pool))[:count]]

    def without(self, words: Sequence[str]) -> Vocabulary:
        """The same vocabulary less `words`, which are counted as dropped."""
        gone = set(words)
        kept = {w: i for w, i in zip(self.words, self.ids, strict=True) if w not in gone}
        dropped = (*self.dropped, *sorted(gone))
        return _assemble(self.groups, kept, self.source, dropped, self.outside)


def need(have: int, wanted: int, source: str) -> None:
    """Raise InputError when a graph has more nodes than there are words."""
    if have < wanted:
        raise InputError(
            f"vocabulary: {have} admissible words in {source}, the graph needs {wanted}\n"
            "  allowed: at least one word per node\n"
            "  remedy: a smaller --graph, --vocabulary random, or --vocabulary FILE"
        )


def vocabulary(
    source: str,
    encode: Callable[[str], list[int]] | None,
    size: int | None = None,
    special: Sequence[int | None] = (),
) -> Vocabulary:
    """The admissible words of `source` (`words`, `random`, or a file of `group: word …` lines).

    `encode` turns text into ids without special tokens; None (the simulated model) admits every
    word, with its index as id. `size` is the tokenizer's, for ids outside the vocabulary; `special`
    are ids no word may have (padding, BOS, EOS; the unknown token is no word either).
    """
    named = groups() if source in ("words", "random") else _from_file(Path(source))
    flat = [word for members in named.values() for word in members]
    if encode is None:
        ids: dict[str, int] = {word: i for i, word in enumerate(flat)}
        return _assemble(named, ids, source, (), tuple(range(len(flat), len(flat) + 8)))
    anchor = _anchor(flat, encode)
    found = {word: _single(word, anchor, encode) for word in flat}
    ids = {word: i for word, i in found.items() if i is not None and i not in special}
    dropped = tuple(word for word in flat if word not in ids)
    return _assemble(named, ids, source, dropped, _outside({*ids.values(), *special}, size))


def _from_file(path: Path) -> dict[str, tuple[str, ...]]:
    if not path.is_file():
        raise InputError(f"--vocabulary: {path}: no such file\n"
                         "  allowed: words, random, or a file of words")  # fmt: skip
    text = path.read_text("utf-8")
    if ":" in text:
        return _parse(text)
    return {"file": tuple(dict.fromkeys(text.split()))}


def _anchor(words: Sequence[str], encode: Callable[[str], list[int]]) -> str:
    """A word to put others behind: the first that is one token, if any is."""
    return next((word for word in words if len(encode(word)) == 1), words[0])


def _single(word: str, other: str, encode: Callable[[str], list[int]]) -> int | None:
    """The one id `word` has after another word and a space, or None."""
    before, both = encode(other), encode(f"{other} {word}")
    if both[: len(before)] != before or len(both) != len(before) + 1:
        return None
    return both[-1]


def _outside(used: set[int | None], size: int | None) -> tuple[int, ...]:
    """The highest ids no word uses: unused or rare tokens in every common tokenizer."""
    if size is None:
        return ()
    return tuple(i for i in range(size - 1, -1, -1) if i not in used)[:8]


def _assemble(
    named: dict[str, tuple[str, ...]],
    ids: dict[str, int],
    source: str,
    dropped: tuple[str, ...],
    outside: tuple[int, ...],
) -> Vocabulary:
    """A vocabulary of the words with ids, grouped as named."""
    found = {name: tuple(w for w in members if w in ids) for name, members in named.items()}
    kept = {name: members for name, members in found.items() if members}
    return Vocabulary(tuple(ids), tuple(ids.values()), kept, source, dropped, outside)


def vocabulary_of(tokenizer: Any, source: str) -> Vocabulary:
    """The vocabulary of a Hugging Face tokenizer; `random` draws whole tokens of letters."""
    if source == "random":
        return _random_tokens(tokenizer)
    encode = partial(tokenizer.encode, add_special_tokens=False)
    found = vocabulary(source, encode, len(tokenizer), _special(tokenizer))
    if len(set(found.ids)) == len(found.ids):
        return found
    raise InputError(
        f"vocabulary: {source}: two words share a token\n  remedy: --vocabulary random"
    )


def _special(tokenizer: Any) -> list[int | None]:
    kinds = ("pad", "bos", "eos", "unk")
    return [getattr(tokenizer, f"{kind}_token_id", None) for kind in kinds]


def _random_tokens(tokenizer: Any) -> Vocabulary:
    """Every token that is a word of letters and survives decoding and encoding after a space."""
    encode = partial(tokenizer.encode, add_special_tokens=False)
    anchor = _anchor(all_words(), encode)
    found: dict[str, int] = {}
    for i in range(min(len(tokenizer), 20_000)):
        text = tokenizer.decode([i]).strip()
        if text.isalpha() and text.isascii() and _single(text, anchor, encode) == i:
            found.setdefault(text, i)
    outside = _outside({*found.values(), *_special(tokenizer)}, len(tokenizer))
    return _assemble({"random": tuple(found)}, found, "random", (), outside)


def unstable(ids: Sequence[int], tokenizer: Any) -> list[int]:
    """Ids that do not survive decoding and encoding the context (empty: it is exact)."""
    again = list(tokenizer.encode(tokenizer.decode(list(ids)), add_special_tokens=False))
    if again == list(ids):
        return []
    same = min(len(again), len(ids))
    broken = [i for i, (a, b) in enumerate(zip(ids[:same], again[:same], strict=True)) if a != b]
    return [ids[broken[0]] if broken else ids[same - 1]]
