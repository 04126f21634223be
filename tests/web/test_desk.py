"""A person's answer is asked for once, kept, and read as the form says."""

import asyncio

import pytest

from peira.errors import InputError
from peira.families.scenarios.human import Question
from peira.families.scenarios.parse import FORMS
from peira.subjects.subject import system, user
from peira.web import live
from peira.web.app import make_app
from peira.web.desk import BrowserDesk, Mailbox, as_waiting, read_form
from peira.web.guard import Door
from tests.web.talkers import PROBE
from tests.web.visitor import HOST, TOKEN, ask, read

OWN = {"origin": f"http://{HOST}"}


def question(kind="decision", label="turn 1/decision"):
    messages = (system(f"You sit. {PROBE}"), user("What do you do?"))
    return Question("run-001", f"dispatcher {PROBE}", label, messages, FORMS[kind])


def test_an_answer_given_while_nobody_waits_is_found_by_the_next_who_asks(tmp_path):
    box = Mailbox(tmp_path)
    asked = as_waiting(question())
    box.put(asked)
    assert [q.id for q in box.waiting()] == [asked.id]
    assert box.answer(asked.id, {"action": "I wait"})
    assert not box.answer(asked.id, {"action": "another"})
    assert box.waiting() == []
    assert asyncio.run(BrowserDesk(tmp_path).ask(question())) == {"action": "I wait"}


def test_a_question_that_comes_back_is_asked_anew(tmp_path):
    """The family found the first answer unusable: the desk does not give it again."""

    async def both():
        desk = BrowserDesk(tmp_path)
        box = desk.mailbox
        box.put(as_waiting(question()))
        box.answer(as_waiting(question()).id, {"action": ""})
        first = await desk.ask(question())
        second = asyncio.create_task(desk.ask(question()))
        while not box.waiting():
            await asyncio.sleep(0)
        box.answer(box.waiting()[0].id, {"action": "yes"})
        return first, await second

    assert asyncio.run(both()) == ({"action": ""}, {"action": "yes"})


def test_another_question_is_another(tmp_path):
    assert as_waiting(question()).id != as_waiting(question(label="turn 2/decision")).id


@pytest.mark.parametrize("kind", FORMS)
def test_every_form_of_the_scenarios_can_be_filled(kind):
    asked = as_waiting(question(kind))
    given = {b.name: "yes" if b.truth else "one\r\ntwo" for b in asked.blanks}
    value = read_form(asked, given)
    for blank in asked.blanks:
        wanted = True if blank.truth else ["one", "two"] if blank.many else "one\ntwo"
        assert value[blank.name] == wanted


def test_a_needed_blank_must_be_filled():
    with pytest.raises(InputError, match="action"):
        read_form(as_waiting(question()), {"action": "  "})


def test_the_page_asks_and_takes_the_answer(house, tmp_path):
    import shutil

    shutil.copytree(house / "deep/inside/plain", tmp_path / "run")
    app, box, asked = (
        make_app(tmp_path, Door(TOKEN)),
        Mailbox(tmp_path / "run"),
        as_waiting(question()),
    )
    box.put(asked)
    page = ask(app, "/desk/run")
    markup = read(page.text)
    assert "xss-probe" not in markup.tags and "xss-probe" in "".join(markup.words)
    assert asked.id in page.text
    empty = ask(
        app,
        "/desk/run",
        method="POST",
        headers=OWN,
        body=f"question={asked.id}&goals=peace".encode(),
    )
    assert empty.status == 400 and "must be filled" in empty.text and "peace" in empty.text
    assert box.waiting() != []
    body = f"question={asked.id}&action=I+wait&goals=a%0Ab".encode()
    assert ask(app, "/desk/run", method="POST", headers=OWN, body=body).status == 303
    assert box.answered(asked.id)["action"] == "I wait"
    assert box.answered(asked.id)["goals"] == ["a", "b"]
    assert ask(app, "/desk/run", method="POST", headers=OWN, body=body).status == 303


def test_looking_never_makes_a_mailbox(house, app):
    ask(app, "/desk/deep/inside/plain")
    assert not (house / "deep/inside/plain/desk.db").exists()


def test_an_answer_beyond_all_bounds_is_refused(app):
    body = b"question=" + b"x" * 300_000
    assert ask(app, "/desk/deep/inside/plain", method="POST", headers=OWN, body=body).status == 400


@pytest.mark.parametrize(("known", "events"), [
    ("7", ["hello"]), (None, ["hello"]), ("6", ["hello", "desk"]),
])  # fmt: skip
def test_a_question_put_between_page_and_stream_is_told_at_once(known, events):
    async def heard():
        return [name async for name in live.watch(lambda: ("run", 7), lambda: True, known)]

    assert asyncio.run(heard()) == events


def test_the_desk_page_says_what_it_knew(app, house):
    text = ask(app, "/desk/deep/inside/plain").text
    assert 'sse-connect="/events/deep/inside/plain?desk=0"' in text
