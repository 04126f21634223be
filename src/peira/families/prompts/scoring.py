"""From a reply to its scores: normalise, match, abstention, support by the passage.

Invariant: only a complete reply is scored; a score that does not apply is None, never 0.
Sources: exact match and F1 as in Rajpurkar et al. 2016/2018, with Unicode-aware normalisation.
"""

from __future__ import annotations

import inspect
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from peira.errors import InputError
from peira.families.prompts.abstention import AbstentionDetector
from peira.families.prompts.data import Item

Normaliser = Callable[[str], str]
Scorer = Callable[[Item, str], Mapping[str, float | None]]
ARTICLES = frozenset(("a", "an", "the"))
ASCII_MARKS = str.maketrans("", "", string.punctuation)
SQUAD_ARTICLES = re.compile(r"\b(a|an|the)\b")
STOP_WORDS = frozenset((
    "a", "an", "the", "of", "in", "on", "at", "to", "for", "from", "by", "with", "and", "or",
    "is", "are", "was", "were", "be", "been", "it", "its", "this", "that", "these", "those",
    "as", "he", "she", "they", "his", "her", "their", "i", "you", "we", "not", "no", "do",
    "does", "did", "has", "have", "had",
))  # fmt: skip


def normalise(text: str) -> str:
    """NFKC, casefold, no combining marks U+0300-036F, no punctuation or symbols, single spaces,
    no articles. A step that would leave nothing is skipped."""
    if text.isascii():
        folded = text.lower()
        text = folded.translate(ASCII_MARKS) if _filled(folded, ASCII_MARKS) else folded
    else:
        text = _kept(_without_marks(unicodedata.normalize("NFKC", text).casefold()), _plain)
    words = text.split()
    bare = [word for word in words if word not in ARTICLES]
    return " ".join(bare or words)


def _filled(text: str, table: dict[int, int | None]) -> bool:
    return bool(text.translate(table).strip())


def _without_marks(text: str) -> str:
    def strip(value: str) -> str:
        decomposed = unicodedata.normalize("NFKD", value)
        kept = "".join(char for char in decomposed if not "\u0300" <= char <= "\u036f")
        return unicodedata.normalize("NFC", kept)

    return _kept(text, strip)


def _kept(text: str, step: Callable[[str], str]) -> str:
    changed = step(text)
    return changed if changed.strip() else text


def _plain(text: str) -> str:
    return "".join(char for char in text if not _is_mark(char))


@lru_cache(maxsize=8192)
def _is_mark(char: str) -> bool:
    return unicodedata.category(char)[0] in "PS"


def normalise_squad(text: str) -> str:
    """The official SQuAD rule: lower case, no ASCII punctuation, no articles, single spaces."""
    bare = "".join(char for char in text.lower() if char not in string.punctuation)
    return " ".join(SQUAD_ARTICLES.sub(" ", bare).split())


NORMALISERS: Mapping[str, Normaliser] = {"unicode": normalise, "squad": normalise_squad}


def exact_match(reply: str, golds: Sequence[str], rule: Normaliser = normalise) -> float:
    """1 if any gold equals the reply after normalising."""
    said = rule(reply)
    return float(any(said == rule(gold) for gold in golds))


def f1_score(reply: str, golds: Sequence[str], rule: Normaliser = normalise) -> float:
    """Largest token-multiset F1 over the golds; both empty 1, one empty 0."""
    said = rule(reply).split()
    return max((_token_f1(said, rule(gold).split()) for gold in golds), default=0.0)


def _token_f1(said: list[str], gold: list[str]) -> float:
    if not said or not gold:
        return float(said == gold)
    common = (Counter(said) & Counter(gold)).total()
    return 2 * common / (len(said) + len(gold))


@dataclass(frozen=True, slots=True)
class Unsupported:
    """How an open answer's support by its passage is judged."""

    strategy: Literal["baseline", "overlap", "nli"] = "baseline"
    threshold: float = 0.5
    min_token_overlap: float = 0.6
    entailment: Callable[[str, str], float] | None = None

    def judge(self, item: Item, reply: str) -> float:
        """1 if the answer is not supported by the item's passage."""
        if self.strategy == "nli":
            assert self.entailment is not None
            return float(self.entailment(item.context, reply) < self.threshold)
        said, passage = normalise(reply).split(), normalise(item.context).split()
        if self.strategy == "overlap" and (content := set(said) - STOP_WORDS):
            return float(len(content & set(passage)) / len(content) < self.min_token_overlap)
        return float(not is_token_run(said, passage))


def is_token_run(needle: Sequence[str], hay: Sequence[str]) -> bool:
    """True if the tokens of `needle` stand in `hay` one after another."""
    return f" {' '.join(needle)} " in f" {' '.join(hay)} "


@dataclass(frozen=True, slots=True)
class RowScore:
    """Scores of one complete reply. `false_answer` applies to unanswerable items alone,
    `unsupported` to answered rows with a passage."""

    em: float
    f1: float
    abstained: bool
    abstain_rule: str | None
    false_answer: float | None
    unsupported: float | None
    extra: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScoringRules:
    """All that scoring depends on beside item and reply."""

    detector: AbstentionDetector
    normaliser: Normaliser = normalise
    unsupported: Unsupported = field(default_factory=Unsupported)
    scorers: tuple[Scorer, ...] = ()


def score(item: Item, reply: str, rules: ScoringRules) -> RowScore:
    """Score one complete reply. A reply equal to a gold is never an abstention."""
    matched = exact_match(reply, item.answers, rules.normaliser) if item.answers else 0.0
    rule = None if matched else rules.detector.rule(reply)
    extra = {k: v for scorer in rules.scorers for k, v in scorer(item, reply).items()}
    if rule is not None:
        right = float(item.is_unanswerable)
        false_answer = 0.0 if item.is_unanswerable else None
        return RowScore(right, right, True, rule, false_answer, None, extra)
    unsupported = rules.unsupported.judge(item, reply) if item.context else None
    if item.is_unanswerable:
        return RowScore(0.0, 0.0, False, None, 1.0, unsupported, extra)
    f1 = 1.0 if matched else f1_score(reply, item.answers, rules.normaliser)
    return RowScore(matched, f1, False, None, None, unsupported, extra)


def contains(item: Item, reply: str) -> dict[str, float | None]:
    """Shipped scorer: 1 if a gold is a token run of the reply; separates knowledge from brevity."""
    if item.is_unanswerable:
        return {"contains": None}
    said = normalise(reply).split()
    return {"contains": float(any(is_token_run(normalise(g).split(), said) for g in item.answers))}


def load_scorer(name: str, base: Path | None = None) -> Callable[..., Any]:
    """`contains`, or `file.py:function` from the user's folder. Raises InputError."""
    if name == "contains":
        return contains
    return load_function(name, "scoring.scorers", base)


def load_function(name: str, where: str, base: Path | None = None) -> Callable[..., Any]:
    """A function named `file.py:function`. Raises InputError naming the setting `where`."""
    import runpy

    file, _, function = name.rpartition(":")
    path = (base or Path()) / file
    if not file or not path.is_file():
        raise InputError(f"{where}: {name}\n  allowed: an existing file.py:function")
    found = runpy.run_path(str(path)).get(function)
    if not callable(found):
        raise InputError(f"{path}: no function {function!r}\n  allowed: a function of that name")
    return found  # type: ignore[no-any-return]


def asks_models(scorer: Callable[..., Any]) -> bool:
    """True for a scorer that takes `lab` and is awaited while the trial runs."""
    return inspect.iscoroutinefunction(scorer)
