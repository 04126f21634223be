"""What the factors do: effects, interactions, pairs of variations, and how many were asked.

Success and primary metrics against each factor are the confirmatory hypotheses (Holm); everything
else is exploratory (Benjamini-Hochberg). Invariant: one p per hypothesis, and a family's size is
what was planned, not what came out well.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from peira.families.scenarios import summaries
from peira.families.scenarios.batch import Batch
from peira.stats.effects import standardised_difference
from peira.stats.factorial import BlockedFactorial, any_level_p, blocked_factorial, factor_contrast
from peira.stats.mcnemar import paired_outcomes
from peira.stats.multiplicity import benjamini_hochberg, holm
from peira.stats.paired import paired_difference
from peira.stats.result import Estimate
from peira.stats.tables import chi_squared_permutation
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
            "ci": estimate.limits, "p": self.p, "p_adjusted": self.p_adjusted,
            "family": self.role, "method": estimate.method, "n": estimate.n,
            "missing": estimate.missing, "reason": estimate.reason, **self.more,
        }  # fmt: skip


def columns(batch: Batch) -> Iterator[Column]:
    """Every outcome of the batch: success (if there are criteria), metrics, their slopes and
    changes."""
    if batch.criteria:
        met = tuple(1.0 if trial.success else 0.0 for trial in batch.trials)
        yield Column(SUCCESS, "binary", met, True)
    for name, metric in batch.metrics.items():
        finals = [trial.final.get(name) if trial.done else None for trial in batch.trials]
        if summaries.numeric(metric):
            kind = "binary" if metric.kind == "bool" else "numeric"
            yield Column(name, kind, tuple(map(summaries.as_number, finals)), metric.primary)
        elif metric.kind == "categorical":
            codes = {level: float(i) for i, level in enumerate(metric.levels)}
            values = tuple(None if v is None else codes.get(str(v)) for v in finals)
            yield Column(name, "categorical", values, metric.primary)
    for name, metric in batch.metrics.items():
        if metric.numeric and batch.length > 1:
            for word, measure in (("slope", summaries.slope), ("change", summaries.change)):
                values = tuple(measure(name, trial) for trial in batch.trials)
                yield Column(f"{name} {word}", "numeric", values)


@dataclass
class Effects:
    """All tests of a batch, adjusted. `frozen=False` when the hypotheses were changed."""

    batch: Batch
    frozen: bool = True

    @cached_property
    def columns(self) -> dict[str, Column]:
        """Outcome name -> column."""
        return {column.name: column for column in columns(self.batch)}

    @cached_property
    def layouts(self) -> dict[str, BlockedFactorial]:
        """Outcome name -> the column as a blocked factorial."""
        trials, levels = self.batch.trials, self.batch.factors
        factors = {name: [t.factors.get(name, "") for t in trials] for name in levels}
        blocks = [trial.replicate for trial in trials]
        return {
            column.name: blocked_factorial(column.values, factors, blocks, levels)
            for column in self.columns.values()
        }

    @cached_property
    def all(self) -> list[Effect]:
        """Every effect, interaction and pair, with adjusted p values."""
        factors = [effect for column in self.columns.values() for effect in self._of(column)]
        return _adjusted([*factors, *self._pairs()])

    def of(self, outcome: str, *kinds: str) -> list[Effect]:
        """The effects of one outcome, of these kinds."""
        return [e for e in self.all if e.outcome == outcome and e.kind in kinds]

    @property
    def confirmatory(self) -> list[Effect]:
        """The hypotheses declared beforehand."""
        return [effect for effect in self.all if effect.role == "confirmatory"]

    def _seed(self, *parts: str | int) -> int:
        return derive(self.batch.name, "effects", *parts)

    # -- factors ---
    def _of(self, column: Column) -> Iterator[Effect]:
        data = self.layouts[column.name]
        role = "confirmatory" if column.primary and self.frozen else "exploratory"
        for factor in data.levels:
            if column.kind == "categorical":
                yield self._association(column.name, data, factor, role)
            else:
                yield from self._main(column.name, data, factor, role)
        if column.kind != "categorical":
            for f, g in itertools.combinations(data.levels, 2):
                yield from self._interactions(column.name, data, f, g)

    def _association(self, name: str, data: BlockedFactorial, factor: str, role: str) -> Effect:
        found = chi_squared_permutation(
            data.codes[factor], data.y, strata=data.strata(factor), seed=self._seed(name, factor)
        )
        test = "permutation chi-squared"
        shown = Estimate(None, n=data.n, missing=data.missing, method=test,
                         estimand=f"{factor} and {name}", reason="not_identified")  # fmt: skip
        p = None if isinstance(found, str) else found.p
        return Effect(name, factor, "all", "levels", shown, p, role=role, more={"test": test})

    def _main(self, name: str, data: BlockedFactorial, factor: str, role: str) -> Iterator[Effect]:
        seed, levels = self._seed(name, factor), data.levels[factor]
        found = []
        for a, b in itertools.combinations(range(len(levels)), 2):
            estimate = factor_contrast(data, (factor, a, b), seed=seed + a * 97 + b)
            one = role if len(levels) == 2 else "exploratory"
            found.append(Effect(name, factor, levels[a], levels[b], estimate, estimate.p, role=one))
        yield from found
        if len(levels) > 2:
            test = any_level_p(data, factor, seed=seed)
            widest = max(found, key=lambda e: abs(e.estimate.estimate or 0.0))
            estimate = widest.estimate.with_(p=None, estimand=f"{factor}: any level differs")
            estimate = test.on(estimate) if test else estimate
            yield replace(
                widest, p=estimate.p, kind="omnibus", role=role, estimate=estimate,
                more={"test": f"all {len(levels)} levels alike; the widest contrast is shown"},
            )  # fmt: skip

    def _interactions(self, name: str, data: BlockedFactorial, f: str, g: str) -> Iterator[Effect]:
        pairs = (itertools.combinations(range(len(data.levels[x])), 2) for x in (f, g))
        for (a, b), (c, d) in itertools.product(*pairs):
            seed = self._seed(name, f, g, a, b, c, d)
            estimate = factor_contrast(data, (f, a, b), (g, c, d), seed=seed)
            first = f"{data.levels[f][a]} → {data.levels[f][b]}"
            second = f"{data.levels[g][c]} → {data.levels[g][d]}"
            yield Effect(name, f"{f} × {g}", first, second, estimate, estimate.p, "interaction")

    # -- pairs of variations ---
    def _pairs(self) -> Iterator[Effect]:
        numbers = list(self.batch.variations)
        if len(numbers) > PAIRS_UP_TO:
            return
        keys = [(trial.variation, trial.replicate) for trial in self.batch.trials]
        for column in self.columns.values():
            if column.kind == "categorical" or column.name.endswith((" slope", " change")):
                continue
            rows = dict(zip(keys, column.values, strict=True))
            for a, b in itertools.combinations(numbers, 2):
                yield self._pair(column, rows, a, b)

    def _pair(
        self, column: Column, rows: Mapping[tuple[int, int], float | None], a: int, b: int
    ) -> Effect:
        replicates = sorted({replicate for _, replicate in rows})
        left, right = ([rows.get((v, r)) for r in replicates] for v in (a, b))
        estimate, g = _paired(column, left, right, self._seed(column.name, "pair", a, b))
        missing = [sum(value is None for value in side) for side in (left, right)]
        more = {
            "a": a, "b": b, "g": g.estimate if g else None,
            "n_a": len(left) - missing[0], "n_b": len(right) - missing[1],
            "missing_a": missing[0], "missing_b": missing[1],
        }  # fmt: skip
        words = (str(a), str(b), estimate, estimate.p, "pair")
        return Effect(column.name, "variation", *words, more=more)


def _paired(
    column: Column, left: list[float | None], right: list[float | None], seed: int
) -> tuple[Estimate, Estimate | None]:
    """b minus a by replicate: binary outcomes by statistics §1, others by §2."""
    if column.kind == "binary":
        return paired_outcomes(right, left), None
    return paired_difference(right, left, seed=seed), standardised_difference(right, left)


def _adjusted(effects: list[Effect]) -> list[Effect]:
    rules: dict[str, Callable[..., Any]] = {
        "confirmatory": holm, "exploratory": benjamini_hochberg,
    }  # fmt: skip
    adjusted = list(effects)
    for role, rule in rules.items():
        family = [i for i, effect in enumerate(effects) if effect.role == role]
        found = rule([effects[i].p for i in family])
        for i, p in zip(family, found.adjusted, strict=True):
            adjusted[i] = replace(effects[i], p_adjusted=p)
    return adjusted
