"""Prices: exact where a provider reported usage, an upper bound before."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peira.errors import InputError
from peira.subjects.prices import PriceOptions, Rate, listed_price, stated_price
from peira.subjects.registry import describe_model
from peira.subjects.subject import Message, Reply, Request, Sampling, Usage

GIVEN = PriceOptions(
    input_per_million=2.5, output_per_million=10, cached_per_million=1.25, cache_write_per_million=3
)
PRICE = stated_price("x", GIVEN, "test")


def ask(text: str, most: int | None = 100) -> Request:
    return Request("m", (Message("user", text),), Sampling(max_tokens=most))


def test_a_cost_is_the_sum_over_kinds_of_tokens():
    usage = Usage(1000, 100, cached_tokens=400, cache_write_tokens=100, reasoning_tokens=50)
    assert PRICE.cost(Reply("", usage=usage)) == round(500 * 2.5 + 400 * 1.25 + 100 * 3 + 100 * 10)


@given(st.text(max_size=300), st.integers(1, 500), st.text(max_size=600))
def test_a_reply_without_usage_costs_a_token_for_each_byte_and_never_more_than_the_worst(
    text, most, answer
):
    request = ask(text, most)
    cost = PRICE.cost(Reply(answer), request)
    assert 0 < cost <= PRICE.worst(request)
    assert cost > PRICE.cost(Reply(answer, usage=Usage(1, 0)), request)


@given(st.text(max_size=300), st.integers(1, 500), st.data())
def test_the_worst_case_bounds_every_cost(text, most, data):
    request = ask(text, most)
    prompt = data.draw(st.integers(0, PRICE.prompt_bound(request)))
    cached = data.draw(st.integers(0, prompt))
    written = data.draw(st.integers(0, prompt - cached))
    usage = Usage(prompt, data.draw(st.integers(0, most)), cached, written)
    assert PRICE.cost(Reply("", usage=usage)) <= PRICE.worst(request)


def test_the_guides_batch_arithmetic():
    half = stated_price(
        "x", PriceOptions(input_per_mtok=0.15, output_per_mtok=0.60, batch_discount=0.5), "test"
    ).batched()
    assert half.cost(Reply("", usage=Usage(44_800_000, 8_300_000))) == 5_850_000
    other = stated_price(
        "x", PriceOptions(input_per_mtok=1.25, output_per_mtok=5.0), "test"
    ).batched()
    assert other.cost(Reply("", usage=Usage(3000, 1500))) == 5_625
    explicit = PriceOptions(input_per_mtok=9, output_per_mtok=9, input_per_mtok_batch=1,
                            output_per_mtok_batch=2)  # fmt: skip
    assert stated_price("x", explicit, "t").batched().cost(Reply("", usage=Usage(10, 10))) == 30


def test_crossing_a_tier_prices_every_token_and_the_worst_case_knows():
    rate = Rate(1.0, ((200, 2.0),))
    assert (rate.at(200), rate.at(201)) == (1.0, 2.0)
    assert (rate.most(150), rate.most(500)) == (1.0, 2.0)
    gemini = listed_price("g", "google", "gemini-2.5-pro")
    assert gemini is not None
    small, large = Usage(100_000, 0), Usage(300_000, 0)
    assert gemini.cost(Reply("", usage=large)) == 6 * gemini.cost(Reply("", usage=small))


def test_a_price_by_the_hour_takes_the_dearest_beforehand():
    price = listed_price("d", "deepseek", "deepseek-chat")
    assert price is not None and len(price.rates) == 2
    night, day = 1_700_000_000.0, 1_700_028_000.0  # 22:13 and 06:00 UTC
    usage = Usage(1_000_000, 0)
    costs = [price.cost(Reply("", usage=usage, asked_at=when)) for when in (night, day)]
    assert costs[0] * 2 == costs[1]
    assert price.worst(ask("x" * 1000, 1)) >= 1000 * max(r.input.base for r in price.rates)


def test_prices_are_found_offline_with_date_and_source():
    price = listed_price("gpt-4o", "openai", "gpt-4o-2024-08-06")
    assert price is not None
    assert price.describe()["source"].startswith("genai-prices ")
    assert price.batched().rates[0].input.base == price.rates[0].input.base / 2
    assert listed_price("x", "openai", "no-such-model-at-all") is None


def test_without_any_bound_on_the_answer_no_budget_can_hold():
    with pytest.raises(InputError, match="max_output"):
        PRICE.worst(ask("hi", None))


def test_local_and_free_cost_nothing():
    assert describe_model("x", {"base_url": "http://127.0.0.1:9/v1"}).free
    away = {"base_url": "http://provider.invalid/v1"}
    assert not describe_model("x", away).free
    assert describe_model("x", {**away, "price": "free"}).free
