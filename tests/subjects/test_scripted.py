"""Scripts and recordings as subjects."""

import json

import pytest

from peira.errors import InputError, ProviderStop
from peira.subjects.registry import open_model
from peira.subjects.scripted import ScriptedWire
from peira.subjects.subject import Message, Reply, Request, Sampling


def ask(text: str, label: str = "call", n: int = 0) -> Request:
    return Request("m", (Message("user", text),), Sampling(), label=label, n=n)


async def said(wire, *requests: Request) -> list[str]:
    return [(await wire.send(request)).text for request in requests]


async def test_a_list_is_used_up_in_order_then_refuses():
    wire = ScriptedWire(["a", "b"])
    assert await said(wire, ask("1"), ask("2")) == ["a", "b"]
    with pytest.raises(ProviderStop, match="only 2 answers"):
        await wire.send(ask("3"))
    assert wire.calls == 3


async def test_a_mapping_answers_by_label_call_or_prompt():
    wire = ScriptedWire({"vote|1": "second", "vote": ["first", "third"], "hello": "hi", "*": "?"})
    asked = (ask("x", "vote"), ask("x", "vote", 1), ask("x", "vote", 2), ask("hello"), ask("y"))
    assert await said(wire, *asked) == ["first", "second", "third", "hi", "?"]
    with pytest.raises(ProviderStop, match="no answer to 'other'"):
        await ScriptedWire({"vote": "x"}).send(ask("x", "other"))


async def test_a_function_sees_the_request_and_an_exception_is_raised():
    assert await said(ScriptedWire(lambda r: r.messages[-1].content.upper()), ask("a")) == ["A"]
    with pytest.raises(ProviderStop, match="planted"):
        await ScriptedWire([ProviderStop("planted")]).send(ask("a"))
    assert (await ScriptedWire([Reply("", finish="refusal")]).send(ask("a"))).finish == "refusal"


async def test_a_script_file_is_a_subject(tmp_path):
    file = tmp_path / "answers.json"
    file.write_text(json.dumps({"call": ["one", {"text": "tw", "finish": "length"}]}))
    route = open_model(f"script:{file}")
    assert route.free and route.provider == "script"
    replies = [await route.wire.send(ask("x")), await route.wire.send(ask("x"))]
    assert [(r.text, r.finish) for r in replies] == [("one", "stop"), ("tw", "length")]
    file.write_text("{oops")
    with pytest.raises(InputError, match=r"answers\.json"):
        open_model(f"script:{file}")


async def test_a_recording_answers_the_same_prompts_again(tmp_path):
    file = tmp_path / "calls.jsonl"
    call = {"label": "call", "messages": [{"role": "user", "content": "x"}], "reply": "one",
            "usage": {"prompt_tokens": 3, "completion_tokens": 1}}  # fmt: skip
    file.write_text(json.dumps(call) + "\n" + json.dumps({**call, "reply": "two"}) + "\n")
    wire = open_model(f"replay:{file}").wire
    assert await said(wire, ask("x"), ask("x"), ask("x")) == ["one", "two", "two"]
    with pytest.raises(ProviderStop, match="no reply"):
        await wire.send(ask("y"))
