"""What the factors do: effects, interactions, pairs of variations, and how many were asked.

Success and primary metrics against each factor are the confirmatory hypotheses (Holm); everything
else is exploratory (Benjamini-Hochberg). Invariant: one p per hypothesis, and a family's size is
what was planned, not what came out well.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from peira.families.scenarios import factorial, summaries
from peira.families.scenarios.batch import Batch
from peira.stats.effects import standardised_difference
from peira.stats.mcnemar import paired_binary
from peira.stats.multiplicity import benjamini_hochberg, holm
from peira.stats.paired import paired_difference
from peira.stats.result import Estimate
from peira.study.seeds import derive

SUCCESS = "success"
PAIRS_UP_TO = 12


@dataclass(frozen=True)
class Column:
    """One outcome, a value per planned trial. `kind`: numeric, binary or categorical."""

    name: str
    kind: str
    values: tuple[float | None, ...]
    primary: bool = False


@dataclass(frozen=True, slots=True)
class Effect:
    """One tested contrast of an outcome. `role` is confirmatory or exploratory."""

    outcome: str
    factor: str
    a: str
    b: str
    estimate: Estimate
    p: float | None
    kind: str = "effect"
    role: str = "exploratory"
    p_adjusted: float | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As in metrics-analysis.json."""
        estimate = self.estimate
        return {
            "factor": self.factor, "a": self.a, "b": self.b, "diff": estimate.estimate,
            "ci": summaries.limits(estimate), "p": self.p, "p_adjusted": self.p_adjusted,
            "family": self.role, "method": estimate.method, "n": estimate.n,
            "missing": estimate.missing, "reason": estimate.reason, **self.more,
        }  # fmt: skip


def columns(batch: Batch) -> list[Column]:
    """Every outcome of the batch: success (if there are criteria), metrics, their slopes and
    changes."""
    found = []
    if batch.criteria:
        met = tuple(1.0 if trial.success else 0.0 for trial in batch.trials)
        found.append(Column(SUCCESS, "binary", met, True))
    for name, metric in batch.metrics.items():
        if summaries.numeric(metric):
            kind = "binary" if metric.kind == "bool" else "numeric"
            found.append(Column(name, kind, _values(batch, name), metric.primary))
        elif metric.kind == "categorical":
            codes = {level: float(i) for i, level in enumerate(metric.levels)}
            values = tuple(
                codes.get(str(t.final.get(name))) if t.done else None for t in batch.trials
            )
            found.append(Column(name, "categorical", values, metric.primary))
    for name, metric in batch.metrics.items():
        if metric.numeric and batch.length > 1:
            for word, measure in (("slope", summaries.slope), ("change", summaries.change)):
                values = tuple(measure(name, trial) for trial in batch.trials)
                found.append(Column(f"{name} {word}", "numeric", values))
    return found


def _values(batch: Batch, name: str) -> tuple[float | None, ...]:
    return tuple(summaries.as_number(t.final.get(name)) if t.done else None for t in batch.trials)


@dataclass
class Effects:
    """All tests of a batch, adjusted. `confirmatory=False` when the hypotheses were changed."""

    batch: Batch
    frozen: bool = True

    @cached_property
    def columns(self) -> dict[str, Column]:
        """Outcome name -> column."""
        return {column.name: column for column in columns(self.batch)}

    def layout(self, column: Column) -> factorial.Layout:
        """The column as a blocked factorial."""
        trials = self.batch.trials
        factors = {name: [t.factors.get(name, "") for t in trials] for name in self.batch.factors}
        blocks = [trial.replicate for trial in trials]
        return factorial.layout(column.values, factors, blocks, self.batch.factors)

    @cached_property
    def layouts(self) -> dict[str, factorial.Layout]:
        """Outcome name -> layout."""
        return {name: self.layout(column) for name, column in self.columns.items()}

    @cached_property
    def all(self) -> list[Effect]:
        """Every effect, interaction and pair, with adjusted p values."""
        raw = [e for column in self.columns.values() for e in self._of(column)]
        return _adjusted([*raw, *self._pairs()])

    def of(self, outcome: str, *kinds: str) -> list[Effect]:
        """The effects of one outcome, of these kinds."""
        return [e for e in self.all if e.outcome == outcome and (not kinds or e.kind in kinds)]

    @property
    def confirmatory(self) -> list[Effect]:
        """The hypotheses declared beforehand."""
        return [effect for effect in self.all if effect.role == "confirmatory"]

    # -- factors ---
    def _of(self, column: Column) -> list[Effect]:
        data = self.layouts[column.name]
        found: list[Effect] = []
        for factor, levels in data.levels.items():
            found += self._main(column, data, factor, levels)
        if column.kind != "categorical":
            for f, g in itertools.combinations(data.levels, 2):
                found += self._interactions(column, data, f, g)
        return found

    def _role(self, column: Column) -> str:
        return "confirmatory" if column.primary and self.frozen else "exploratory"

    def _seed(self, *parts: str | int) -> int:
        return derive(self.batch.name, "effects", *parts)

    def _main(
        self, column: Column, data: factorial.Layout, factor: str, levels: tuple[str, ...]
    ) -> list[Effect]:
        seed, role = self._seed(column.name, factor), self._role(column)
        if column.kind == "categorical":
            p = factorial.category_p(data, factor, seed=seed)
            shown = Estimate(None, n=data.n, missing=data.missing, method="permutation chi-squared",
                             estimand=f"{factor} and {column.name}", reason="not_identified")  # fmt: skip
            return [Effect(column.name, factor, "all", "levels", shown, p, role=role,
                           more={"test": "permutation chi-squared"})]  # fmt: skip
        found = []
        for a, b in itertools.combinations(range(len(levels)), 2):
            estimate = factorial.contrast(data, factor, a, b, seed=seed + a * 97 + b)
            one = role if len(levels) == 2 else "exploratory"
            found.append(
                Effect(column.name, factor, levels[a], levels[b], estimate, estimate.p, role=one)
            )
        if len(levels) > 2:
            p = factorial.omnibus_p(data, factor, seed=seed)
            widest = max(found, key=lambda e: abs(e.estimate.estimate or 0.0))
            shown = widest.estimate.with_(p=p, estimand=f"{factor}: any level differs")
            more = {"test": f"all {len(levels)} levels alike; the widest contrast is shown"}
            found.append(
                Effect(
                    column.name, factor, widest.a, widest.b, shown, p, "omnibus", role, more=more
                )
            )
        return found

    def _interactions(self, column: Column, data: factorial.Layout, f: str, g: str) -> list[Effect]:
        found = []
        for (a, b), (c, d) in itertools.product(
            itertools.combinations(range(len(data.levels[f])), 2),
            itertools.combinations(range(len(data.levels[g])), 2),
        ):
            seed = self._seed(column.name, f, g, a, b, c, d)
            estimate = factorial.interaction(data, (f, a, b), (g, c, d), seed=seed)
            names = (
                f"{data.levels[f][a]} → {data.levels[f][b]}",
                (f"{data.levels[g][c]} → {data.levels[g][d]}"),
            )
            effect = Effect(column.name, f"{f} × {g}", *names, estimate, estimate.p, "interaction")
            found.append(effect)
        return found

    # -- pairs of variations ---
    def _pairs(self) -> list[Effect]:
        numbers = list(self.batch.variations)
        if not 2 <= len(numbers) <= PAIRS_UP_TO:
            return []
        outcomes = [c for c in self.columns.values() if c.kind != "categorical"]
        outcomes = [c for c in outcomes if not c.name.endswith((" slope", " change"))]
        return [
            self._pair(column, a, b)
            for column in outcomes
            for a, b in itertools.combinations(numbers, 2)
        ]

    def _pair(self, column: Column, a: int, b: int) -> Effect:
        keys = [(trial.variation, trial.replicate) for trial in self.batch.trials]
        rows = dict(zip(keys, column.values, strict=True))
        replicates = sorted({replicate for _, replicate in rows})
        left = [rows.get((a, r)) for r in replicates]
        right = [rows.get((b, r)) for r in replicates]
        estimate, g = _paired(column, left, right, self._seed(column.name, "pair", a, b))
        more = {
            "a": a, "b": b, "g": g.estimate if g else None,
            "n_a": sum(v is not None for v in left), "n_b": sum(v is not None for v in right),
            "missing_a": sum(v is None for v in left), "missing_b": sum(v is None for v in right),
        }  # fmt: skip
        return Effect(
            column.name, "variation", str(a), str(b), estimate, estimate.p, "pair", more=more
        )


def _paired(
    column: Column, left: list[float | None], right: list[float | None], seed: int
) -> tuple[Estimate, Estimate | None]:
    """b minus a by replicate: binary outcomes by statistics §1, others by §2."""
    if column.kind == "binary":
        both = [(x, y) for x, y in zip(left, right, strict=True) if x is not None and y is not None]
        gains = sum(1 for x, y in both if y > x)
        losses = sum(1 for x, y in both if y < x)
        found = paired_binary(gains, losses, len(both))
        return found.with_(missing=len(left) - len(both)), None
    found = paired_difference(right, left, seed=seed)
    return found, standardised_difference(right, left)


def _adjusted(effects: list[Effect]) -> list[Effect]:
    rules: dict[str, Callable[..., Any]] = {
        "confirmatory": holm, "exploratory": benjamini_hochberg,
    }  # fmt: skip
    adjusted = list(effects)
    for role, rule in rules.items():
        family = [i for i, effect in enumerate(effects) if effect.role == role]
        if not family:
            continue
        found = rule([effects[i].p for i in family])
        for i, p in zip(family, found.adjusted, strict=True):
            adjusted[i] = replace(effects[i], p_adjusted=p)
    return adjusted
