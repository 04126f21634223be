"""Batch jobs: the same outcomes as live calls, at the batch price, through any kill."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import web

from peira.api.replay import replay
from peira.engine.batches import BatchDesk
from peira.families import load_family
from peira.store.records import RunView
from peira.store.rundir import RunDir
from peira.subjects.batch.adapter import Delivered, read_rows
from peira.subjects.registry import open_model
from peira.testing import Faults, FaultServer
from peira.testing.jobs import Jobs
from tests.subjects.test_end_to_end import outcomes, run, study

KINDS = {"openai": "openai", "anthropic": "anthropic", "fireworks": "openai"}
QUICK = {"gather_seconds": 0.03, "poll_seconds": 0.01, "account": "acme"}


def batched(server: FaultServer, kind: str, *, fixed=None, replicates=2, limits=None, **batch):
    options = {"wire": KINDS[kind], "batch": {"kind": kind, **QUICK, **batch}}
    return study(
        server, replicates=replicates, options=options, fixed=fixed or {}, limits=limits or {}
    )


def jobs(folder: Path) -> list:
    with RunView(RunDir(folder)) as view:
        return view.query("SELECT name, state, planned, delivered, worst FROM batch_jobs")


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_gives_what_live_calls_give_at_half_the_price(tmp_path, kind):
    with FaultServer().running() as server:
        live = run(study(server, replicates=2, options={"wire": KINDS[kind]}), tmp_path / "live")
        calls = len(server.log)
        batch = run(batched(server, kind), tmp_path / "batch")
        assert len(server.log) == calls, "no call may be made live"
        assert set(server.jobs.rows.values()) == {1}
    assert (live.exit_code, batch.exit_code) == (0, 0)
    assert outcomes(tmp_path / "live") == outcomes(tmp_path / "batch")
    assert batch.spent_usd == pytest.approx(live.spent_usd / 2, rel=0.02)
    # 2 topics (system prompts), 3 turns of one call after another: a job for each.
    assert len(jobs(tmp_path / "batch")) == 6
    assert {state for _, state, *_ in jobs(tmp_path / "batch")} == {"settled"}


def test_groups_are_cut_into_parts_that_differ_by_at_most_one(tmp_path):
    with FaultServer().running() as server:
        question = batched(
            server, "openai", fixed={"turns": 1, "side_by_side": 5}, lines_per_part=4
        )
        assert run(question, tmp_path / "run").exit_code == 0
        names = {job.metadata["peira_job"] for job in server.jobs.jobs.values()}
    sizes = sorted(planned for _, _, planned, *_ in jobs(tmp_path / "run"))
    assert sizes == [3, 3, 3, 3, 4, 4]
    assert names == {name for name, *_ in jobs(tmp_path / "run")}
    assert all(name.startswith("run-") and "-p0" in name for name in names)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_a_job_did_not_deliver_go_into_another(tmp_path, kind):
    faults = Faults(batch_missing=0.3, batch_errors=0.2, batch_end="expired")
    with FaultServer(faults).running() as server:
        rough = run(batched(server, kind, replicates=4), tmp_path / "rough")
        tries = Counter(server.jobs.rows.values())
        server.faults = Faults()
        run(batched(server, kind, replicates=4), tmp_path / "calm")
    assert rough.exit_code == 0
    assert tries[2] > 3 and set(tries) == {1, 2}
    assert outcomes(tmp_path / "rough") == outcomes(tmp_path / "calm")


def test_a_row_never_delivered_fails_its_trial_and_no_other(tmp_path):
    with FaultServer(NeverDelivered()).running() as server:
        report = run(batched(server, "openai", fixed={"turns": 1}), tmp_path / "run")
        assert set(server.jobs.rows.values()) == {3}
    assert report.exit_code == 3
    assert report.tally.failed == report.tally.planned
    assert report.causes == {"provider": 4}
    assert report.spent_usd == report.unsettled_usd == 0


class Puzzling(Jobs):
    """Answers that are no job's, and a file too large for what the model can read."""

    upload_status = 200

    async def handle(self, request: web.Request) -> web.Response | None:
        if request.path.endswith("/files") and self.upload_status != 200:
            error = {"error": {"message": "maximum context length exceeded"}}
            return web.json_response(error, status=self.upload_status)
        if request.path.endswith("/batches"):
            return web.json_response({"odd": True})
        return await super().handle(request)


@pytest.mark.parametrize(("upload", "cause"), [(200, "code"), (400, "context")])
def test_a_job_that_cannot_be_made_fails_its_trials_and_gives_its_money_back(
    tmp_path, upload, cause
):
    sessions = []
    with FaultServer().running() as server:
        server.jobs = Puzzling(server)
        server.jobs.upload_status = upload
        asked = batched(server, "openai", fixed={"turns": 1}, limits={"budget_usd": 1})
        report = run(asked, tmp_path / "run", on_start=sessions.append)
    assert report.tally.failed == report.tally.planned
    assert report.causes == {cause: 4}
    if upload != 200:
        assert sessions[0].budget.run.reserved == 0


class Silent(Jobs):
    """Tells no usage, and utters half a surrogate pair."""

    async def _content(self, request: web.Request, identity: str) -> web.Response:
        rows = self.files[identity].replace(b'"usage"', b'"unused"')
        said = rows.replace(b'"content":"', b'"content":"\\ud83d ')
        return web.Response(body=said, content_type="application/jsonl")


def test_a_row_without_usage_costs_its_worst_and_its_trial_sees_what_a_replay_will(tmp_path):
    with FaultServer().running() as server:
        server.jobs = Silent(server)
        report = run(batched(server, "openai", fixed={"turns": 1}), tmp_path / "run")
    assert report.exit_code == 0
    assert report.spent_usd == pytest.approx(
        sum(worst for *_, worst in jobs(tmp_path / "run")) / 1e6
    )
    assert report.spent_usd > 0
    with RunView(RunDir(tmp_path / "run")) as view:
        again = replay(view, load_family(view.family))
        said = [e["reply"] for r in view.records() for e in view.events(r.number) if "reply" in e]
    assert said and all(text.startswith("\ufffd ") for text in said)
    assert (again.same, again.differing) == (4, 0)


class NeverDelivered(Faults):
    def row(self, digest: str, tries: int) -> str:
        return "missing"


def test_a_job_fits_the_budget_or_waits_for_the_others(tmp_path):
    with FaultServer().running() as server:
        limits = {"budget_usd": 0.06}
        question = batched(server, "openai", replicates=8, limits=limits, fixed={"turns": 1})
        first = run(question, tmp_path / "run")
        paid = sum(server.jobs.rows.values())
        second = run(batched(server, "openai", replicates=8, fixed={"turns": 1}), tmp_path / "run")
        bought = Counter(server.jobs.rows.values())
    assert first.exit_code == 4 and second.exit_code == 0
    assert 0 < first.spent_usd <= 0.06
    assert 0 < paid < 32 and bought == {1: 32}


@pytest.mark.parametrize(("kind", "parts"), [("openai", 2), ("anthropic", 1), ("fireworks", 1)])
def test_a_kill_at_any_step_buys_no_row_twice_and_loses_none(tmp_path, kind, parts, drivers):
    """Every request of a job in turn: killed before the provider acts on it, and after it acted
    but before its answer arrives."""
    steps = _undisturbed(tmp_path, kind, parts, drivers)
    expected = outcomes(tmp_path / "whole")
    assert len(steps) >= 4 * parts
    killed = 0
    for after in (False, True):
        for step in range(1, len(steps) + 1):
            folder = tmp_path / f"{'after' if after else 'before'}-{step}"
            killed += _killed_at(step, after, folder, kind, parts, drivers)
            assert outcomes(folder) == expected, folder.name
    assert killed >= 2 * len(steps) - 2


def small(server: FaultServer, kind: str, parts: int):
    question = batched(
        server, kind, fixed={"turns": 1, "side_by_side": 3}, parts=parts, replicates=1
    )
    return question.model_copy(update={"factors": {"topic": ["rain"]}})


def _undisturbed(tmp_path, kind, parts, drivers) -> list[str]:
    lines: list[str] = []
    with FaultServer(Faults(polls=1), on_request=lines.append).running() as server:
        assert drivers.run(small(server, kind, parts), tmp_path / "whole") == 0
    return lines


def _killed_at(step, after, folder, kind, parts, drivers) -> bool:
    """Kill the driver at the n-th batch request, before or after the server acted on it."""
    seen: list[str] = []

    def count(line: str) -> None:
        seen.append(line)
        if len(seen) == step:
            drivers.kill()
            if not after:
                raise ConnectionAbortedError("the provider never saw it")

    with FaultServer(Faults(polls=1)).running() as server:
        setattr(server, "on_answer" if after else "on_request", count)
        question = small(server, kind, parts)
        first = drivers.run(question, folder)
        code = drivers.run(question, folder) if first == -9 else first
        assert code == 0, folder.name
        assert set(server.jobs.rows.values()) == {1}, folder.name
        assert len(server.jobs.rows) == 3, folder.name
    return first == -9


def test_detached_jobs_are_found_again_and_not_submitted_twice(tmp_path):
    with FaultServer(Faults(polls=3)).running() as server:
        fixed = {"turns": 1}
        left = run(batched(server, "openai", fixed=fixed, detach=True), tmp_path / "run")
        submitted = dict(server.jobs.rows)
        back = run(batched(server, "openai", fixed=fixed), tmp_path / "run")
        assert dict(server.jobs.rows) == submitted and len(submitted) == 8
    assert left.message.startswith("detached") and "-p01" in left.message
    assert left.tally.done == 0 and back.exit_code == 0


def test_batch_is_refused_where_no_provider_interface_is_known(tmp_path):
    from peira.errors import InputError

    with FaultServer().running() as server:
        question = study(server, options={"batch": True})
        with pytest.raises(InputError, match="no batch jobs that Peira knows"):
            run(question, tmp_path / "run")


def test_the_trials_own_sampling_reaches_a_fireworks_job(tmp_path):
    with FaultServer().running() as server:
        run(batched(server, "fireworks", fixed={"turns": 1}), tmp_path / "run")
        sent = [job.metadata for job in server.jobs.jobs.values()]
    assert sent and all(each == {"maxTokens": 40, "temperature": 0.5} for each in sent)


def test_half_a_surrogate_pair_makes_no_row_of_a_result_file_torn():
    rows = b'{"custom_id": "a", "said": "x \\ud83d"}\n{"custom_id": "b", "sa\n'
    read = read_rows(rows, lambda row: Delivered(row["custom_id"] + row["said"]))
    assert [each.custom_id for each in read] == ["ax \ud83d"]


def test_a_jobs_name_is_never_given_twice_whatever_is_stored_by_then():
    stored, jobs = [("r-ab-p01",), ("r-ab-p03",)], {1: SimpleNamespace(name="r-cd-p09")}
    desk = SimpleNamespace(journal=SimpleNamespace(read=lambda *_: stored), jobs=jobs)
    assert BatchDesk._parts_before(desk, "ab") == 3
    jobs[2] = SimpleNamespace(name="r-ab-p12")
    assert BatchDesk._parts_before(desk, "ab") == 12


@pytest.mark.parametrize("kind", ["openai", "anthropic", "fireworks"])
def test_a_row_of_another_shape_is_one_row_not_delivered(kind):
    subject = open_model(
        "m",
        {"base_url": "http://x/v1", "model": "m", "price": "free", "wire": KINDS[kind],
         "batch": {"kind": kind, **QUICK}},
    )  # fmt: skip
    rows = b"""
[]
"x"
3
{"custom_id": "a", "result": "x", "response": "y"}
{"custom_id": "b", "result": {"type": "succeeded"}, "response": {"status_code": "many"}}
{"custom_id": "c", "result": {"type": "errored", "error": "bad"}, "response": 3}
"""
    read = read_rows(rows, subject.batch.adapter._delivered)
    assert {each.custom_id for each in read} <= {"a", "b", "c"}
    assert all(each.reply is None for each in read)
