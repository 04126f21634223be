"""A scenario over HTTP, in every dialect: what a provider cannot carry stops no trial."""

import json

import pytest

from peira.errors import InputError
from peira.families.scenarios.parse import FORMS
from peira.testing import FaultServer
from peira.testing.asked import Asked
from tests.scenarios.conftest import QUALITY, polite


def answer(asked: Asked) -> str:
    """A usable answer to whatever form the prompt asks for."""
    text = asked.messages[-1][1]
    kind = next(form.kind for form in FORMS.values() if form.request() in text)
    labels = {"offer": "bilateral offer", "verdict": "/quality", "response": "accept"}

    class Labelled:
        label = labels.get(kind, kind)

    return json.dumps(polite(Labelled()))


def served(server: FaultServer, wire: str, **options) -> dict:
    base = "v1beta" if wire == "google" else "v1"
    return {"base_url": f"{server.url}/{base}", "wire": wire, "price": "free"} | options


@pytest.mark.parametrize("wire", ["openai", "responses", "anthropic", "google"])
def test_a_whole_trial_in_every_dialect(bench, wire):
    actors = {"a": {"llm_model": "served"}, "b": {"llm_model": "served"}}
    bench.scenario(
        actors=actors, world_state_model="served", context_window_size=1,
        quality=QUALITY | {"validation_model": "served"},
        metrics={"m": {"description": "d", "type": "int", "extraction_method": "llm"}},
    )  # fmt: skip
    with FaultServer(answer=answer).running() as server:
        report = bench.go(subjects={"served": served(server, wire)})
    assert (report.exit_code, dict(report.causes)) == (0, {})


def test_a_sampling_that_no_provider_can_carry_is_refused_before_the_first_call(bench):
    bench.scenario(actors={"a": {"llm_model": "served"}}, sampling={"temperature": 1.5})
    with FaultServer(answer=answer).running() as server:
        with pytest.raises(InputError, match=r"temperature=1.5 is outside"):
            bench.go(subjects={"served": served(server, "anthropic")})
        assert not server.log


def test_offices_run_at_their_models_own_temperature_where_there_is_no_other(bench):
    actors = {"a": {"llm_model": "gpt-5"}, "b": {"llm_model": "gpt-5"}}
    bench.scenario(actors=actors, world_state_model="gpt-5", context_window_size=1)
    with FaultServer(answer=answer).running() as server:
        report = bench.go(subjects={"gpt-5": {"base_url": f"{server.url}/v1", "price": "free"}})
    assert (report.exit_code, dict(report.causes)) == (0, {})
