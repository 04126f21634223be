"""Every dialect: what is sent, what is understood, what is refused, what an error becomes."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peira.errors import InputError, ProviderStop, RateLimited, TransientError, TrialFailed
from peira.subjects.registry import Outlets, open_model
from peira.subjects.subject import Message, Reply, Request, Sampling, Usage
from peira.subjects.wire import DIALECTS
from peira.subjects.wire.client import Answer
from peira.subjects.wire.dialect import Endpoint, Fit, split_thinking
from peira.subjects.wire.http import error_of, read_reply, refusal_or_raise, retry_after
from peira.testing import Faults, FaultServer

FULL = Sampling(0.5, 0.9, 40, 77, ("END",), 7, "low", True)
TURNS = (
    Message("system", "Be brief."), Message("user", "a"), Message("assistant", "b"),
    Message("user", "c"),
)  # fmt: skip


def body(wire: str, sampling: Sampling, **endpoint) -> dict:
    fields = {"name": "x", "provider": "p", "base_url": "http://h/v1", "model": "m", **endpoint}
    return DIALECTS[wire]().body(Request("m", TURNS, sampling, seed=2**40 + 5), Endpoint(**fields))


def test_openai_chat_sends_every_setting():
    sent = body("openai", FULL)
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    assert [sent[k] for k in ("temperature", "top_p", "top_k", "max_tokens", "stop", "seed")] == [
        0.5, 0.9, 40, 77, ["END"], 7,
    ]  # fmt: skip
    assert sent["reasoning_effort"] == "low"
    assert sent["response_format"] == {"type": "json_object"}


def test_openai_quirks_of_reasoning_models():
    quirks = frozenset({"completion_limit", "developer_role"})
    sent = body("openai", Sampling(max_tokens=9), quirks=quirks)
    assert sent["max_completion_tokens"] == 9 and "max_tokens" not in sent
    assert sent["messages"][0]["role"] == "developer"


def test_the_calls_own_seed_is_sent_where_a_provider_takes_one():
    assert body("openai", Sampling(), seeds=True)["seed"] == 5
    assert body("openai", Sampling(seed=9), seeds=True)["seed"] == 9
    assert "seed" not in body("openai", Sampling())


def test_responses_sends_what_it_carries():
    sent = body("responses", Sampling(0.5, 0.9, max_tokens=77, reasoning_effort="low"))
    assert sent["max_output_tokens"] == 77 and sent["store"] is False
    assert sent["reasoning"]["effort"] == "low"


def test_anthropic_parts_system_from_turns_and_always_bounds_the_answer():
    sent = body("anthropic", Sampling(0.5, top_k=3, stop=("END",)), max_output=500)
    assert sent["system"] == "Be brief." and sent["max_tokens"] == 500
    assert [m["role"] for m in sent["messages"]] == ["user", "assistant", "user"]
    assert sent["stop_sequences"] == ["END"] and sent["top_k"] == 3
    thinking = body("anthropic", Sampling(max_tokens=9000, reasoning_effort="low"))["thinking"]
    assert thinking["type"] == "enabled"


def test_google_names_roles_and_settings_its_own_way():
    sent = body("google", FULL)
    config = sent["generationConfig"]
    assert [c["role"] for c in sent["contents"]] == ["user", "model", "user"]
    assert sent["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert (config["topK"], config["maxOutputTokens"], config["seed"]) == (40, 77, 7)
    assert config["responseMimeType"] == "application/json"
    assert config["thinkingConfig"]["thinkingBudget"] == 1024


@pytest.mark.parametrize("wire", DIALECTS)
async def test_a_reply_over_a_real_socket_is_read_whole(wire):
    with FaultServer().running() as server:
        outlets = Outlets()
        base = "v1beta" if wire == "google" else "v1"
        options = {"base_url": f"{server.url}/{base}", "wire": wire}
        route = open_model("m-9", options, outlets=outlets)
        reply = await route.wire.send(Request(route.model, TURNS, Sampling(max_tokens=50)))
        await outlets.close()
    assert reply.text and reply.finish == "stop" and reply.served_model == "m-9"
    assert reply.request_id and reply.usage.prompt_tokens and reply.usage.completion_tokens


CHAT = {"model": "m", "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}


def chat(message: dict, finish: str = "stop", **usage) -> Reply:
    data = {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}
    return read_reply(DIALECTS["openai"](), data)


def test_openai_usage_reasoning_and_finish_are_mapped():
    reply = chat(
        {"content": "hi", "reasoning_content": "hm"}, prompt_tokens=10, completion_tokens=8,
        prompt_tokens_details={"cached_tokens": 4}, completion_tokens_details={"reasoning_tokens": 6},
    )  # fmt: skip
    assert reply.reasoning == "hm" and reply.usage == Usage(10, 8, 4, 0, 6)
    assert chat({"content": "x"}, "length").finish == "length"
    assert chat({"content": "x"}, "content_filter").finish == "refusal"
    assert chat({"content": None, "refusal": "no"}).finish == "refusal"
    assert chat({"content": " "}).finish == "empty"
    with pytest.raises(TransientError, match="broke off") as caught:
        chat({"content": "half an ans"}, "abort")
    assert caught.value.lost
    assert (
        chat({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}).text
        == "ab"
    )


def test_thoughts_in_the_text_are_kept_apart_from_the_answer():
    assert split_thinking("<think>a\nb</think>\nc") == ("c", "a\nb")
    assert split_thinking("<think>cut off") == ("", "cut off")
    assert split_thinking("plain <think> text") == ("plain <think> text", "")
    assert chat({"content": "<think>so</think>yes"}).reasoning == "so"


def test_anthropic_counts_cached_tokens_as_prompt():
    data = {
        "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "hi"}],
        "stop_reason": "max_tokens", "model": "c",
        "usage": {"input_tokens": 5, "cache_read_input_tokens": 20,
                  "cache_creation_input_tokens": 10, "output_tokens": 3},
    }  # fmt: skip
    reply = read_reply(DIALECTS["anthropic"](), data)
    assert reply.usage == Usage(35, 3, 20, 10) and reply.finish == "length"
    assert (reply.text, reply.reasoning) == ("hi", "hm")


def test_google_blocked_prompt_is_a_refusal_and_thoughts_are_counted():
    google = DIALECTS["google"]()
    assert google.reply({"promptFeedback": {"blockReason": "SAFETY"}}).finish == "refusal"
    data = {
        "candidates": [{"content": {"parts": [{"text": "hm", "thought": True}, {"text": "hi"}]}}],
        "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 2, "thoughtsTokenCount": 9},
    }  # fmt: skip
    reply = google.reply(data)
    assert (reply.text, reply.reasoning) == ("hi", "hm")
    assert reply.usage == Usage(4, 11, 0, 0, 9)


def test_responses_refusal_and_cut_are_marked():
    responses = DIALECTS["responses"]()
    refused = {"output": [{"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}]}
    assert responses.reply(refused).finish == "refusal"
    cut = {
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [],
    }
    assert responses.reply(cut).finish == "length"


@pytest.mark.parametrize("tokens", [-5, 10**30, 1e300])
def test_a_usage_that_cannot_be_is_no_usable_answer(tokens):
    with pytest.raises(TransientError, match="unknown shape") as caught:
        chat({"content": "hi"}, completion_tokens=tokens)
    assert caught.value.lost, "it may have been charged"


def test_an_error_inside_a_200_is_an_error():
    with pytest.raises(RateLimited):
        read_reply(DIALECTS["openai"](), {"error": {"code": 429, "message": "upstream"}})


@given(st.recursive(st.none() | st.booleans() | st.text() | st.integers(0, 99),
       lambda inner: st.lists(inner, max_size=3)
       | st.dictionaries(st.sampled_from(["choices", "message", "content", "usage", "error",
                                          "candidates", "output", "parts", "x"]), inner, max_size=4),
       max_leaves=12), st.sampled_from(sorted(DIALECTS)))  # fmt: skip
def test_any_json_is_a_reply_or_one_of_our_errors(data, wire):
    try:
        reply = read_reply(DIALECTS[wire](), data)
    except (TransientError, ProviderStop, TrialFailed):
        return
    assert isinstance(reply, Reply)


# -- errors ----------------------------------------------------------------------------------
def answer(status: int, message: str = "words", **headers: str) -> Answer:
    return Answer(status, headers, orjson.dumps({"error": {"message": message}}))


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, ProviderStop), (401, ProviderStop), (402, ProviderStop), (403, ProviderStop),
     (404, ProviderStop), (408, TransientError), (409, TransientError), (429, RateLimited),
     (500, TransientError), (502, TransientError), (503, TransientError), (529, RateLimited)],
)  # fmt: skip
def test_statuses_become_errors_with_the_providers_words(status, kind):
    error = error_of(answer(status))
    assert type(error) is kind and "words" in str(error)


def test_no_credit_left_is_final_and_a_long_prompt_fails_only_its_trial():
    assert isinstance(error_of(answer(429, "insufficient_quota")), ProviderStop)
    error = error_of(answer(400, "maximum context length is 8192 tokens"))
    assert isinstance(error, TrialFailed) and error.cause == "context"


def test_a_filtered_prompt_is_a_refusal():
    assert refusal_or_raise(answer(400, "content_policy_violation")).finish == "refusal"


@pytest.mark.parametrize(
    ("found", "seconds"),
    [(answer(429, **{"Retry-After": "7"}), 7.0), (answer(429, **{"retry-after-ms": "250"}), 0.25),
     (answer(429), None), (answer(429, **{"Retry-After": "soon"}), None),
     (answer(429, **{"Retry-After": "Mon, 01 Jan 2001 00:00:00 GMT"}), 0.0),
     (Answer(429, {}, b'{"error":{"details":[{"retryDelay": "17s"}]}}'), 17.0)],
)  # fmt: skip
def test_retry_after_in_all_its_forms(found, seconds):
    assert retry_after(found) == seconds


@pytest.mark.parametrize(
    ("kind", "lost"),
    [("wait", False), ("busy", False), ("error", False), ("unavailable", False), ("drop", True),
     ("half", True), ("garbled", True), ("html", True)],
)  # fmt: skip
async def test_only_an_answer_that_may_have_been_charged_is_lost(kind, lost):
    with FaultServer(Faults(rate=1, kinds=(kind,), most=9)).running() as server:
        outlets = Outlets()
        route = open_model("m", {"base_url": f"{server.url}/v1"}, outlets=outlets)
        with pytest.raises(TransientError) as caught:
            await route.wire.send(Request("m", TURNS, Sampling()))
        await outlets.close()
    assert caught.value.lost is lost


async def test_timeouts_are_lost_and_refused_connections_are_not():
    outlets = Outlets()
    with FaultServer(Faults(latency=5)).running() as server:
        options = {"base_url": f"{server.url}/v1", "timeout": 0.1}
        slow = open_model("m", options, outlets=outlets)
        with pytest.raises(TransientError, match="timed out") as late:
            await slow.wire.send(Request("m", TURNS, Sampling()))
    with pytest.raises(TransientError, match="cannot connect") as refused:
        await slow.wire.send(Request("m", TURNS, Sampling()))
    await outlets.close()
    assert late.value.lost and not refused.value.lost


# -- fitting ---------------------------------------------------------------------------------
def test_fit_refuses_drops_and_widens():
    fit = Fit("x", "acme", frozenset({"max_tokens", "top_p"}), allow_drop=frozenset({"seed"}),
              fixed={"temperature": 1}, allowance=100)  # fmt: skip
    with pytest.raises(InputError, match="cannot carry temperature"):
        fit(Sampling(temperature=0.7))
    with pytest.raises(InputError, match="json_mode"):
        fit(Sampling(json_mode=True))
    with pytest.raises(InputError, match=r"cannot carry temperature=0\.0"):
        fit(Sampling(temperature=0.0))
    with pytest.raises(InputError, match="cannot carry stop"):
        fit(Sampling(stop=("END",)))
    assert fit(Sampling(seed=0)) == Sampling()
    assert fit(Sampling(temperature=1.0, seed=3, max_tokens=10)) == Sampling(max_tokens=110)


def test_thoughts_get_room_of_their_own_beside_the_answers():
    options = {"base_url": "http://h/v1", "wire": "anthropic", "price": "free"}
    fit = open_model("m", options).fit
    fitted = fit(Sampling(temperature=1.0, max_tokens=500, reasoning_effort="medium"))
    sent = body("anthropic", fitted)
    assert sent["max_tokens"] - sent["thinking"]["budget_tokens"] == 500
    assert "temperature" not in sent
    assert fit(Sampling(temperature=0.5, max_tokens=500)).max_tokens == 500
    with pytest.raises(InputError, match=r"temperature=0.5 beside a reasoning effort"):
        fit(Sampling(temperature=0.5, reasoning_effort="low"))
    assert body("anthropic", Sampling(reasoning_effort="high"))["max_tokens"] > 16384
    assert fit(Sampling(max_tokens=500, reasoning_effort="none")).max_tokens == 500


def test_room_for_thoughts_ends_where_the_model_does():
    options = {"base_url": "http://h/v1", "price": "free", "max_output": 16000}
    fit = open_model("m", {**options, "reasoning_allowance": 8192}).fit
    assert fit(Sampling(max_tokens=500)).max_tokens == 8692
    assert fit(Sampling(max_tokens=500, reasoning_effort="high")).max_tokens == 16000
    assert fit(Sampling(max_tokens=20_000, reasoning_effort="high")).max_tokens == 20_000


def test_fit_refuses_values_outside_what_the_interface_takes():
    fit = Fit("x", "acme", frozenset({"temperature"}), {"temperature": (0.0, 1.0)})
    with pytest.raises(InputError, match="allowed: 0 to 1"):
        fit(Sampling(temperature=1.5))
