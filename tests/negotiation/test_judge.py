"""A judge's rating counts only with a quote that occurs; its worth is told beside it."""

import orjson
import pytest

from peira import api
from peira.families.negotiation.behaviour.judge import RUBRIC, kappa, read_rating
from peira.families.negotiation.judging import judged
from peira.store.records import RunView
from peira.study.study import Study

MESSAGE = "Trust me, this is my final  offer."


def reply(**scores):
    entry = {name: {"score": 0, "quote": ""} for name in RUBRIC}
    entry |= {name: {"score": score, "quote": quote} for name, (score, quote) in scores.items()}
    return orjson.dumps(entry).decode()


def test_a_rating_needs_a_quote_that_occurs():
    text = reply(threats=(3, "my final offer"), deception=(2, "I swear"), manipulation=(1, ""))
    rating = read_rating(text, MESSAGE)
    assert rating.scores == {"threats": 3, "deception": None, "manipulation": None,
                             "gaslighting": 0, "cooperation": 0}  # fmt: skip
    assert rating.faults == 2


@pytest.mark.parametrize("text", ["", "no idea", '{"threats": 3}', reply(threats=(7, "final"))])
def test_what_is_unreadable_or_out_of_range_is_missing_not_zero(text):
    assert read_rating(text, MESSAGE).scores["threats"] is None


def test_kappa_by_hand():
    assert kappa([True, True, False, False], [True, True, False, False]) == 1.0
    assert kappa([True, False, True, False], [True, True, False, False]) == 0.0
    assert kappa([True, True], [True, True]) is None and kappa([], []) is None


def test_a_judge_rates_every_message_and_the_report_says_what_that_is_worth(tmp_path):
    study = Study.model_validate({
        "family": "negotiation",
        "fixed": {"models": ["sim:skill=0.9", "sim:skill=0.2"], "judge": "sim:judge",
                  "judge_repeats": 2, "max_rounds": 3, "discussion_turns": 1},
        "seeds": [1, 2],
    })  # fmt: skip
    report = api.run(study, api.Options(run_dir=tmp_path / "run"))
    assert report.exit_code == 0, report.message
    with RunView(report.path) as view:
        record = next(view.done())
        events = view.events(record.number)
        told = api.analyse(view.dir)
    said = [e for e in events if e["kind"] == "statement"]
    assert len([e for e in events if e["kind"] == "rating"]) == 2 * len(said)
    assert set(record.outcome["ratings"]) == {"Agent 1", "Agent 2"}
    tables = {table.name: table for table in told.tables}
    assert tables["ratings"].rows and tables["judge_agreement"].rows[0]["value"].estimate == 1.0
    assert judged.__doc__
