"""A person in a seat: one prompt per call, the same one a model would get, never asked twice."""

from __future__ import annotations

import io
from typing import Any

import pytest

from peira.engine.desk import screens, use_desk
from peira.errors import InputError, TrialHalted
from peira.families.scenarios import human
from peira.families.scenarios.human import Question, Terminal
from tests.scenarios.conftest import Bench


class Script:
    """A desk that answers every question and remembers it; stops after `limit` answers."""

    def __init__(self, limit: int = 99) -> None:
        self.limit, self.asked = limit, []  # type: tuple[int, list[Question]]

    async def ask(self, question: Question) -> dict[str, Any]:
        if len(self.asked) >= self.limit:
            raise TrialHalted("interrupted", "the desk was left")
        self.asked.append(question)
        if question.form.kind == "offer":
            return {"target": None, "message": "", "note": ""}
        return {"goals": ["win"], "priorities": [], "reasoning": "", "action": "I hold the line."}


@pytest.fixture(autouse=True)
def no_desk_left_behind() -> Any:
    yield
    use_desk(None)


def seat_a_person(bench: Bench) -> None:
    bench.scenario(actors={"a": {"control": "human", "llm_model": None}, "b": {}})
    path = bench.root / "scenario" / "actors" / "a.yaml"
    path.write_text(path.read_text().replace("llm_model: null\n", ""))


def test_one_question_for_every_call_of_the_seat(bench: Bench) -> None:
    seat_a_person(bench)
    desk = Script()
    use_desk(desk)
    assert bench.go().exit_code == 0
    labels = [question.label for question in desk.asked]
    assert labels == [
        f"turn {t}/{kind}" for t in (1, 2, 3) for kind in ("bilateral offer", "decision")
    ]
    decision = bench.turns()[1]["decisions"]["a"]
    assert (decision["action"], decision["rung"]) == ("I hold the line.", "human")
    assert bench.calls() == 15  # a person's answers are in the ledger, at cost 0


def test_earlier_answers_are_not_asked_again(bench: Bench) -> None:
    seat_a_person(bench)
    use_desk(Script(3))
    assert bench.go().exit_code == 130
    later = Script()
    use_desk(later)
    assert bench.go().exit_code == 0
    assert [q.label for q in later.asked] == ["turn 2/decision", "turn 3/bilateral offer",
                                              "turn 3/decision"]  # fmt: skip


def test_the_terminal_asks_for_each_blank_and_insists_on_the_needed_one() -> None:
    from peira.families.scenarios.parse import FORMS
    from peira.subjects.subject import Message

    form = FORMS["decision"]
    source = io.StringIO("peace; trade\n\nbecause\n\nwe act\n")
    sink = io.StringIO()
    desk = Terminal(source, sink)
    question = Question("var-001-run-001", "a", "turn 1/decision",
                        (Message("user", "The prompt.\n\n" + form.request()),), form)  # fmt: skip
    import asyncio

    value = asyncio.run(desk.ask(question))
    assert value == {"goals": ["peace", "trade"], "priorities": [], "reasoning": "because",
                     "action": "we act"}  # fmt: skip
    shown = sink.getvalue()
    assert "The prompt." in shown and "JSON" not in shown
    assert "must be filled" in shown


def test_a_closed_terminal_is_an_error_that_keeps_what_was_said() -> None:
    import asyncio

    from peira.families.scenarios.parse import FORMS

    desk = Terminal(io.StringIO(""), io.StringIO())
    with pytest.raises(TrialHalted, match="earlier answers are kept"):
        asyncio.run(desk.ask(Question("t", "a", "turn 1/decision", (), FORMS["decision"])))


def test_without_a_desk_a_human_seat_is_refused_at_the_start(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from peira.cli.main import run

    seat_a_person(bench)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert run(["simulate", str(bench.root / "scenario"), "--out", str(bench.run)]) == 2
    assert "neither" in capsys.readouterr().err
    assert run(["run", str(bench.config())]) == 2
    assert not bench.run.exists()
    with pytest.raises(InputError):
        human.desk()


def test_simulated_subjects_take_a_persons_seat_too(bench: Bench) -> None:
    seat_a_person(bench)
    assert bench.go({"simulated": True}).exit_code == 0
    bench.run = bench.run.with_name("run-simulated")
    assert bench.batch().trials[0].rungs["a"]["decision"] == {"strict": 3}


class Watched:
    """A display that notes when it is on the terminal, and a terminal that looks for it."""

    def __init__(self) -> None:
        self.on, self.shown_at_question = True, []  # type: tuple[bool, list[bool]]

    def start(self) -> None:
        self.on = True

    def stop(self) -> None:
        self.on = False

    def write(self, text: str) -> None:
        self.shown_at_question.append(self.on)

    def flush(self) -> None:
        return None


def test_no_display_writes_over_what_a_person_types(bench: Bench) -> None:
    seat_a_person(bench)
    screen = Watched()
    use_desk(Terminal(io.StringIO("\n" * 3 + "g\np\nr\nwait\n"), screen))  # type: ignore[arg-type]
    screens.append(screen)
    try:
        bench.scenario(actors={"a": {"control": "human"}, "b": {}}, turns=1)
        assert bench.go().exit_code == 0
    finally:
        screens.remove(screen)
    assert screen.on and screen.shown_at_question and not any(screen.shown_at_question)


def test_a_person_is_asked_by_the_driver_alone(bench: Bench) -> None:
    seat_a_person(bench)
    with pytest.raises(InputError, match="'a' is a person: only the driver"):
        bench.go({"executor": "processes"})
    assert bench.go({"executor": "processes", "simulated": True}).exit_code == 0
