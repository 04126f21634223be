"""Two runs side by side: settings that differ, means, paired changes, costs.

A family says what can be compared (`comparables`): by default its numeric outcomes, trial by
trial. Invariant: a change is computed on the units both runs have, paired, with interval
and n; nothing is pooled over series.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from peira.errors import InputError, StoreError
from peira.stats.multiplicity import benjamini_hochberg
from peira.stats.paired import paired_difference
from peira.stats.result import Estimate
from peira.store.exports import flattened
from peira.store.records import RunView
from peira.store.rundir import DATABASE, RunDir, trial_at
from peira.study.seeds import derive

IGNORED = ("several_seeds", "mode", "condition", "paths.", "max_concurrent_requests")
MATCHED = ("temperature", "trial")
SEED = "seed"  # its place in a unit
RATES = ("em", "f1", "abstain_rate", "false_answer_rate", "unsupported_rate")


@dataclass(frozen=True, slots=True)
class Series:
    """One quantity of one run: `labels` tell what it is, `values` hold one number a unit.

    `kind` is "mean" (a level) or "effect" (a difference within the run). `cluster` names the
    group of each unit, where units are not independent. `summary` stands in where only a number
    was kept: it is shown and never tested.
    """

    quantity: str
    labels: Mapping[str, str]
    values: Mapping[Any, float]
    kind: str = "mean"
    cluster: Mapping[Any, Any] = field(default_factory=dict)
    summary: tuple[float, int] | None = None

    @property
    def mean(self) -> float | None:
        if self.summary is not None:
            return self.summary[0]
        return sum(self.values.values()) / len(self.values) if self.values else None

    @property
    def n(self) -> int:
        return self.summary[1] if self.summary is not None else len(self.values)

    @property
    def title(self) -> str:
        """Quantity and labels for people."""
        words = [self.quantity, *(v for v in self.labels.values() if v)]
        return " · ".join([*words, *(["effect"] if self.kind == "effect" else [])])


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: its name, settings, costs and series."""

    name: str
    config: Mapping[str, Any]
    costs: Mapping[str, float]
    series: tuple[Series, ...]
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """One quantity in both runs; `change` is second minus first on the units they share, `q` its p
    after Benjamini-Hochberg over all quantities compared."""

    first: Series
    second: Series
    change: Estimate | None
    q: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that is said of two runs."""

    first: Side
    second: Side
    config: tuple[tuple[str, Any, Any], ...]
    changes: tuple[Change, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Strict-JSON form."""
        return {
            "first": self.first.name, "second": self.second.name,
            "config": [{"path": p, "first": a, "second": b} for p, a, b in self.config],
            "changes": [
                {
                    "quantity": c.first.title, "kind": c.first.kind, "first_mean": c.first.mean,
                    "first_n": c.first.n, "second_mean": c.second.mean, "second_n": c.second.n,
                    "change": None if c.change is None else c.change.to_dict(), "q": c.q,
                }
                for c in self.changes
            ],
            "costs": {"first": dict(self.first.costs), "second": dict(self.second.costs)},
            "notes": list(self.notes),
        }  # fmt: skip


def compare(first: Side, second: Side) -> Comparison:
    """Pair the series of two sides. Raises StoreError (exit 3) when one has no results."""
    for side in (first, second):
        if not side.series:
            raise StoreError(f"{side.name}: no results to compare\n  remedy: run it to the end")
    ours, theirs, notes = _matched(first.series, second.series)
    ours, theirs, matched = _aligned(ours, theirs)
    notes += matched
    index = {_key(series): series for series in theirs}
    changes = _corrected([
        Change(series, index[_key(series)], _change(series, index[_key(series)]))
        for series in ours
        if _key(series) in index and series.n + index[_key(series)].n
    ])  # fmt: skip
    if first.simulated != second.simulated:
        notes.append("one of the runs is simulated")
    unknown = [side.name for side in (first, second) if not side.config]
    if unknown:
        notes.append(f"the settings of {' and '.join(unknown)} are not known")
    differences = () if unknown else tuple(_differences(first, second))
    return Comparison(first, second, differences, changes, tuple(notes))


def _corrected(changes: Sequence[Change]) -> tuple[Change, ...]:
    """Changes with their q."""
    p = [None if c.change is None else c.change.p for c in changes]
    if all(value is None for value in p):
        return tuple(changes)
    adjusted = benjamini_hochberg(p).adjusted
    return tuple(replace(c, q=q) for c, q in zip(changes, adjusted, strict=True))


def _key(series: Series) -> tuple[Any, ...]:
    return (series.quantity, series.kind, *sorted(series.labels.items()))


def _matched(
    ours: Sequence[Series], theirs: Sequence[Series]
) -> tuple[list[Series], list[Series], list[str]]:
    """A trial or temperature that is the only one of its run does not part the two runs."""
    notes = []
    for label in MATCHED:
        left, right = ({s.labels.get(label, "") for s in part} for part in (ours, theirs))
        if len(left) == len(right) == 1:
            a, b = left.pop(), right.pop()
            if a != b and a and b:
                notes.append(f"{label}: {a} in the first is matched with {b} in the second")
            ours, theirs = _without(ours, label), _without(theirs, label)
    return list(ours), list(theirs), notes


def _without(series: Sequence[Series], label: str) -> list[Series]:
    return [replace(s, labels={k: v for k, v in s.labels.items() if k != label}) for s in series]


def _change(first: Series, second: Series) -> Estimate | None:
    shared = [unit for unit in first.values if unit in second.values]
    if not shared:
        return None
    clusters = [first.cluster.get(unit, unit) for unit in shared]
    clustered = len(set(clusters)) < len(clusters)
    return paired_difference(
        [second.values[unit] for unit in shared],
        [first.values[unit] for unit in shared],
        cluster=clusters if clustered else None,
        seed=derive("compare", first.title),
    ).with_(estimand="mean change over shared units, second − first")


def _differences(first: Side, second: Side) -> Iterator[tuple[str, Any, Any]]:
    for path in sorted({*first.config, *second.config}):
        a, b = first.config.get(path), second.config.get(path)
        if a != b and not path.startswith(IGNORED):
            yield path, a, b


# -- sides --------------------------------------------------------------------------------------
Loader = Callable[[str], Any]


def load_side(text: str, experiments: Path, load_family: Loader) -> Side:
    """A run, trial, archive, or another tool's results, by name or path. Raises InputError."""
    for path in _candidates(text, experiments):
        if (path / DATABASE).is_file():
            return _run_side(RunDir(path), None, load_family)
        if path.is_dir() and (owner := trial_at(path)) is not None:
            return _run_side(*owner, load_family)
        if path.is_dir() and (found := foreign_side(path)) is not None:
            return found
        if path.is_file() and path.suffix == ".json":
            return Side(str(path), {}, {}, tuple(_summaries(path)))
        if path.is_dir():
            raise StoreError(f"{path}: no results to compare\n  allowed: a run, trial or archive")
    from peira.study.reader import suggestion

    known = sorted(p.name for p in experiments.glob("*") if p.is_dir())
    hint = suggestion(text, known) or f"known here: {', '.join(known[:8]) or 'none'}"
    raise InputError(f"{text}: no such run, trial or archive\n  remedy: {hint}")


def _candidates(text: str, experiments: Path) -> list[Path]:
    path = Path(text)
    return [path, experiments / path, experiments / f"run_{path.name}"]


def _run_side(directory: RunDir, slug: str | None, load_family: Loader) -> Side:
    with RunView(directory, only=slug) as run:
        if slug is not None:
            run.record(slug)  # there is one
        records = list(run.records())
        usd = sum(run.spend()) if slug is None else sum(r.cost + r.unsettled for r in records)
        costs = {
            "usd": usd / 1e6,
            "tokens_in": float(sum(r.tokens[0] for r in records)),
            "tokens_out": float(sum(r.tokens[1] for r in records)),
        }
        series = tuple(load_family(run.family).comparables(run))
        name = "/".join(filter(None, (run.path.name, slug)))
        return Side(name, config_of(run), costs, series, run.simulated)


def config_of(run: RunView) -> dict[str, Any]:
    """A run's study as dotted paths."""
    study = run.study
    data = {"family": study.family, **study.fixed}
    data |= {f"factors.{name}": values for name, values in study.factors.items()}
    data |= {"cells": study.cells} if study.cells else {}
    data |= {"seeds": study.trial_seeds}
    return dict(flattened(data))


Told = Callable[[Mapping[str, Any]], Iterable[tuple[str, Any]]]


def numeric_series(run: RunView, told: Told) -> Iterator[Series]:
    """Numbers of finished trials, a yes or no as 1 or 0; `told` names those of an outcome.
    The unit is the trial, by the levels of its factors and its seed."""
    values: dict[str, dict[Any, float]] = {}
    for record in run.done():
        levels = {k: json.dumps(v, sort_keys=True, default=str) for k, v in record.cell.items()}
        unit = tuple(sorted((levels | {SEED: record.seed}).items()))
        for name, value in told(record.outcome or {}):
            if isinstance(value, (int, float)):
                values.setdefault(name, {})[unit] = float(value)
    for name, numbers in values.items():
        yield Series(name, {}, numbers)


def _aligned(
    ours: list[Series], theirs: list[Series]
) -> tuple[list[Series], list[Series], list[str]]:
    """A factor with one level in each run, and another in each, does not part their trials."""
    left, right = _single_levels(ours), _single_levels(theirs)
    apart = [name for name in left if name in right and left[name] != right[name]]
    notes = [f"{n}: {left[n]} in the first is matched with {right[n]} in the second" for n in apart]
    return _parted(ours, apart), _parted(theirs, apart), notes


def _single_levels(series: list[Series]) -> dict[str, Any]:
    """Factors that have the same level in all trials."""
    levels: dict[str, set[Any]] = {}
    for unit in itertools.chain.from_iterable(s.values for s in series):
        for name, level in unit if isinstance(unit, tuple) else ():
            levels.setdefault(name, set()).add(level)
    return {n: next(iter(found)) for n, found in levels.items() if len(found) == 1 and n != SEED}


def _parted(series: list[Series], names: list[str]) -> list[Series]:
    """Series whose units no longer hold these factors."""
    if not names:
        return series
    return [
        replace(s, values={tuple(i for i in unit if i[0] not in names): v
                           for unit, v in s.values.items()})
        for s in series
    ]  # fmt: skip


# -- results of earlier tools -------------------------------------------------------------------
def foreign_side(folder: Path) -> Side | None:
    """Results without a run.db: per-item scores where there are any, else significance.json."""
    tables = sorted(folder.rglob("per_item_scores.csv"))
    series = [s for table in tables for s in item_series(table, _label(table, folder))]
    documents = [] if tables else sorted(folder.rglob("significance.json"))
    series += [s for path in documents for s in _summaries(path)]
    if not tables and not documents:
        return None
    return Side(folder.name, _foreign_config(folder), _foreign_costs(folder), tuple(series))


def _read(path: Path, read: Callable[[bytes], Any]) -> Any:
    """What another tool's file says. Raises InputError for a damaged one."""
    from yaml import YAMLError

    try:
        return read(path.read_bytes())
    except (OSError, ValueError, YAMLError) as error:
        words = str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be read ({words})\n  remedy: mend it") from error


def _label(table: Path, folder: Path) -> str:
    return "/".join(p for p in table.relative_to(folder).parts[:-1] if p not in ("results",))


def item_series(table: Path, trial: str = "") -> list[Series]:
    """Means and effects from a per_item_scores.csv, one value an item."""
    found, clusters = _read(table, _item_values)
    return [*_means(found, clusters, trial), *_effects(found, clusters, trial)]


def _item_values(data: bytes) -> tuple[Table, dict[str, str]]:
    """(quantity, arm, type, temperature) -> item -> value, and each item's cluster."""
    found: dict[tuple[str, str, str, str], dict[str, float]] = {}
    clusters: dict[str, str] = {}
    for row in csv.DictReader(io.StringIO(data.decode(), newline="")):
        item = row.get("item_key") or f"{row.get('dataset', '')}/{row.get('item_id', '')}"
        item = item.replace("|", "/", 1)  # earlier tools' keys
        clusters[item] = row.get("cluster") or item
        for name in RATES:
            text = row.get(name)
            if text not in (None, "", "nan", "None"):
                key = (name, row.get("condition", ""), row.get("type", ""), row.get("temp", ""))
                found.setdefault(key, {})[item] = float(text or 0)
    return found, clusters


Table = Mapping[tuple[str, str, str, str], Mapping[str, float]]


def _means(found: Table, clusters: Mapping[str, str], trial: str) -> Iterator[Series]:
    for (name, arm, kind, temp), values in found.items():
        labels = {"trial": trial, "condition": arm, "type": kind, "temperature": temp}
        yield Series(name, labels, values, "mean", clusters)


def _effects(found: Table, clusters: Mapping[str, str], trial: str) -> Iterator[Series]:
    for (name, arm, kind, temp), values in found.items():
        control = found.get((name, "control", kind, temp), {})
        if arm == "control":
            continue
        labels = {"trial": trial, "condition": arm, "type": kind, "temperature": temp}
        shared = {item: v - control[item] for item, v in values.items() if item in control}
        yield Series(name, labels, shared, "effect", clusters)


def _summaries(path: Path) -> Iterator[Series]:
    """Differences that a significance.json (any schema) states, shown without a test."""
    for labels, node in _stated(_read(path, json.loads), ()):
        words = {str(k): part for k, part in enumerate(p for p in labels if p not in NOISE)}
        value: Any = node.get("delta_mean", node.get("mean_diff"))
        n = node.get("n_items", node.get("n", 0))
        quantity = words.pop(max(words), "delta") if words else "delta"
        yield Series(quantity, words, {}, "effect", summary=(float(value), int(n or 0)))


NOISE = ("results", "arms", "metrics")


def _stated(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    if not isinstance(node, dict):
        return
    value = node.get("delta_mean", node.get("mean_diff"))
    if isinstance(value, (int, float)):
        yield path, node
        return
    for name, part in node.items():
        yield from _stated(part, (*path, str(name)))


def _foreign_config(folder: Path) -> dict[str, Any]:
    import yaml

    for name in ("eval_config.yaml", "config.yaml", "study.yaml"):
        for path in sorted(folder.rglob(name)):
            data = _read(path, yaml.safe_load)
            return dict(flattened(data)) if isinstance(data, dict) else {}
    return {}


COSTS = {"usd": "usd", "prompt_tokens": "tokens_in", "completion_tokens": "tokens_out"}


def _foreign_costs(folder: Path) -> dict[str, float]:
    totals: dict[str, float] = {}
    for path in sorted(folder.rglob("costs.json")):
        data = _read(path, json.loads)
        for name, ours in COSTS.items():
            if isinstance(data, dict) and isinstance(data.get(name), (int, float)):
                totals[ours] = totals.get(ours, 0.0) + float(data[name])
    return totals
