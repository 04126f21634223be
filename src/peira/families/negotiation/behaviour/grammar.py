"""Shared pieces of the grammars: sentences, item lists, folded text that keeps its spans.

Text is folded for matching only character by character (markup becomes blanks), so that every match
has the span of the original words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

SENTENCE = re.compile(r"[^.!?\n]+(?:\.\d+[^.!?\n]*)*[.!?\n]?")
MARKUP = re.compile(r"[*_`#>]|\((?:item\s*)?#?\d+\)|\[\d+\]", re.IGNORECASE)
CONDITION = re.compile(r"^\s*(?:if|unless|suppose|imagine|for (?:instance|example),? if)\b", re.I)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence folded for matching, and where it begins in the message."""

    text: str
    start: int

    @property
    def is_claim(self) -> bool:
        """Questions and conditionals assert nothing."""
        return not (self.text.rstrip().endswith("?") or CONDITION.match(self.text))


def sentences(message: str) -> Iterator[Sentence]:
    """Sentences of a message, markup blanked out."""
    folded = MARKUP.sub(lambda m: " " * len(m.group()), message).replace("’", "'")
    for match in SENTENCE.finditer(folded):
        if match.group().strip():
            yield Sentence(match.group(), match.start())


@lru_cache(maxsize=1024)
def item_list(items: tuple[str, ...]) -> str:
    """A pattern for one item or a list of them: `the Apple, the Quill and the Stone`."""
    names = "|".join(re.escape(item) for item in sorted(items, key=len, reverse=True))
    one = rf"(?:(?:the|both the|both)\s+)?\b(?:{names})s?\b"
    return rf"{one}(?:\s*(?:,\s*(?:and\s+)?|and\s+|&\s*|\+\s*){one})*"


@lru_cache(maxsize=65536)
def named(text: str, items: tuple[str, ...]) -> tuple[int, ...]:
    """Items named in a piece of text, in the order of the game."""
    low = text.lower()
    return tuple(
        j for j, item in enumerate(items) if re.search(rf"\b{re.escape(item.lower())}", low)
    )


@lru_cache(maxsize=1024)
def compiled(items: tuple[str, ...], patterns: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    """Patterns with `ITEMS` and `N` filled in."""
    number = r"(?P<number>\d+(?:\.\d+)?)"
    listed = f"(?P<items>{item_list(items)})"
    return tuple(
        re.compile(
            # Blanked markup leaves runs of spaces.
            p.replace(" ", r"\s+").replace("ITEMS", listed).replace("NUMBER", number),
            re.IGNORECASE,
        )
        for p in patterns
    )
