"""The progress display: what is left, as a range, and a line for each trial at work."""

import io

from rich.console import Console

from peira.cli import display


def shown(active, room):
    out = Console(width=100, record=True, file=io.StringIO())
    for part in display._trials(active, room):
        out.print(part)
    return out.export_text().splitlines()


def trial(n, **more):
    return {"trial": f"t-{n}", "at": f"turn {n} of 9: world", "usd": n / 100, "since": 0.0} | more


def test_each_trial_at_work_has_its_line():
    lines = shown([trial(1), trial(2)], 10)
    assert [line.split("  ")[1:4] for line in lines] == [
        ["t-1", "turn 1 of 9: world", "$0.0100"], ["t-2", "turn 2 of 9: world", "$0.0200"],
    ]  # fmt: skip


def test_what_does_not_fit_is_counted():
    lines = shown([trial(n) for n in range(1, 9)], 4)
    assert len(lines) == 4
    assert lines[-1].strip() == "and 5 more"


def test_the_time_left_is_a_range_that_narrows():
    def left(here, pending):
        state = {"finished_here": here, "pending": pending, "started": 0.0, "time": 100.0}
        return display._eta(state)

    assert left(0, 5) == "100 s"
    assert left(4, 8) == "100 s, about 2 min to 8 min left"
    assert left(100, 100) == "100 s, about 88 s to 2 min left"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_lines_break_between_words_and_elsewhere_not_at_all(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    text = "  one two three four five\nshort\n" + 30 * "x"
    assert display.folded(text, io.StringIO()) == text
    assert display.folded(text, Terminal()).split("\n") == [
        "  one two three four", "  five", "short", 30 * "x",
    ]  # fmt: skip


def test_behind_a_pipe_it_says_who_is_being_waited_for():
    state = {
        "done": 0, "planned": 1, "failed": 0, "halted": 0, "in_flight": 0, "spent_usd": 0.0,
        "budget_usd": None, "finished_here": 0, "pending": 1, "started": 0.0, "time": 5.0,
        "pace": ["one 3/16 in flight", "two 0/1 in flight, 4 waiting, paused 8 s (provider down)"],
    }  # fmt: skip
    line = display._plain_line(state)
    assert line.endswith("5 s · two 0/1 in flight, 4 waiting, paused 8 s (provider down)")
    assert "one 3/16" not in line
