"""pydantic-ai's model layer as a wire, with its own test models; skipped without the extra."""

import pytest

pytest.importorskip("pydantic_ai", reason="needs the extra `providers`")

from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelResponse, TextPart, ThinkingPart
from pydantic_ai.models.function import FunctionModel

from peira.errors import InputError, ProviderStop, RateLimited, TransientError
from peira.subjects.registry import open_model
from peira.subjects.subject import Message, Request, Sampling
from peira.subjects.wire.bridge import PydanticAIWire
from peira.subjects.wire.dialect import Endpoint

TURNS = (
    Message("system", "Be brief."), Message("user", "a"), Message("assistant", "b"),
    Message("user", "c"),
)  # fmt: skip


def wire(function) -> PydanticAIWire:
    return PydanticAIWire(FunctionModel(function), Endpoint("x", "pydantic-ai", "", "m"))


def ask() -> Request:
    return Request("m", TURNS, Sampling(temperature=0.5, max_tokens=9, stop=("END",)))


async def test_messages_settings_text_and_thoughts_pass_through():
    seen = {}

    def answer(messages, info):
        seen["kinds"] = [part.part_kind for message in messages for part in message.parts]
        seen["settings"] = dict(info.model_settings)
        return ModelResponse(parts=[ThinkingPart("hm"), TextPart("hello")])

    reply = await wire(answer).send(ask())
    assert (reply.text, reply.reasoning, reply.finish) == ("hello", "hm", "stop")
    assert seen["kinds"] == ["system-prompt", "user-prompt", "text", "user-prompt"]
    settings = seen["settings"]
    assert (settings["temperature"], settings["max_tokens"]) == (0.5, 9)
    assert settings["stop_sequences"] == ["END"]
    assert reply.usage.prompt_tokens > 0 and reply.usage.completion_tokens > 0


@pytest.mark.parametrize(
    ("status", "kind"), [(429, RateLimited), (503, TransientError), (401, ProviderStop)]
)
async def test_http_errors_become_ours(status, kind):
    def answer(messages, info):
        raise ModelHTTPError(status, "m", {"message": "words"})

    with pytest.raises(kind, match=str(status)):
        await wire(answer).send(ask())


async def test_a_name_opens_a_model_and_a_wrong_one_is_refused():
    route = open_model("pydantic-ai:test")
    assert (await route.wire.send(ask())).text
    with pytest.raises(InputError):
        open_model("pydantic-ai:no-such-provider:x")
    with pytest.raises(InputError, match="no price is known"):
        open_model("pydantic-ai:test", budgeted=True)
    assert open_model("pydantic-ai:test", {"price": "free"}, budgeted=True)
    with pytest.raises(InputError, match="top_k"):
        route.fit(Sampling(top_k=3))


def test_a_studys_limits_and_sizes_reach_a_bridged_model():
    options = {"requests_per_minute": 30, "max_concurrency": 2, "context_window": 1000,
               "max_output": 50, "price": {"input_per_million": 1, "output_per_million": 2}}  # fmt: skip
    route = open_model("pydantic-ai:test", options)
    assert route.pace.options.requests_per_minute == 30 and route.pace.concurrency.ceiling == 2
    assert (route.price.context_window, route.price.max_output) == (1000, 50)
