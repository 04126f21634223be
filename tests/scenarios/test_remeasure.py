"""Reading finished trials again: no play, no second purchase, new definitions."""

from __future__ import annotations

import yaml

from peira import api
from peira.api.remeasure import remeasure
from peira.families.scenarios.analysis import Results
from peira.store.rundir import RunDir
from peira.subjects.subject import Request
from tests.scenarios.conftest import LEVEL, Bench, Scripted, polite

WORDS = {"description": "words", "type": "int", "extraction_method": "keyword",
         "source": ["actions"], "keywords": ["waits"]}  # fmt: skip
READ = {"description": "mood", "type": "int", "extraction_method": "llm", "initial": 0}


def redefine(bench: Bench, **metrics: object) -> None:
    path = bench.root / "scenario" / "metrics.yaml"
    path.write_text(yaml.safe_dump({"metrics": metrics}))


def test_a_new_metric_is_read_from_the_transcript(bench: Bench) -> None:
    bench.play(polite, metrics={"cooperation_level": LEVEL})
    before = bench.calls()
    redefine(bench, cooperation_level=LEVEL | {"range": [6, 10]}, words=WORDS)
    assert remeasure(RunDir(bench.run), api.Options(wires={"x": Scripted(polite)})) == 1
    trial = bench.batch().trials[0]
    assert trial.final == {"cooperation_level": None, "words": 2}
    assert trial.reasons == {"cooperation_level": "out_of_range"}
    assert Results(bench.batch()).metrics["words"]["mean"] == 2.0
    assert bench.calls() == before


def test_a_models_readings_are_bought_once_for_each_wording(bench: Bench) -> None:
    def reader(value: int) -> Scripted:
        def answer(request: Request) -> object:
            if "metrics" in request.label:
                return {"metrics": {"mood": {"value": value, "quote": "Nothing happens"}}}
            return polite(request)

        return Scripted(answer)

    bench.play(reader(1)._answer, metrics={"mood": READ}, metrics_model="x")
    same = reader(5)
    remeasure(RunDir(bench.run), api.Options(wires={"x": same}))
    assert same.requests == [] and bench.batch().trials[0].final == {"mood": 1}
    redefine(bench, mood=READ | {"prompt": "Read it otherwise."})
    other = reader(7)
    remeasure(RunDir(bench.run), api.Options(wires={"x": other}))
    assert len(other.requests) == 3 and bench.batch().trials[0].final == {"mood": 7}
    again = reader(9)
    remeasure(RunDir(bench.run), api.Options(wires={"x": again}))
    assert again.requests == [] and bench.batch().trials[0].final == {"mood": 7}


def test_metrics_that_steered_keep_their_values(bench: Bench) -> None:
    ends = [{"name": "e", "when": {"cooperation_level": ">= 9"}}]
    bench.play(polite, metrics={"cooperation_level": LEVEL}, end_conditions=ends)
    redefine(bench, cooperation_level=LEVEL | {"pattern": "never (\\d+)"})
    remeasure(RunDir(bench.run), api.Options(wires={"x": Scripted(polite)}))
    assert bench.batch().trials[0].final == {"cooperation_level": 5.0}


def test_the_command_says_how_many(bench: Bench, capsys: object) -> None:
    from peira.cli.main import run

    bench.go()
    assert run(["analyse", str(bench.run), "--remeasure"]) == 0
