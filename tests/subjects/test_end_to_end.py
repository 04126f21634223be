"""Studies on a served model that misbehaves: same outcomes, nothing bought twice, no key kept."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from peira import api
from peira.errors import StudyError
from peira.store.records import RunView
from peira.store.rundir import RunDir
from peira.study.study import Study
from peira.testing import Faults, FaultServer
from peira.testing.asked import Asked, plain_answer

FAMILY = f"{Path(__file__).with_name('chat.py')}:Chat"
PRICE = {"input_per_million": 100.0, "output_per_million": 400.0}


def study(server: FaultServer, *, replicates: int = 6, **changes) -> Study:
    options = {
        "base_url": f"{server.url}/v1", "model": "m-1", "price": PRICE, "backoff": 0.01,
        "timeout": 20.0, **changes.pop("options", {}),
    }  # fmt: skip
    limits = {"max_parallel": 16, "retries": 20, **changes.pop("limits", {})}
    return Study(
        family=FAMILY, name="served", fixed={"model": "served", **changes.pop("fixed", {})},
        factors={"topic": ["rain", "wind"]}, replicates=replicates, limits=limits,
        subjects={"served": options}, **changes,
    )  # fmt: skip


def outcomes(folder: Path) -> dict:
    with RunView(RunDir(folder)) as run:
        return {record.slug: (record.state, record.outcome) for record in run.records()}


def run(question: Study, folder: Path, **options) -> api.RunReport:
    return api.run(question, api.Options(run_dir=folder, **options))


@pytest.mark.parametrize("wire", ["openai", "responses", "anthropic", "google"])
def test_thirty_percent_faults_change_no_outcome(tmp_path, wire):
    base = "v1beta" if wire == "google" else "v1"
    with FaultServer().running() as server:
        options = {"wire": wire, "base_url": f"{server.url}/{base}"}
        calm = run(study(server, options=options), tmp_path / "calm")
        server.faults = Faults(rate=0.3)
        server.attempts.clear()
        server.log.clear()
        rough = run(study(server, options=options), tmp_path / "rough")
        faults = Counter(entry.fault for entry in server.log)
    assert (calm.exit_code, rough.exit_code) == (0, 0)
    assert sum(count for fault, count in faults.items() if fault) > 10
    assert outcomes(tmp_path / "calm") == outcomes(tmp_path / "rough")


def test_a_lost_answer_stays_charged_at_its_worst_case(tmp_path):
    with FaultServer(Faults(rate=1.0, kinds=("drop",), most=1)).running() as server:
        report = run(study(server, replicates=1), tmp_path / "run")
    assert report.exit_code == 0
    assert report.unsettled_usd > report.spent_usd > 0


@pytest.mark.parametrize("kind", ["wait", "busy", "error", "unavailable"])
def test_a_plain_refusal_costs_nothing(tmp_path, kind):
    with FaultServer(Faults(rate=1.0, kinds=(kind,), most=1)).running() as server:
        report = run(study(server, replicates=1), tmp_path / "run")
        faults = Counter(entry.fault for entry in server.log)
    assert report.exit_code == 0 and faults[kind] > 0
    assert report.unsettled_usd == 0 < report.spent_usd


@pytest.mark.parametrize(
    ("family", "fixed", "found"),
    [
        (FAMILY, {"model": "served"}, ["top_k=5"]),
        ("prompts", {"model": "served", "temps": [0.2, 2.0], "prompt_set": "a", "data": {"source": "sample"},
         "prompt_sets": {"a": {"control": "prompt.txt", "treatment": "prompt.txt"}}}, ["top_k=50"]),
        ("negotiation", {"models": ["served", "other"], "judge": "other", "judge_repeats": 1,
         "sampling": {"other": {"temperature": 2}}}, ["top_k=5", "'other'.*temperature=2"]),
    ],
)  # fmt: skip
def test_what_a_wire_cannot_carry_is_refused_before_the_first_call(
    tmp_path, monkeypatch, family, fixed, found
):
    (tmp_path / "prompt.txt").write_text("Be brief.")
    monkeypatch.chdir(tmp_path)
    with FaultServer().running() as server:
        served = {"base_url": f"{server.url}/v1", "wire": "responses", "sampling": {"top_k": 5}}
        other = {"base_url": f"{server.url}/v1", "wire": "anthropic"}
        question = Study(family=family, fixed=fixed, seeds=[1],
                         subjects={"served": served, "other": other})  # fmt: skip
        with pytest.raises(StudyError) as refused:
            run(question, tmp_path / "run")
        assert not server.log
    text = str(refused.value)
    assert all(re.search(each, text) for each in found), text
    assert "allow_drop" in text


def test_refusals_and_cut_replies_come_back_marked(tmp_path):
    with FaultServer(Faults(refuse=0.3, truncate=0.3)).running() as server:
        run(study(server, replicates=3), tmp_path / "run")
    seen = Counter()
    for _, outcome in outcomes(tmp_path / "run").values():
        seen.update(outcome["finishes"])
    assert set(seen) == {"stop", "refusal", "length"}


def test_a_budget_is_never_exceeded_and_a_raised_one_finishes(tmp_path):
    with FaultServer(Faults(jitter=0.01)).running() as server:
        first = run(study(server, limits={"budget_usd": 0.12}), tmp_path / "run")
        asked = len(server.log)
        second = run(study(server, limits={"budget_usd": 5.0}), tmp_path / "run")
        digests = Counter(entry.digest for entry in server.log)
    assert first.exit_code == 4
    assert 0 < first.spent_usd + first.unsettled_usd <= 0.12
    assert second.exit_code == 0
    assert 0 < asked < len(server.log) == 72
    assert set(digests.values()) == {1}


def test_a_run_scope_key_is_bought_once_at_any_parallelism(tmp_path):
    with FaultServer(Faults(jitter=0.01)).running() as server:
        shared = study(server, replicates=8, fixed={"scope": "run"})
        report = run(shared, tmp_path / "run")
        digests = Counter(entry.digest for entry in server.log)
    assert report.exit_code == 0
    assert len(digests) == 2 * 3 * 2 and set(digests.values()) == {1}


@pytest.mark.parametrize("scope", ["trial", "run"])
def test_a_reply_that_failed_its_trials_is_bought_afresh_once_by_a_retry(tmp_path, scope):
    said = ["noise"]
    fixed = {"scope": scope, "turns": 1, "side_by_side": 1, "unwanted": "noise"}
    with FaultServer(answer=lambda asked: said[0]).running() as server:
        question = study(server, replicates=2, fixed=fixed)
        assert run(question, tmp_path / "run").tally.failed == 4
        before, said[0] = len(server.log), "sense"
        again = run(question, tmp_path / "run", retry_failed=True)
        bought = len(server.log) - before
    assert again.exit_code == 0 and bought == before == (4 if scope == "trial" else 2)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404])
def test_a_providers_no_stops_the_run_with_its_words_and_no_key(tmp_path, monkeypatch, status):
    key = "sk-planted-0123456789abcdefghij"
    monkeypatch.setenv("PLANTED_KEY", key)
    faults = Faults(status=status, status_from=4, message="no more for {key}, friend")
    with FaultServer(faults).running() as server:
        question = study(server, options={"api_key_env": "PLANTED_KEY"})
        report = run(question, tmp_path / "run")
    assert report.exit_code == 3
    assert report.tally.done == 0 and report.tally.failed == 0
    assert "friend" in report.message and "key hidden" in report.message
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file():
            assert key.encode() not in path.read_bytes(), path


def test_nothing_but_429_halts_the_run_as_stopped_by_its_provider(tmp_path):
    faults = Faults(rate=1.0, kinds=("busy",), most=10**9)
    with FaultServer(faults).running() as server:
        report = run(study(server, options={"patience": 0.5}), tmp_path / "run")
        server.faults = Faults()
        again = run(study(server), tmp_path / "run")
    assert report.exit_code == 3 and "rate_limit" in report.message
    assert report.tally.failed == 0 and report.tally.done == 0
    assert again.exit_code == 0


@pytest.mark.parametrize("executor", ["local", "processes"])
def test_a_provider_that_answers_nobody_stops_a_run_of_a_few_calls_with_one_reason(
    tmp_path, executor
):
    with FaultServer(Faults(status=500)).running() as server:
        few = study(server, replicates=1, limits={"max_parallel": 1, "retries": 1})
        report = run(few, tmp_path / "run", executor=executor)
        server.faults = Faults()
        again = run(few, tmp_path / "run", executor=executor)
    assert report.exit_code == 3 and "has answered nobody: HTTP 500" in report.message
    assert report.tally.failed == report.tally.done == 0 < report.tally.halted
    assert again.exit_code == 0


def test_an_unknown_price_under_a_budget_is_refused_before_the_first_call(tmp_path):
    from peira.errors import InputError

    with FaultServer().running() as server:
        question = study(
            server, limits={"budget_usd": 1.0}, options={"price": None, "provider": "openai"}
        )
        question.subjects["served"]["base_url"] = "http://provider.invalid/v1"
        with pytest.raises(InputError, match="no price is known"):
            run(question, tmp_path / "run")
        assert server.log == []


def test_what_a_wire_cannot_carry_is_refused_before_any_call(tmp_path):
    with FaultServer().running() as server:
        question = study(server, options={"lacks": ["temperature"]})
        report = run(question, tmp_path / "run")
        assert server.log == []
        dropped = study(server, options={"lacks": ["temperature"], "allow_drop": ["temperature"]})
        assert run(dropped, tmp_path / "dropped").exit_code == 0
    assert report.exit_code != 0
    with RunView(RunDir(tmp_path / "run")) as view:
        messages = {record.message for record in view.records()}
    assert any("cannot carry temperature" in (message or "") for message in messages)


def test_offline_allows_a_server_on_this_machine_and_nothing_else(tmp_path):
    from peira.errors import InputError

    with FaultServer().running() as server:
        assert run(study(server, replicates=1), tmp_path / "run", offline=True).exit_code == 0
        away = study(server, replicates=1, options={"base_url": "http://provider.invalid/v1"})
        with pytest.raises(InputError, match="not on this machine"):
            run(away, tmp_path / "away", offline=True)


def test_killed_in_mid_flight_nothing_answered_is_asked_again(tmp_path, drivers):
    """kill -9 while the server makes an answer, three times: its own log, which holds that answer
    too, is the judge."""
    kills = {40, 90, 140}
    seen = []

    def answer(asked: Asked) -> str:
        seen.append(asked)
        if len(seen) in kills:
            drivers.kill()
        return plain_answer(asked)

    with FaultServer(Faults(latency=0.01, jitter=0.02), answer=answer).running() as server:
        question = study(server, replicates=16)
        codes = [drivers.run(question, tmp_path / "run") for _ in range(len(kills) + 1)]
        digests = Counter(entry.digest for entry in server.log)
    with RunView(RunDir(tmp_path / "run")) as view:
        tally = view.tally
        lost = view.query("SELECT COUNT(*) FROM replies WHERE state='unsettled'")[0][0]
        done = view.query("SELECT COUNT(*) FROM replies WHERE state='done'")[0][0]
    calls = 2 * 16 * 3 * 2
    assert codes == [-9, -9, -9, 0]
    assert (tally.done, tally.planned, done) == (32, 32, calls)
    repeated = sum(count - 1 for count in digests.values())
    assert len(digests) == calls and len(kills) <= repeated <= lost <= 32 * len(kills)


def test_the_manifest_says_how_a_subject_was_reached(tmp_path):
    with FaultServer().running() as server:
        run(study(server, replicates=1), tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    text = json.dumps(manifest)
    assert server.url in text and "input_per_million" in text
