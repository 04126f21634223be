"""What pages ask of run.db: short reads, paged by SQL, whatever the number of trials.

Invariant: no page reads all records; what a reader may choose (sort, filter, outcome) is looked up
in a list of known names and bound as a value, never pasted into SQL.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from peira.families import BUILT_IN, load_family
from peira.store.records import RunView

PER_PAGE = 100
SAMPLE = 200  # finished trials looked at to learn which outcomes there are
PLAIN = {
    "position": "t.position", "trial": "t.slug", "state": "t.state", "cause": "t.cause",
    "seed": "t.seed", "replicate": "t.replicate", "seconds": "t.seconds", "finished": "t.finished",
    "attempts": "t.attempts",
}  # fmt: skip
COST = "(SELECT SUM(r.cost) FROM replies r WHERE r.buyer=t.number AND (r.cost > 0 OR r.worst > 0))"
STATES = ("done", "failed", "halted", "running", "pending")


# -- cells and outcomes -----------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the grid."""

    number: int
    factors: Mapping[str, Any]


def cells(run: RunView) -> list[Cell]:
    """All cells of the run."""
    rows = run.query("SELECT number, factors FROM cells ORDER BY number")
    return [Cell(number, orjson.loads(factors)) for number, factors in rows]


def levels(found: Sequence[Cell]) -> dict[str, list[str]]:
    """Factor -> its levels as text, in the order of the grid."""
    names: dict[str, dict[str, None]] = {}
    for cell in found:
        for name, value in cell.factors.items():
            names.setdefault(name, {})[level(value)] = None
    return {name: list(known) for name, known in names.items()}


def level(value: Any) -> str:
    """A level as text; also what stands in an address."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def named(value: Any) -> str:
    """A level as people read it: a list as its members, whether it is given as such or as text."""
    members = value
    if isinstance(value, str) and value.startswith("["):
        try:
            members = orjson.loads(value)
        except orjson.JSONDecodeError:
            return level(value)
    return ", ".join(map(level, members)) if isinstance(members, list) else level(value)


def headlines(run: RunView) -> Mapping[str, str]:
    """What the run's family shows first -> what it is; nothing of a family that does not ship."""
    return load_family(run.family).headlines if ships(run) else {}


def ships(run: RunView) -> bool:
    """True if the run's family ships with Peira: looking at a directory must not run code in it."""
    return run.family in BUILT_IN.values()


def outcomes(run: RunView) -> dict[str, str]:
    """Numeric outcomes by dotted name -> their JSON path, learnt from some finished trials. What the
    family shows first comes first, then what varies. A name with a quotation mark cannot be said as
    a path and is left out."""
    rows = run.query(
        "SELECT outcome FROM trials WHERE state='done' AND position IS NOT NULL"
        " ORDER BY position LIMIT ?", (SAMPLE,),
    )  # fmt: skip
    found: dict[str, str] = {}
    seen: dict[str, set[Any]] = {}
    first = tuple(headlines(run))
    for (data,) in rows:
        for name, path, value in _leaves(orjson.loads(data), first) if data is not None else ():
            if isinstance(value, (bool, int, float)) and '"' not in name:
                found.setdefault(name, path)
                seen.setdefault(name, set()).add(value)
    return dict(sorted(found.items(), key=lambda item: _rank(item[0], first, len(seen[item[0]]))))


def _rank(name: str, first: Sequence[str], values: int) -> tuple[int, bool]:
    place = next((k for k, head in enumerate(first) if name.startswith(head)), len(first))
    return place, place == len(first) and values < 2


def _leaves(
    data: Mapping[str, Any], first: Sequence[str], name: str = "", path: str = "$"
) -> Iterator[tuple[str, str, Any]]:
    """(dotted name, JSON path, value) of every leaf; members of the lists that are shown first."""
    for key, value in data.items():
        inner, place = f"{name}{key}", f'{path}."{key}"'
        if isinstance(value, Mapping):
            yield from _leaves(value, first, f"{inner}.", place)
        elif isinstance(value, list) and f"{inner}." in first:
            yield from ((f"{inner}.{k}", f"{place}[{k - 1}]", v) for k, v in enumerate(value, 1))
        else:
            yield inner, place, value


# -- counts -----------------------------------------------------------------------------------
def counts(run: RunView) -> dict[str, int]:
    """Planned trials by state, running apart from pending."""
    rows = run.query("SELECT state, COUNT(*) FROM trials WHERE position IS NOT NULL GROUP BY state")
    return {state: dict(rows).get(state, 0) for state in STATES}


# -- the trials table -------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Wish:
    """What a reader asks of the trials table; empty means everything, in planned order."""

    state: str = ""
    cause: str = ""
    search: str = ""
    factors: Mapping[str, str] = field(default_factory=dict)
    sort: str = "position"
    down: bool = False
    page: int = 1


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the trials table."""

    number: int
    position: int
    slug: str
    state: str
    cause: str | None
    message: str | None
    factors: Mapping[str, Any]
    replicate: int
    seconds: float | None
    cost: float
    calls: int
    outcome: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of the table, which page of how many that is, and how many rows there are in all."""

    rows: list[Row]
    total: int
    page: int
    pages: int

    @property
    def first(self) -> int:
        """Number of the first row, from 1."""
        return (self.page - 1) * PER_PAGE + 1


def trials(run: RunView, wish: Wish, found: Sequence[Cell], numeric: Mapping[str, str]) -> Page:
    """One page of the trials table."""
    where, values = _where(wish, found)
    total = run.query(f"SELECT COUNT(*) FROM trials t WHERE {where}", values)[0][0]
    pages = max(1, -(-total // PER_PAGE))
    page = min(max(1, wish.page), pages)
    chosen = _chosen(run, wish, found, numeric, (where, values), (page - 1) * PER_PAGE)
    rows = run.query(
        "SELECT t.number, t.position, t.slug, t.state, t.cause, t.message, t.cell, t.replicate,"
        f" t.seconds, {COST}, t.usage, t.outcome FROM trials t"
        f" WHERE t.number IN ({','.join('?' * len(chosen))})",
        chosen,
    )
    place = {number: at for at, number in enumerate(chosen)}
    rows.sort(key=lambda row: place[row[0]])
    factors, first = {cell.number: cell.factors for cell in found}, tuple(headlines(run))
    return Page([_row(row, factors, first) for row in rows], total, page, pages)


def _chosen(
    run: RunView,
    wish: Wish,
    found: Sequence[Cell],
    numeric: Mapping[str, str],
    where: tuple[str, list[Any]],
    offset: int,
) -> list[int]:
    """Numbers of the trials on a page: sorting touches what it sorts by and nothing else."""
    order, ordering = _order(run, wish, found, numeric)
    direction = "DESC" if wish.down else "ASC"
    by = f"t.position {direction}"
    if order != "t.position":
        by = f"{order} {direction} NULLS LAST, t.position"
    rows = run.query(
        f"SELECT t.number FROM trials t WHERE {where[0]} ORDER BY {by} LIMIT ? OFFSET ?",
        [*where[1], *ordering, PER_PAGE, offset],
    )
    return [number for (number,) in rows]


def _row(
    row: tuple[Any, ...], factors: Mapping[int, Mapping[str, Any]], first: Sequence[str]
) -> Row:
    usage = orjson.loads(row[10]) if row[10] else {}
    outcome = orjson.loads(row[11]) if row[11] else {}
    return Row(
        number=row[0], position=row[1], slug=row[2], state=row[3], cause=row[4], message=row[5],
        factors=factors.get(row[6], {}), replicate=row[7], seconds=row[8], cost=(row[9] or 0) / 1e6,
        calls=sum(seat["calls"] for seat in usage.values()),
        outcome={name: value for name, _, value in _leaves(outcome, first)},
    )  # fmt: skip


def _where(wish: Wish, found: Sequence[Cell]) -> tuple[str, list[Any]]:
    where, values = ["t.position IS NOT NULL"], list[Any]()
    if wish.state:
        where.append("t.state=?")
        values.append(wish.state)
    if wish.cause:
        where.append("t.cause=?")
        values.append(wish.cause)
    if wish.search:
        where.append("(t.slug LIKE ? ESCAPE '\\' OR t.message LIKE ? ESCAPE '\\' OR t.id LIKE ?)")
        words = wish.search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        values += [f"%{words}%", f"%{words}%", f"{words}%"]
    if wish.factors:
        matching = [
            cell.number for cell in found
            if all(level(cell.factors.get(name)) == value for name, value in wish.factors.items())
        ]  # fmt: skip
        where.append("t.cell IN (SELECT value FROM json_each(?))")
        values.append(orjson.dumps(matching).decode())
    return " AND ".join(where), values


def _order(
    run: RunView, wish: Wish, found: Sequence[Cell], numeric: Mapping[str, str]
) -> tuple[str, list[Any]]:
    """(order expression, its values)."""
    kind, _, name = wish.sort.partition(":")
    if kind == "outcome" and name in numeric:
        return "json_extract(CAST(t.outcome AS TEXT), ?)", [numeric[name]]
    if kind == "factor" and found:
        _lay_places(run, name, found)
        return "(SELECT place FROM places WHERE places.cell = t.cell)", []
    if kind == "cost":
        return COST, []
    return PLAIN.get(wish.sort, "t.position"), []


def _lay_places(run: RunView, factor: str, found: Sequence[Cell]) -> None:
    """A temporary table (in memory, of this connection) of each cell's place in a factor's order."""
    order = {text: place for place, text in enumerate(levels(found).get(factor, []))}
    places = [[c.number, order.get(level(c.factors.get(factor)), -1)] for c in found]
    run.query("PRAGMA temp_store=MEMORY")
    run.query("CREATE TEMP TABLE IF NOT EXISTS places(cell INTEGER PRIMARY KEY, place INTEGER)")
    run.query(
        "INSERT OR REPLACE INTO places SELECT json_extract(value, '$[0]'),"
        " json_extract(value, '$[1]') FROM json_each(?)", (orjson.dumps(places).decode(),),
    )  # fmt: skip


# -- one trial --------------------------------------------------------------------------------
def neighbours(run: RunView, position: int) -> tuple[int | None, int | None]:
    """Numbers of the trials before and after a position in planned order."""
    before = run.query(
        "SELECT number FROM trials WHERE position<? ORDER BY position DESC LIMIT 1", (position,)
    )
    after = run.query(
        "SELECT number FROM trials WHERE position>? ORDER BY position LIMIT 1", (position,)
    )
    return (before[0][0] if before else None), (after[0][0] if after else None)


# -- outcomes over factors --------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Observed:
    """One outcome over the run: values by cell, and how many trials ended in each cell."""

    name: str
    truth: bool
    values: Mapping[int, list[float]]
    ended: Mapping[int, int]


def observed(run: RunView, name: str, path: str) -> Observed:
    """Every observed value of one outcome, by cell."""
    rows = run.query(
        "SELECT cell, json_extract(CAST(outcome AS TEXT), ?) FROM trials"
        " WHERE state='done' AND position IS NOT NULL",
        (path,),
    )
    values: dict[int, list[float]] = defaultdict(list)
    for cell, value in rows:
        if isinstance(value, (int, float)):
            values[cell].append(value)
    ended = run.query(
        "SELECT cell, SUM(state IN ('done', 'failed', 'halted')) FROM trials INDEXED BY trials_by_cell"
        " WHERE position IS NOT NULL GROUP BY cell"
    )
    return Observed(name, _is_truth(run, path), dict(values), dict(ended))


def _is_truth(run: RunView, path: str) -> bool:
    """True if an outcome is a yes or no, as the first finished trials have it."""
    rows = run.query(
        "SELECT DISTINCT json_type(CAST(outcome AS TEXT), ?) FROM (SELECT outcome FROM trials"
        " WHERE state='done' AND position IS NOT NULL ORDER BY position LIMIT ?)",
        (path, SAMPLE),
    )
    kinds = {kind for (kind,) in rows} - {None, "null"}
    return bool(kinds) and kinds <= {"true", "false"}


# -- over time --------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Moments:
    """Cumulative counts over time. `seconds` since the first trial began; money in US dollars."""

    seconds: list[float]
    finished: list[float]
    spent: list[float]


def over_time(run: RunView, points: int = 120) -> Moments | None:
    """Trials finished and money spent over time, in at most `points` steps; None before the first."""
    rows = run.query("SELECT MIN(started), MAX(finished) FROM trials WHERE finished IS NOT NULL")
    start, end = rows[0]
    if start is None or end is None:
        return None
    width = max((end - start) / points, 1e-6)
    counted = run.query(
        "SELECT CAST((finished - ?) / ? AS INTEGER), COUNT(*) FROM trials"
        " WHERE finished IS NOT NULL AND position IS NOT NULL GROUP BY 1 ORDER BY 1",
        (start, width),
    )
    costs = dict(run.query(
        "SELECT CAST((t.finished - ?) / ? AS INTEGER), SUM(r.cost) FROM (SELECT buyer, SUM(cost) AS"
        " cost FROM replies WHERE cost > 0 OR worst > 0 GROUP BY buyer) r JOIN trials t"
        " ON t.number = r.buyer WHERE t.finished IS NOT NULL GROUP BY 1", (start, width),
    ))  # fmt: skip
    moments = Moments([0.0], [0.0], [0.0])
    for bucket, count in counted:
        moments.seconds.append((bucket + 1) * width)
        moments.finished.append(moments.finished[-1] + count)
        moments.spent.append(moments.spent[-1] + costs.get(bucket, 0) / 1e6)
    return moments
