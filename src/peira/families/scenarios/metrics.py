"""Reading quantities from a turn: patterns, keywords, functions, the writer's measures, a model.

Invariant: a value that was not found is missing, with the reason; it is never 0 and never False
(except where absence is the answer: counts, presence, a boolean pattern without a group).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from peira.families.scenarios.conditions import Value, parse_comparison
from peira.families.scenarios.parse import as_text
from peira.families.scenarios.settings import Metric, Scenario
from peira.families.scenarios.state import Measure, Turn

TIME_LIMIT = 1.0  # seconds a pattern may search one text
TRUE, FALSE = ("true", "yes", "1", "enabled"), ("false", "no", "0", "disabled")


@dataclass(frozen=True, slots=True)
class Text:
    """One text of a turn, and where it comes from (`actions:regulator`, `world`, …)."""

    source: str
    text: str


@dataclass(frozen=True, slots=True)
class TurnView:
    """What a metric function is given."""

    turn: int
    actions: Mapping[str, str]
    reasoning: Mapping[str, str]
    messages: Mapping[str, tuple[str, ...]]
    world: str
    measures: Mapping[str, Any]
    events: tuple[str, ...]
    values: Mapping[str, Value | None]


def series(scenario: Scenario, llm: bool | None = None) -> dict[str, tuple[Metric, str | None]]:
    """Series name -> (metric, actor's short name or None), those of a model only or never."""
    found: dict[str, tuple[Metric, str | None]] = {}
    for name, metric in scenario.metrics.items():
        if llm is not None and (metric.extraction_method == "llm") != llm:
            continue
        if not metric.actor_specific:
            found[name] = (metric, None)
        elif metric.actor is not None:
            found[name] = (metric, _short(scenario, metric.actor))
        else:
            found |= {f"{name}@{short}": (metric, short) for short in scenario.shorts}
    return found


def _short(scenario: Scenario, name: str) -> str:
    return next(a.short_name for a in scenario.actors if name in (a.short_name, a.name))


def texts(metric: Metric, turn: Turn, actor: str | None) -> list[Text]:
    """The texts a metric reads, in the order of its sources; an actor's own when it has one."""
    return [text for source in metric.source for text in _source(source, turn, actor)]


def _source(source: str, turn: Turn, actor: str | None) -> list[Text]:
    if source == "world":
        known = actor is None and turn.world is not None
        return [Text("world", turn.world.text())] if known and turn.world else []
    if source == "messages":
        return [
            Text(f"messages:{author}", text)
            for author, text in _messages(turn)
            if actor in (None, author)
        ]
    field = "action" if source == "actions" else "reasoning"
    return [
        Text(f"{source}:{short}", getattr(decision, field))
        for short, decision in turn.decisions.items()
        if actor in (None, short)
    ]


def _messages(turn: Turn) -> list[tuple[str, str]]:
    said = [(s.author, s.text) for channel in turn.channels for s in channel.said]
    for coalition in turn.coalitions:
        said += [(s.author, s.text) for s in coalition.invitations]
        said += [(short, message) for short, (_, message) in coalition.responses.items()]
        said += [(s.author, s.text) for s in coalition.posts]
    return said


# -- measuring a turn ------------------------------------------------------------------
def measure(
    scenario: Scenario, turn: Turn, before: Turn | None, answers: Mapping[str, Measure]
) -> dict[str, Measure]:
    """Every series of this turn. `answers` holds the model's readings, by series."""
    past = before.metrics if before is not None else {}
    found: dict[str, Measure] = {}
    for name, (metric, actor) in series(scenario).items():
        value = _initial(metric, turn) or _asked(metric, name, turn) or answers.get(name)
        if value is None:
            value = _read(scenario, metric, actor, turn, past)
        found[name] = carried(metric, value, past.get(name))
    return found


def _initial(metric: Metric, turn: Turn) -> Measure | None:
    if turn.number == 0 and metric.initial is not None:
        value = metric.initial
        return Measure(float(value) if metric.kind == "float" else value, source="initial")
    return None


def _asked(metric: Metric, name: str, turn: Turn) -> Measure | None:
    """The writer's own entry, if it was asked for one and gave a usable one."""
    if not metric.ask_writer or turn.world is None:
        return None
    entry = turn.world.measures.get(name)
    if entry is None:
        return None
    found = converted(metric, entry, "measures", as_text(entry))
    return found if found.reason is None else None


def _read(
    scenario: Scenario, metric: Metric, actor: str | None, turn: Turn, past: Mapping[str, Measure]
) -> Measure:
    if metric.extraction_method == "manual":
        return Measure(None, "not_coded")
    if metric.extraction_method == "llm":
        return Measure(None, "no_match")
    if metric.extraction_method == "python":
        return _function(scenario, metric, turn, past)
    read = _pattern if metric.extraction_method == "regex" else _keywords
    return read(metric, texts(metric, turn, actor))


def carried(metric: Metric, value: Measure, last: Measure | None) -> Measure:
    """A gap filled with the last measured value, marked with its age, where the metric says so."""
    if value.value is not None or metric.carry == "none" or last is None or last.value is None:
        return value
    return Measure(last.value, value.reason, True, last.age + 1, last.source, last.evidence)


# -- regex -----------------------------------------------------------------------------
@lru_cache(maxsize=256)
def _compiled(pattern: str, ignore_case: bool) -> Any:
    import regex

    return regex.compile(pattern, regex.IGNORECASE if ignore_case else 0)


def _pattern(metric: Metric, sources: list[Text]) -> Measure:
    compiled = _compiled(metric.pattern or "", metric.ignore_case)
    hit: tuple[Text, Any] | None = None
    for text in sources:
        try:
            for match in compiled.finditer(text.text, timeout=TIME_LIMIT):
                hit = (text, match)
                if metric.match == "first":
                    break
        except TimeoutError:
            return Measure(None, "regex_timeout", source=text.source)
        if hit is not None and metric.match == "first":
            break
    if metric.kind == "bool" and compiled.groups == 0:
        return Measure(hit is not None, source=hit[0].source if hit else "")
    if hit is None:
        return Measure(None, "no_match")
    text, match = hit
    return converted(metric, _matched(metric, match), text.source, match.group(0))


def _matched(metric: Metric, match: Any) -> str:
    """Template, else the group `value`, else the first group that took part, else everything."""
    if metric.template is not None:
        return re.sub(r"\{(\w+)\}", lambda m: _group(match, m[1]), metric.template)
    if match.groupdict().get("value") is not None:
        return str(match.group("value"))
    return str(next((group for group in match.groups() if group is not None), match.group(0)))


def _group(match: Any, name: str) -> str:
    found = match.group(int(name) if name.isdigit() else name)
    return "" if found is None else str(found)


# -- keywords --------------------------------------------------------------------------
def _keywords(metric: Metric, sources: list[Text]) -> Measure:
    if not sources:
        return Measure(None, "no_match")
    text = "\n".join(source.text for source in sources)
    where = ",".join(dict.fromkeys(source.source.partition(":")[0] for source in sources))
    if isinstance(metric.keywords, dict):
        return _category(
            {name: _hits(words, text) for name, words in metric.keywords.items()}, where
        )
    hits = _hits(metric.keywords or [], text)
    if metric.scoring == "presence" or metric.kind == "bool":
        return converted(metric, hits > 0 if metric.kind == "bool" else int(hits > 0), where, "")
    if metric.scoring == "density":
        words = len(re.findall(r"\w+", text))
        return converted(metric, 1000 * hits / words if words else 0.0, where, "")
    return converted(metric, hits, where, f"{hits} hits")


def _hits(words: list[str], text: str) -> int:
    if not words:
        return 0
    joined = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return len(re.findall(rf"(?<!\w)(?:{joined})(?!\w)", text, re.IGNORECASE))


def _category(hits: Mapping[str, int], where: str) -> Measure:
    most = max(hits.values(), default=0)
    winners = [name for name, count in hits.items() if count == most]
    if most == 0:
        return Measure(None, "no_match", source=where)
    if len(winners) > 1:
        return Measure(None, "tie", source=where, evidence=", ".join(winners))
    return Measure(winners[0], source=where, evidence=f"{most} hits")


# -- functions -------------------------------------------------------------------------
@lru_cache(maxsize=64)
def _namespace(file: str, code: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": f"peira_metric_{file.removesuffix('.py')}"}
    exec(compile(code, file, "exec"), namespace)  # the scenario author's own file
    return namespace


def _function(
    scenario: Scenario, metric: Metric, turn: Turn, past: Mapping[str, Measure]
) -> Measure:
    file, _, name = (metric.function or "").partition(":")
    try:
        value = _namespace(file, scenario.functions[file])[name](view(turn, past))
    except Exception as error:  # noqa: BLE001 - a metric's fault is a missing value, with its text
        return Measure(
            None, "error", source=file, evidence=f"{type(error).__name__}: {error}"[:200]
        )
    if value is None:
        return Measure(None, "no_match", source=file)
    return converted(metric, value, file, "")


def view(turn: Turn, past: Mapping[str, Measure]) -> TurnView:
    """A turn as a metric function sees it."""
    messages: dict[str, tuple[str, ...]] = {}
    for author, text in _messages(turn):
        messages[author] = (*messages.get(author, ()), text)
    return TurnView(
        turn.number,
        {short: decision.action for short, decision in turn.decisions.items()},
        {short: decision.reasoning for short, decision in turn.decisions.items()},
        messages,
        turn.world.text() if turn.world else "",
        dict(turn.world.measures) if turn.world else {},
        tuple(turn.events),
        {name: value.value for name, value in past.items()},
    )


# -- conversion ------------------------------------------------------------------------
def converted(metric: Metric, raw: Any, source: str, evidence: str) -> Measure:
    """The raw reading as the metric's type, or missing with the reason."""
    if raw is None:
        return Measure(None, "null_answer", source=source)
    value = _CONVERT[metric.kind](metric, raw)
    found = Measure(value, None, source=source, evidence=evidence[:200])
    if value is None:
        return replace(found, reason="bad_type")
    if metric.range and not metric.range[0] <= float(value) <= metric.range[1]:
        return replace(found, value=None, reason="out_of_range")
    return found


def number(raw: Any) -> float | None:
    """A finite number from a number or text: "1,000", "3.5", "1e5", "10^25", "2 x 10^3"."""
    if isinstance(raw, bool):
        return None
    text = str(raw).strip().replace("−", "-")
    if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?", text):
        text = text.replace(",", "")
    power = re.fullmatch(r"(?:([+-]?\d+(?:\.\d+)?)\s*[x×*]\s*)?10\s*\^\s*([+-]?\d+)", text)
    if power:
        text = f"{power[1] or 1}e{power[2]}"
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def _integer(metric: Metric, raw: Any) -> int | None:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    value = number(raw)
    return int(value) if value is not None and value.is_integer() else None


def _truth(metric: Metric, raw: Any) -> bool | None:
    word = str(raw).strip().lower()
    return True if word in TRUE else False if word in FALSE else None


def _level(metric: Metric, raw: Any) -> str | None:
    word = str(raw).strip().lower()
    return next((level for level in metric.levels if level.lower() == word), None)


_CONVERT: dict[str, Any] = {
    "int": _integer, "float": lambda metric, raw: number(raw), "bool": _truth,
    "categorical": _level,
    "str": lambda metric, raw: str(raw).strip() or None if isinstance(raw, str | int | float)
    else None,
}  # fmt: skip


# -- over the trial --------------------------------------------------------------------
def final(
    metric: Metric, values: list[Measure], start: Measure | None
) -> tuple[Value | None, str | None]:
    """The run value and, if it is missing, the reason. `values` are turns 1 to the end."""
    if not values:
        return None, "no_match"
    if metric.aggregate in ("last", "first"):
        chosen = values[-1] if metric.aggregate == "last" else values[0]
        return chosen.value, None if chosen.value is not None else chosen.reason
    known = [v.value for v in values if v.value is not None]
    if not known:
        return None, values[-1].reason
    if metric.aggregate == "change":
        first = start.value if start is not None and start.value is not None else values[0].value
        if values[-1].value is None or first is None:
            return None, values[-1].reason or values[0].reason
        return values[-1].value - first, None  # type: ignore[operator]
    if metric.aggregate == "mean":
        return sum(known) / len(known), None  # type: ignore[arg-type]
    return {"min": min, "max": max, "sum": sum}[metric.aggregate](known), None  # type: ignore[operator]


def crossings(scenario: Scenario, turns: list[Turn]) -> list[dict[str, Any]]:
    """The first crossing of each threshold: {metric, level, turn}."""
    found = []
    for name, (metric, _) in series(scenario).items():
        for level in ("warning", "critical"):
            comparison = parse_comparison(getattr(metric.thresholds, level))
            if comparison is None:
                continue
            crossed = (
                turn.number for turn in turns
                if name in turn.metrics and comparison.holds(turn.metrics[name].value)
            )  # fmt: skip
            first = next(crossed, None)
            if first is not None:
                found.append({"metric": name, "level": level, "turn": first})
    return found
