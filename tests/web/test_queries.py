"""The trials table and the maps say what the records say."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peira.stats.intervals import mean_interval
from peira.store.exports import flat
from peira.store.records import RunView
from peira.web import heat, queries
from peira.web.queries import Wish
from tests.web.conftest import HOSTILE
from tests.web.talkers import PROBE


@pytest.fixture(scope="module")
def run(house):
    with RunView(house / HOSTILE) as view:
        yield view


@pytest.fixture(scope="module")
def rows(run):
    return [flat(record) for record in run.records()]


def table(run, **wish):
    return queries.trials(run, Wish(**wish), queries.cells(run), queries.outcomes(run))


def test_without_a_wish_all_trials_come_in_planned_order(run, rows):
    assert [r.slug for r in table(run).rows] == [r["slug"] for r in rows]
    assert table(run).total == len(rows) == 36


@pytest.mark.parametrize("state", ["done", "failed", "halted"])
def test_a_state_is_filtered(run, rows, state):
    assert table(run, state=state).total == sum(r["state"] == state for r in rows)


@pytest.mark.parametrize("level", ["a", PROBE])
def test_a_factor_level_is_filtered_whatever_it_is_called(run, rows, level):
    found = table(run, factors={"partner": level, "temperature": "0.5"})
    assert {r.slug for r in found.rows} == {
        r["slug"] for r in rows if r["partner"] == level and r["temperature"] == 0.5
    }
    assert found.total == 6


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("name", ["score", "won"])
def test_an_outcome_sorts_with_the_undefined_last(run, rows, name, down):
    got = [r.outcome.get(name) for r in table(run, sort=f"outcome:{name}", down=down).rows]
    known = [v for v in got if v is not None]
    assert known == sorted(known, reverse=down)
    assert got[len(known) :] == [None] * (len(rows) - len(known))


def test_an_outcome_whose_name_cannot_be_a_path_is_left_out(run, rows):
    assert any(name.startswith("depth.deep") for name in rows[0])
    assert set(queries.outcomes(run)) == {"score", "won"}


def test_a_factor_sorts_in_the_order_of_the_grid(run):
    got = [r.factors["partner"] for r in table(run, sort="factor:partner").rows]
    assert got == ["a"] * 18 + [PROBE] * 18


@settings(max_examples=80, deadline=None)
@given(words=st.text(max_size=12) | st.sampled_from(["%", "_", "run_1", "\\", "'", "xss", "TEMP"]))
def test_a_search_finds_what_contains_the_words(run, rows, words):
    wanted = words.strip()
    found = {r.slug for r in table(run, search=wanted).rows}
    told = {r.slug: r.message for r in run.records()}
    if wanted.isascii():
        assert found == {
            r["slug"] for r in rows
            if wanted.lower() in r["slug"].lower() or wanted.lower() in (told[r["slug"]] or "").lower()
            or r["id"].lower().startswith(wanted.lower())
        }  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(sort=st.text(max_size=30), page=st.integers(-5, 10**6), state=st.text(max_size=10))
def test_no_wish_can_break_the_table(run, sort, page, state):
    found = table(run, sort=sort, page=page, state=state)
    assert len(found.rows) <= queries.PER_PAGE


def test_the_map_of_an_outcome_counts_n_and_missing(run, rows):
    found, known = queries.cells(run), queries.outcomes(run)
    seen = queries.observed(run, "score", known["score"])
    made = heat.heat(seen, found, ("temperature", "partner"))
    for line in made.squares:
        for square in line:
            values = [r.get("score") for r in rows
                      if str(r["temperature"]) == square.row and r["partner"] == square.column]  # fmt: skip
            numbers = [v for v in values if v is not None]
            assert square.value.n == len(numbers)
            assert square.value.missing == len(values) - len(numbers)
            assert square.value.low == pytest.approx(mean_interval(numbers).low)


def test_an_unsplit_map_has_one_cell_with_everything(run):
    known = queries.outcomes(run)
    made = heat.heat(queries.observed(run, "won", known["won"]), queries.cells(run), ("", ""))
    (line,) = made.squares
    assert len(line) == 1 and made.method == "Wilson"
    assert line[0].value.n + line[0].value.missing == 36


def test_trials_over_time_add_up(run):
    moments = queries.over_time(run)
    assert moments.finished[-1] == 36
    assert moments.finished == sorted(moments.finished)
    assert moments.spent[-1] == 0
