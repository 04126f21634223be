"""A prompt evaluation: items with their accepted answers, what each arm replied, scores, flips.

Only the built-in scores are made here, and only for the rows on the page: looking must not run a
study's own scorers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peira.families.prompts.data import Item
from peira.families.prompts.evaluated import scoring_rules
from peira.families.prompts.rows import Row, planned_rows, unpack_items
from peira.families.prompts.scoring import RowScore, score
from peira.families.prompts.settings import CONTROL, PromptsSettings
from peira.store.records import TrialView
from peira.web.pages import Query
from peira.web.pages.conversation import cut, paging

ITEMS_PER_PAGE = 25
SHOW = ("all", "flips", "gains", "losses", "not ok")


@dataclass(frozen=True, slots=True)
class Given:
    """One arm's reply to one item in one draw."""

    arm: str
    status: str
    text: str
    score: RowScore | None
    flip: str
    cost: float


@dataclass(frozen=True, slots=True)
class Draw:
    """The arms side by side: one temperature, one sample."""

    temp: float
    sample: int
    given: tuple[Given, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """One item with everything that was answered to it."""

    number: int
    item: Item
    draws: tuple[Draw, ...]

    @property
    def marks(self) -> set[str]:
        """Words it can be filtered by."""
        given = [g for draw in self.draws for g in draw.given]
        flips = {g.flip for g in given if g.flip}
        return {*flips, *({"flips"} if flips else ()),
                *({"not ok"} if any(g.status != "ok" for g in given) else ())}  # fmt: skip


def context(view: TrialView, query: Query) -> dict[str, Any]:
    """A page of items with their rows, scored."""
    events = {event["kind"]: event for event in view.events}
    nothing = {"asked": [], "arms": {}, "page": 1, "pages": 1, "show": "all", "shows": SHOW,
               "statuses": {}, "total": 0}  # fmt: skip
    if "rows" not in events or "items" not in events:
        return nothing
    settings = PromptsSettings.model_validate(view.record.settings)
    reader = Reader(settings, unpack_items(events["items"]), events["rows"])
    show = query.get("show", "all") if query.get("show") in SHOW else "all"
    numbers = reader.chosen(show)
    page, pages = paging(query, len(numbers), ITEMS_PER_PAGE)
    shown = numbers[(page - 1) * ITEMS_PER_PAGE : page * ITEMS_PER_PAGE]
    return nothing | {
        "asked": [reader.asked(number) for number in shown], "page": page, "pages": pages,
        "arms": _arms(events.get("prompts", {})), "show": show, "total": len(numbers),
        "statuses": dict(view.record.outcome or {}).get("rows", {}),
    }  # fmt: skip


def _arms(prompts: Mapping[str, Any]) -> dict[str, str]:
    return {arm: cut(str(data.get("text") or "(no system prompt)"))
            for arm, data in prompts.get("arms", {}).items()}  # fmt: skip


class Reader:
    """Rows of a trial by item, scored on demand."""

    def __init__(
        self, settings: PromptsSettings, items: Sequence[Item], columns: Mapping[str, Any]
    ) -> None:
        self.items, self.columns = items, columns
        self.rules = scoring_rules(settings, own=False)
        self.by_item: dict[int, list[tuple[int, Row]]] = {}
        for place, row in enumerate(planned_rows(settings, len(items))):
            self.by_item.setdefault(row.item, []).append((place, row))

    def chosen(self, show: str) -> list[int]:
        """Numbers of the items to show."""
        if show == "all":
            return list(self.by_item)
        return [number for number in self.by_item if show in self._marks(self.asked(number))]

    @staticmethod
    def _marks(asked: Asked) -> set[str]:
        names = {"gain": "gains", "loss": "losses"}
        return {names.get(mark, mark) for mark in asked.marks}

    def asked(self, number: int) -> Asked:
        """One item with its draws."""
        item = self.items[number]
        draws: dict[tuple[float, int], list[tuple[str, int]]] = {}
        for place, row in self.by_item[number]:
            draws.setdefault((row.temp, row.sample), []).append((row.arm, place))
        return Asked(number, item, tuple(
            Draw(temp, sample, self._given(item, arms)) for (temp, sample), arms in draws.items()
        ))  # fmt: skip

    def _given(self, item: Item, arms: list[tuple[str, int]]) -> tuple[Given, ...]:
        status, texts, costs = (self.columns[n] for n in ("status", "text", "cost"))
        scores = {
            arm: score(item, texts[place], self.rules) if status[place] == "ok" else None
            for arm, place in arms
        }
        control = scores.get(CONTROL)
        return tuple(
            Given(arm, status[place], cut(texts[place]), scores[arm],
                  "" if arm == CONTROL else flip(control, scores[arm]), (costs[place] or 0) / 1e6)
            for arm, place in arms
        )  # fmt: skip


def flip(control: RowScore | None, arm: RowScore | None) -> str:
    """`gain` or `loss` when an arm turned the control's answer round; empty otherwise."""
    if control is None or arm is None or control.em is None or arm.em is None:
        return ""
    return "gain" if arm.em > control.em else "loss" if arm.em < control.em else ""
