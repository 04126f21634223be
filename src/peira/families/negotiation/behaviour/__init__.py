"""Behaviour measured on what agents said and did: rule-checkable claims, promises, consistency, words.

`behaviour_of(events)` reads one game's transcript. Only agents' own words are read, never banners or
prompts. Everything extracted carries its span, so that a reader can check it.
"""

from peira.families.negotiation.behaviour.claims import Found, Truth, extract, judge_claim
from peira.families.negotiation.behaviour.consistency import Consistency
from peira.families.negotiation.behaviour.lexicon import CATEGORIES, count_words
from peira.families.negotiation.behaviour.promises import Promise, extract_promises
from peira.families.negotiation.behaviour.report import Behaviour, behaviour_of

__all__ = [
    "CATEGORIES",
    "Behaviour",
    "Consistency",
    "Found",
    "Promise",
    "Truth",
    "behaviour_of",
    "count_words",
    "extract",
    "extract_promises",
    "judge_claim",
]
