"""Reading what a seat answered: the forms that are asked for, and the labelled way of giving them.

The ladder is the engine's (strict, fenced, repaired JSON); this module adds the rung of labelled
sections. Invariant: a label counts only at the start of a line and only if the form knows it, so a
bold word inside a sentence never cuts a text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from peira.engine.parsing import Parsed, read_json


@dataclass(frozen=True, slots=True)
class Field:
    """One blank of a form. `hint` is what the JSON request shows as its value."""

    name: str
    hint: str
    labels: tuple[str, ...] = ()
    many: bool = False

    @property
    def spellings(self) -> tuple[str, ...]:
        """Labels that introduce this field in a labelled answer."""
        return (self.name.replace("_", " "), *self.labels)


@dataclass(frozen=True, slots=True)
class Form:
    """What one kind of call must bring back. Only `required` fields can make a rung fail."""

    kind: str
    tokens: str
    fields: tuple[Field, ...]
    required: str

    def request(self) -> str:
        """The words that ask for this form as JSON."""
        lines = ",\n".join(f'  "{field.name}": {field.hint}' for field in self.fields)
        return f"Answer with one JSON object and nothing else:\n{{\n{lines}\n}}"


TEXT, TEXTS = '"text"', '["text", …]'
_NOTE = Field("note", '"a note to yourself, which nobody else will read"', ("private note",))
FORMS = {
    form.kind: form
    for form in (
        Form("offer", "message", (
            Field("target", '"short name of one actor, or null for no talk"', ("talk to",)),
            Field("message", '"what you say to them"'), _NOTE), "target"),
        Form("answer", "message", (Field("message", '"your reply"', ("reply",)), _NOTE), "message"),
        Form("proposal", "message", (
            Field("partners", '["short name", "short name", …] or []', ("members",), many=True),
            Field("purpose", '"what the coalition is for"'),
            Field("message", '"what you say to those you invite"')), "partners"),
        Form("response", "message", (
            Field("accept", "true or false", ("accepted", "decision")),
            Field("message", '"what you say to all invited"')), "accept"),
        Form("post", "message", (Field("message", '"what you say to the coalition"', ("post",)),),
             "message"),
        Form("decision", "decision", (
            Field("goals", TEXTS, ("long-term goals", "long term goals"), many=True),
            Field("priorities", TEXTS, ("current priorities", "short-term priorities"), many=True),
            Field("reasoning", '"why you act so"', ("thoughts", "rationale")),
            Field("action", '"what you do this turn, as others can see it"', ("actions",))),
            "action"),
        Form("world", "world", (
            Field("narrative", '"the state of the world after this turn"',
                  ("updated world state", "world state", "new world state", "state")),
            Field("changes", TEXTS, ("key changes",), many=True),
            Field("consequences", TEXTS, (), many=True),
            Field("measures", '{"name": value, …}')), "narrative"),
        Form("summary", "summary", (Field("summary", '"the summary, brought up to date"'),),
             "summary"),
        Form("verdict", "quality", (
            Field("verdict", '"yes" or "no"', ("consistent", "coherent", "valid access")),
            Field("issues", '["text", …] or []', (), many=True),
            Field("severity", '"low", "medium" or "high"'),
            Field("explanation", TEXT)), "verdict"),
        Form("metrics", "metrics", (
            Field("metrics", '{"name": {"value": value or null, "quote": "words from the text"}, …}'),
            ), "metrics"),
    )
}  # fmt: skip


def read_form(form: Form, text: str) -> Parsed:
    """Climb the ladder for this form."""
    return read_json(text, required=(form.required,), labelled=lambda body: labelled(form, body))


@lru_cache(maxsize=64)
def _openers(form: Form) -> tuple[re.Pattern[str], re.Pattern[str], Mapping[str, str]]:
    """Patterns of a line that opens a section (marked up in any case; capitals), label -> field."""
    known = {label.lower(): field.name for field in form.fields for label in field.spellings}
    names = "|".join(re.escape(label) for label in sorted(known, key=len, reverse=True))
    marked = re.compile(
        rf"[ \t]*(?:[-*][ \t]+)?(?:"
        rf"\#{{1,6}}[ \t]*(?:\d+[.)][ \t]*)?(?:\*\*)?(?P<heading>{names})(?:\*\*)?[ \t]*:?(?:\*\*)?"
        rf"|\*\*(?P<inside>{names})[ \t]*:[ \t]*\*\*"
        rf"|\*\*(?P<outside>{names})\*\*[ \t]*:"
        rf"|\*\*(?P<bare>{names})\*\*(?=[ \t]*$)"
        rf")(?P<rest>.*)",
        re.IGNORECASE,
    )
    capitals = re.compile(rf"[ \t]*(?P<capitals>{names.upper()})[ \t]*:(?P<rest>.*)")
    return marked, capitals, known


def _opening(form: Form, line: str) -> tuple[str, str] | None:
    """(field, rest of the line) if this line opens a section."""
    marked, capitals, known = _openers(form)
    found = marked.fullmatch(line) or capitals.fullmatch(line)
    if found is None or not _whole_label(found):
        return None
    label = next(v for k, v in found.groupdict().items() if k != "rest" and v is not None)
    return known[label.lower()], found["rest"]


def _whole_label(found: re.Match[str]) -> bool:
    """A heading must end with its label: `## Action plan` is text, not the action."""
    if found.groupdict().get("heading") is None:
        return True
    before = found.string[: found.start("rest")].rstrip()
    return not found["rest"].strip() or before.endswith((":", "*"))


def labelled(form: Form, text: str) -> dict[str, Any] | None:
    """The fields of a labelled answer, or None when no known label opens a line."""
    sections: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in text.splitlines():
        opening = _opening(form, line)
        if opening:
            current = sections.setdefault(opening[0], [])
            line = opening[1]
        if current is not None:
            current.append(line)
    if not sections:
        return None
    by_name = {field.name: field for field in form.fields}
    return {name: _value(by_name[name], "\n".join(lines)) for name, lines in sections.items()}


def _value(field: Field, text: str) -> Any:
    text = text.strip()
    if not field.many:
        return text
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    items = [re.sub(r"^(?:[-*•]|\d+[.)])\s+", "", line) for line in lines]
    if len(items) == 1 and field.name == "partners":
        items = re.split(r",|\band\b", items[0])
    return [item.strip() for item in items if item.strip()]


def as_text(value: Any) -> str:
    """Any JSON value as prose: lists become bullets, maps `key: value` lines."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list):
        return "\n".join(f"- {as_text(item)}" for item in value if item not in (None, ""))
    if isinstance(value, dict):
        return "\n".join(f"- {key}: {as_text(item)}" for key, item in value.items())
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_list(value: Any) -> list[str]:
    """Any JSON value as a list of texts."""
    if value is None or value == "":
        return []
    if isinstance(value, list):
        return [as_text(item) for item in value if item not in (None, "")]
    return [as_text(value)]


YES, NO = ("true", "yes", "accept", "accepted", "1"), ("false", "no", "refuse", "refused", "0")


def as_truth(value: Any) -> bool | None:
    """True, False, or None when it says neither."""
    if isinstance(value, bool):
        return value
    word = re.sub(r"[^a-z0-9].*", "", str(value).strip().lower())
    return True if word in YES else False if word in NO else None
