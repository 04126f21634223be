"""Prompt sets that share their control: one trial of all their arms, so that they can be compared.

Invariant: sets are joined only where the control's rows are the same purchases (equal request
keys): same model, items, decoding, seed. Arms are then called `set.arm`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from peira.families.prompts.evaluated import TrialData
from peira.families.prompts.settings import CONTROL

COLUMNS = ("keys", "status", "text", "usage", "served", "seconds", "asked_at")


def joined(trials: Sequence[TrialData]) -> Iterator[tuple[list[TrialData], TrialData]]:
    """Each group of trials that share a control, and the one trial they make together."""
    groups: dict[tuple[str, ...], list[TrialData]] = {}
    for trial in trials:
        groups.setdefault(tuple(_each_arm(trial, trial.columns["keys"])[0]), []).append(trial)
    for group in groups.values():
        if len({trial.settings.prompt_set for trial in group}) == len(group) > 1:
            yield group, together(group)


def together(group: Sequence[TrialData]) -> TrialData:
    """The shared control and every set's own arms."""
    first = group[0]
    others = ", ".join(trial.settings.prompt_set for trial in group[1:])
    arms = {CONTROL: first.arms[CONTROL]}
    for trial in group:
        name = trial.settings.prompt_set
        arms |= {f"{name}.{arm}": p for arm, p in trial.arms.items() if arm != CONTROL}
    columns = {name: _woven(group, [t.columns[name] for t in group]) for name in COLUMNS}
    usd = _woven(group, [trial.costs.usd for trial in group])
    return replace(
        first,
        record=replace(first.record, slug=f"{first.record.slug} with {others}"),
        arms=arms, columns={**first.columns, **columns},
        scores=_woven(group, [trial.scores for trial in group]),
        costs=replace(first.costs, usd=usd, first=[False] * len(usd)),
        post_hoc=any(trial.post_hoc for trial in group), joined=True,
    )  # fmt: skip


def _woven(group: Sequence[TrialData], columns: Sequence[Sequence[Any]]) -> list[Any]:
    """One column of all arms, rows in the order of a trial: an item's arms side by side."""
    each = [_each_arm(trial, column) for trial, column in zip(group, columns, strict=True)]
    kept = [each[0][0], *(part for arms in each for part in arms[1:])]
    return list(chain.from_iterable(zip(*kept, strict=True)))


def _each_arm(trial: TrialData, column: Sequence[Any]) -> list[Sequence[Any]]:
    """A column of rows, parted by arm; the control comes first."""
    n = len(trial.arms)
    return [column[place::n] for place in range(n)]
