"""Does a reply decline to answer? One grammar, read from phrases.yaml, for every part of Peira.

Invariant: the phrase the instruction asks for is always recognised, a hedge after it ("…, but
perhaps Paris") always makes it an answer, and a title that holds such words is never caught.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

PHRASES = Path(__file__).with_name("phrases.yaml")
APOSTROPHES = dict.fromkeys(map(ord, "'’‘‛ʼʻ`´′‵＇ʹˈ"))
BOUNDARY = "."  # the one token that stands for the end of a clause
STOPS = re.compile(r"[.,;:!?\n\r…。、，；：！？]+")


@dataclass(frozen=True, slots=True)
class Grammar:
    """The compiled table. `rules` names each pattern group of `pattern`."""

    version: int
    pattern: re.Pattern[str]
    rules: dict[str, str]
    contractions: dict[str, str]
    hedges: frozenset[str]


def fold(text: str, contractions: dict[str, str]) -> str:
    """Words and boundaries, separated by single spaces."""
    folded = unicodedata.normalize("NFKC", text.translate(APOSTROPHES)).casefold()
    folded = STOPS.sub(" \x00 ", folded.translate(APOSTROPHES))
    words: list[str] = []
    for word in _spaced(folded).split():
        words += [BOUNDARY] if word == "\x00" else contractions.get(word, word).split()
    while words and words[0] == BOUNDARY:
        del words[0]
    return " ".join(words)


def _spaced(text: str) -> str:
    """Dashes become boundaries, other punctuation and symbols spaces."""
    if text.isascii() and text.replace(" ", "").replace("\x00", "").isalnum():
        return text
    return "".join(_mark(char) for char in text)


@lru_cache(maxsize=4096)
def _mark(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Pd":
        return " \x00 "
    return " " if category[0] in "PS" else char


class AbstentionDetector:
    """Says by which rule a reply abstains, if it does."""

    def __init__(self, phrase: str = "I don't know.") -> None:
        self.grammar = load_grammar()
        self.phrase = fold(phrase, self.grammar.contractions).rstrip(" " + BOUNDARY)

    def rule(self, text: str) -> str | None:
        """The rule that makes the reply an abstention, or None for an answer."""
        folded = fold(text, self.grammar.contractions)
        end, rule = self._configured(folded)
        if rule is None:
            match = self.grammar.pattern.match(folded)
            if match is None or match.lastgroup is None:
                return None
            end, rule = match.end(), self.grammar.rules[match.lastgroup]
        later = folded[end:].split()
        return None if self.grammar.hedges.intersection(later) else rule

    def _configured(self, folded: str) -> tuple[int, str | None]:
        """The study's own phrase: alone, or before a boundary."""
        if self.phrase and folded.startswith(self.phrase):
            rest = folded[len(self.phrase) :]
            if not rest or rest.startswith(" " + BOUNDARY):
                return len(self.phrase), "phrase"
        return 0, None


@lru_cache(maxsize=1)
def load_grammar() -> Grammar:
    """phrases.yaml, compiled."""
    import yaml

    table = yaml.safe_load(PHRASES.read_text("utf-8"))
    rules: dict[str, str] = {}
    source = _source(table["source"])
    stop = rf"(?: {re.escape(BOUNDARY)})*"
    openers = "|".join(_words(p, source) for p in table["openers"])
    where = "|".join(table["whole_sources"])
    clause = "|".join([*map(re.escape, table["clause_words"]), re.escape(BOUNDARY)])
    tails = {
        "whole": rf"(?: (?:{where}) {source})?{stop}$",
        "heads": r"(?= |$)",
        "heads_before_clause": rf"(?= (?:{clause})(?: |$)|$)",
    }
    groups = [
        _group(kind, pattern, tail, source, rules)
        for kind, tail in tails.items()
        for pattern in table[kind]
    ]
    pattern = re.compile(rf"(?:(?:{openers}){stop} )*(?:{'|'.join(groups)})")
    return Grammar(
        table["version"], pattern, rules, dict(table["contractions"]), frozenset(table["hedges"])
    )


def _group(kind: str, pattern: str, tail: str, source: str, rules: dict[str, str]) -> str:
    name = f"r{len(rules)}"
    rules[name] = f"{'whole' if kind == 'whole' else 'head'}: {pattern}"
    return f"(?P<{name}>{_words(pattern, source)}{tail})"


def _source(table: dict[str, list[str]]) -> str:
    determiner, adjective, noun = (
        "|".join(table[name]) for name in ("determiners", "adjectives", "nouns")
    )
    return f"(?:{determiner})(?: (?:{adjective}))? (?:{noun})"


def _words(pattern: str, source: str) -> str:
    """A table pattern as a regular expression over folded text."""
    parts = []
    for optional, plain in re.findall(r"\(([^)]*)\)|(\S+)", pattern):
        if optional:
            parts.append(f"(?:{' '.join(map(_word, optional.split()))} )?")
        else:
            parts.append((source if plain == "{X}" else _word(plain)) + " ")
    return "".join(parts).removesuffix(" ")


def _word(word: str) -> str:
    choices = [re.escape(choice) for choice in word.split("/")]
    return choices[0] if len(choices) == 1 else f"(?:{'|'.join(choices)})"


def phrases() -> list[str]:
    """Plain abstentions for the simulated respondent, each known to the detector."""
    return [
        "I don't know.", "Unknown.", "I can't answer that.", "No answer.",
        "I am not sure.", "The passage does not say.", "Not stated in the passage.",
        "I have no idea.", "There is not enough information.", "Unfortunately, I don't know.",
        "Unanswerable", "It cannot be determined from the passage.",
    ]  # fmt: skip
