"""A run's rows, read back and scored: what every table, test and figure starts from.

Invariant: derived from run.db and the analysis settings alone, so it can be made again at any time;
only `ok` rows have scores, and a score that does not apply is NaN in memory and empty in files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from peira.families.prompts.abstention import AbstentionDetector
from peira.families.prompts.costs import RowCosts, row_costs
from peira.families.prompts.data import TYPES, Item, ItemType
from peira.families.prompts.rows import STATUSES, Row, planned_rows, unpack_items
from peira.families.prompts.scoring import (
    NORMALISERS,
    RowScore,
    ScoringRules,
    Unsupported,
    asks_models,
    load_function,
    load_scorer,
    score,
)
from peira.families.prompts.settings import CONTROL, METRICS, AnalysisSettings, PromptsSettings
from peira.families.prompts.trial import analysis_digest

if TYPE_CHECKING:
    from peira.store.records import Record, RunView

Array = NDArray[Any]


@dataclass
class TrialData:
    """One trial: its items, rows in columns, and their scores. Row arrays have the shape
    items × draws × arms; a draw is one sample at one temperature."""

    record: Record
    settings: PromptsSettings
    items: list[Item]
    arms: Mapping[str, Mapping[str, Any]]
    columns: Mapping[str, Any]
    scores: list[RowScore | None]
    costs: RowCosts
    post_hoc: bool = False
    token_method: str = ""
    judged: Mapping[str, list[Any]] = field(default_factory=dict)
    joined: bool = False  # made of several prompt sets (see `across`)

    @property
    def arm_names(self) -> list[str]:
        return list(self.arms)

    @property
    def shape(self) -> tuple[int, int, int]:
        draws = sum(self.settings.samples(temp) for temp in self.settings.temps)
        return len(self.items), draws, len(self.arms)

    @cached_property
    def rows(self) -> list[Row]:
        return list(planned_rows(self.settings, len(self.items)))

    def column(self, name: str, kind: type = float) -> Array:
        """What is stored of each row under a name, items × draws × arms; None is NaN of floats."""
        return np.array(self.columns[name], dtype=kind).reshape(self.shape)

    @cached_property
    def usd(self) -> Array:
        """US dollars of each row, items × draws × arms."""
        return np.array(self.costs.usd, dtype=float).reshape(self.shape)

    @cached_property
    def status(self) -> Array:
        """Status of each row, items × draws × arms."""
        return self.column("status", object)

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Built-in metrics, then those of the study's scorers."""
        extra = dict.fromkeys(n for s in self.scores if s is not None for n in s.extra)
        return (*METRICS, *extra)

    def values(self, metric: str) -> Array:
        """Scores of one metric, NaN where a row has none, items × draws × arms."""
        if metric not in self._values:
            self._values[metric] = np.array(
                [np.nan if s is None else _value(s, metric) for s in self.scores]
            ).reshape(self.shape)
        return self._values[metric]

    @cached_property
    def _values(self) -> dict[str, Array]:
        return {}

    def draws(self, temp: float) -> slice:
        """The draws that belong to one temperature."""
        start = 0
        for other in self.settings.temps:
            stop = start + self.settings.samples(other)
            if other == temp:
                return slice(start, stop)
            start = stop
        raise KeyError(temp)

    @cached_property
    def cluster(self) -> Array:
        return np.array([item.cluster for item in self.items], dtype=object)

    def of_type(self, kind: ItemType) -> Array:
        """Indices of the items of one type."""
        return np.array([n for n, item in enumerate(self.items) if item.type == kind], dtype=int)

    @property
    def types(self) -> list[ItemType]:
        return [kind for kind in TYPES if any(item.type == kind for item in self.items)]

    @cached_property
    def counts(self) -> dict[str, int]:
        """Rows by status, from what is stored; planned is their sum."""
        return {name: self.columns["status"].count(name) for name in STATUSES}


FIELD = {
    "em": "em", "f1": "f1", "abstain_rate": "abstained", "false_answer_rate": "false_answer",
    "unsupported_rate": "unsupported",
}  # fmt: skip


def _value(row: RowScore, metric: str) -> float:
    value = getattr(row, FIELD[metric]) if metric in FIELD else row.extra.get(metric)
    return np.nan if value is None else float(value)


@dataclass(eq=False)
class Evaluated:
    """All trials of a run that hold rows, in planned order, and every planned record."""

    trials: list[TrialData]
    records: list[Record]
    analysis: AnalysisSettings

    @property
    def done(self) -> list[TrialData]:
        """Trials that may be compared."""
        return [trial for trial in self.trials if trial.record.done]


_kept: dict[tuple[Any, ...], Evaluated] = {}


def evaluate(run: RunView) -> Evaluated:
    """The run's rows and scores; kept for the next caller while nothing in run.db changes."""
    records = list(run.records())
    key = (
        str(run.path.resolve()),
        *((r.number, str(r.state), r.attempts, r.finished, r.cell_number) for r in records),
        repr([r.settings.get("analysis") for r in records[:1]]),
    )
    if key not in _kept:
        _kept.clear()
        _kept[key] = _evaluate(run, records)
    return _kept[key]


def _evaluate(run: RunView, records: list[Record]) -> Evaluated:
    subjects = run.meta.get("manifest", {}).get("subjects", {})
    paid: set[str] = set()
    told = (_trial(run, record, subjects, paid) for record in records)
    trials = [trial for trial in told if trial is not None]
    return Evaluated(trials, records, trials[0].settings.analysis if trials else AnalysisSettings())


def _trial(
    run: RunView, record: Record, subjects: Mapping[str, Any], paid: set[str]
) -> TrialData | None:
    """A trial's rows as last stored, or None if it never started."""
    told = run.events(record.number)
    events = {event["kind"]: event for event in told}
    if "rows" not in events or "items" not in events:
        return None
    settings = PromptsSettings.model_validate(record.settings)
    items = unpack_items(events["items"])
    columns, prompts = events["rows"], events["prompts"]
    judged = {event["scorer"]: event["scores"] for event in told if event["kind"] == "judged"}
    rows = list(planned_rows(settings, len(items)))
    return TrialData(
        record, settings, items, prompts["arms"], columns,
        score_rows(settings, items, rows, columns, judged),
        row_costs(settings, columns, subjects.get(settings.resolved_model, {}), paid),
        prompts["analysis"] != analysis_digest(settings.analysis),
        prompts["token_method"], judged,
    )  # fmt: skip


def scoring_rules(settings: PromptsSettings, *, own: bool = True) -> ScoringRules:
    """The rules of a study, without code of its own unless `own`. Raises InputError for a scorer
    that cannot be loaded."""
    analysis, asked = settings.analysis, settings.analysis.unsupported
    nli = asked.nli_scorer if own else None
    scorers = [load_scorer(name) for name in (analysis.scoring.scorers if own else ())]
    return ScoringRules(
        AbstentionDetector(settings.abstain_phrase), NORMALISERS[analysis.scoring.normalise],
        Unsupported(asked.strategy, asked.threshold, asked.min_token_overlap,
                    load_function(nli, "unsupported.nli_scorer") if nli else None),
        tuple(scorer for scorer in scorers if not asks_models(scorer)),
    )  # fmt: skip


def score_rows(
    settings: PromptsSettings,
    items: Sequence[Item],
    rows: Sequence[Row],
    columns: Mapping[str, Any],
    judged: Mapping[str, list[Any]],
) -> list[RowScore | None]:
    """A score for every `ok` row, None for the others; equal replies to an item score once."""
    rules = scoring_rules(settings)
    known: dict[tuple[int, str], RowScore] = {}
    found: list[RowScore | None] = []
    for number, (row, status, text) in enumerate(
        zip(rows, columns["status"], columns["text"], strict=True)
    ):
        if status != "ok":
            found.append(None)
            continue
        key = (row.item, text)
        if key not in known:
            known[key] = score(items[row.item], text, rules)
        row_score = known[key]
        for scores in judged.values():
            row_score = replace(row_score, extra={**row_score.extra, **(scores[number] or {})})
        found.append(row_score)
    return found


def comparisons(trial: TrialData) -> Iterator[tuple[float, ItemType, str, str]]:
    """(temperature, type, arm, reference) of every comparison of a trial, in order. Of joined
    prompt sets only the pairs that no set has by itself."""
    arms = [arm for arm in trial.arm_names if arm != CONTROL]
    pairs = [] if trial.joined else [(arm, CONTROL) for arm in arms]
    if trial.settings.analysis.stats.compare == "all":
        every = [(second, first) for n, first in enumerate(arms) for second in arms[n + 1 :]]
        sets = {arm: arm.partition(".")[0] for arm in arms}  # of a joined trial's `set.arm`
        pairs += [p for p in every if not trial.joined or sets[p[0]] != sets[p[1]]]
    for temp in trial.settings.temps:
        for kind in trial.types:
            for arm, reference in pairs:
                yield temp, kind, arm, reference
