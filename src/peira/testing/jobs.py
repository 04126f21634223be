"""Batch endpoints of the fault server: OpenAI's, Anthropic's, Fireworks'.

A job moves on one state at each look at it. Invariant: its rows get the very replies that live
calls would get.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from peira.testing.asked import Asked, answer_body, read_anthropic, read_openai, read_responses

if TYPE_CHECKING:
    from peira.testing.server import FaultServer


@dataclass(slots=True)
class Row:
    """One request of a job."""

    custom_id: str
    asked: Asked


@dataclass(slots=True)
class Job:
    """A job of any provider."""

    id: str
    rows: list[Row]
    file: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    created: float = field(default_factory=time.time)
    looks: int = 0
    outputs: dict[str, str] = field(default_factory=dict)


class Jobs:
    """State of all batch endpoints. `created` and `rows` count what was really asked for."""

    def __init__(self, server: FaultServer) -> None:
        self.server = server
        self.files: dict[str, bytes] = {}
        self.jobs: dict[str, Job] = {}
        self.rows: Counter[str] = Counter()
        self._paths = [
            (re.compile(pattern), handler)
            for pattern, handler in (
                (r"POST .*/files$", self._upload),
                (r"GET .*/files/([^/]+)/content$", self._content),
                (r"POST .*/messages/batches$", self._anthropic_create),
                (r"GET .*/messages/batches/([^/]+)/results$", self._anthropic_results),
                (r"GET .*/messages/batches/([^/]+)$", self._anthropic_status),
                (r"GET .*/messages/batches$", self._anthropic_list),
                (r"POST .*/batches$", self._openai_create),
                (r"GET .*/batches/([^/]+)$", self._openai_status),
                (r"GET .*/batches$", self._openai_list),
                (r"POST .*/datasets/([^/:]+):upload$", self._fireworks_upload),
                (r"POST .*/datasets$", self._fireworks_dataset),
                (r"GET .*/datasets/([^/:]+):getDownloadEndpoint$", self._fireworks_download),
                (r"GET .*/datasets/([^/:]+)$", self._fireworks_dataset_state),
                (r"GET .*/signed/([^/]+)$", self._content),
                (r"POST .*/batchInferenceJobs$", self._fireworks_create),
                (r"GET .*/batchInferenceJobs/([^/]+)$", self._fireworks_status),
            )
        ]

    async def handle(self, request: web.Request) -> web.Response | None:
        """The answer, if the path is one of a batch endpoint."""
        line = f"{request.method} {request.path}"
        for pattern, handler in self._paths:
            if match := pattern.match(line):
                try:
                    return await handler(request, *match.groups())
                except KeyError as missing:
                    words = {"error": {"message": f"no such object: {missing.args[0]}"}}
                    return web.json_response(words, status=404)
        return None

    # -- running a job --------------------------------------------------------------------------
    def _run(self, job: Job) -> tuple[list[tuple[Row, dict[str, Any]]], list[Row]]:
        """(answered rows, rows with an error); the rest is missing."""
        answered, failed = [], []
        for row in job.rows:
            fate = self.server.faults.row(row.asked.digest, self.rows[row.custom_id])
            if fate == "":
                body = answer_body(row.asked, self.server.say(row.asked))
                answered.append((row, body))
            elif fate == "error":
                failed.append(row)
        return answered, failed

    def _make(self, rows: list[Row], **known: Any) -> Job:
        job = Job(known.pop("id", f"job-{len(self.jobs) + 1:04d}"), rows, **known)
        self.jobs[job.id] = job
        self.rows.update(row.custom_id for row in rows)
        return job

    def _ended(self, job: Job) -> bool:
        job.looks += 1
        return job.looks > self.server.faults.polls

    # -- OpenAI -----------------------------------------------------------------------------------
    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        identity = f"file-{len(self.files) + 1:04d}"
        self.files[identity] = form["file"].file.read()  # type: ignore[union-attr]
        return web.json_response({"id": identity, "object": "file"})

    async def _content(self, request: web.Request, identity: str) -> web.Response:
        return web.Response(body=self.files[identity], content_type="application/jsonl")

    async def _openai_create(self, request: web.Request) -> web.Response:
        data = orjson.loads(await request.read())
        rows = []
        for line in self.files[data["input_file_id"]].splitlines():
            row = orjson.loads(line)
            read = read_responses if row["url"].endswith("/responses") else read_openai
            rows.append(Row(row["custom_id"], read(row["body"])))
        job = self._make(rows, file=data["input_file_id"], metadata=data.get("metadata") or {})
        return web.json_response(self._openai(job, "validating"))

    def _openai(self, job: Job, status: str) -> dict[str, Any]:
        data: dict[str, Any] = {
            "id": job.id, "object": "batch", "status": status, "input_file_id": job.file,
            "metadata": job.metadata, "created_at": int(job.created),
            "request_counts": {"total": len(job.rows)},
        }  # fmt: skip
        return {**data, **job.outputs}

    async def _openai_status(self, request: web.Request, identity: str) -> web.Response:
        job = self.jobs[identity]
        if not self._ended(job):
            return web.json_response(self._openai(job, "in_progress"))
        if not job.outputs:
            self._openai_finish(job)
        return web.json_response(self._openai(job, self.server.faults.batch_end))

    def _openai_finish(self, job: Job) -> None:
        answered, failed = self._run(job)
        good = [
            {"custom_id": row.custom_id, "error": None,
             "response": {"status_code": 200, "request_id": f"req-{row.custom_id}", "body": body}}
            for row, body in answered
        ]  # fmt: skip
        bad = [
            {"custom_id": row.custom_id, "error": None,
             "response": {"status_code": 500, "body": {"error": {"message": "injected"}}}}
            for row in failed
        ]  # fmt: skip
        for name, lines in (("output_file_id", good), ("error_file_id", bad)):
            if lines:
                job.outputs[name] = f"{name}-{job.id}"
                self.files[job.outputs[name]] = _jsonl(lines)

    async def _openai_list(self, request: web.Request) -> web.Response:
        data = [self._openai(job, "in_progress") for job in reversed(self.jobs.values())]
        return web.json_response({"object": "list", "data": data, "has_more": False})

    # -- Anthropic --------------------------------------------------------------------------------
    async def _anthropic_create(self, request: web.Request) -> web.Response:
        data = orjson.loads(await request.read())
        rows = [Row(r["custom_id"], read_anthropic(r["params"])) for r in data["requests"]]
        return web.json_response(self._anthropic(self._make(rows), "in_progress"))

    def _anthropic(self, job: Job, status: str) -> dict[str, Any]:
        created = datetime.fromtimestamp(job.created, UTC).isoformat()
        results = f"{self.server.url}/v1/messages/batches/{job.id}/results"
        return {
            "id": job.id, "type": "message_batch", "processing_status": status,
            "created_at": created, "results_url": results if status == "ended" else None,
            "request_counts": {"processing": len(job.rows), "succeeded": 0, "errored": 0},
        }  # fmt: skip

    async def _anthropic_status(self, request: web.Request, identity: str) -> web.Response:
        return web.json_response(self._anthropic_now(self.jobs[identity]))

    def _anthropic_now(self, job: Job) -> dict[str, Any]:
        return self._anthropic(job, "ended" if self._ended(job) else "in_progress")

    async def _anthropic_list(self, request: web.Request) -> web.Response:
        jobs = list(map(self._anthropic_now, reversed(self.jobs.values())))
        return web.json_response({"data": jobs, "has_more": False})

    async def _anthropic_results(self, request: web.Request, identity: str) -> web.Response:
        answered, failed = self._run(self.jobs[identity])
        lines = [
            {"custom_id": row.custom_id, "result": {"type": "succeeded", "message": body}}
            for row, body in answered
        ]
        error = {"type": "error", "error": {"type": "api_error", "message": "injected"}}
        lines += [
            {"custom_id": row.custom_id, "result": {"type": "errored", "error": error}}
            for row in failed
        ]
        return web.Response(body=_jsonl(lines))

    # -- Fireworks --------------------------------------------------------------------------------
    async def _fireworks_dataset(self, request: web.Request) -> web.Response:
        identity = orjson.loads(await request.read())["datasetId"]
        if identity in self.files:
            return web.json_response({"error": {"message": "already exists"}}, status=409)
        self.files[identity] = b""
        return web.json_response({"name": identity, "state": "UPLOADING"})

    async def _fireworks_upload(self, request: web.Request, identity: str) -> web.Response:
        form = await request.post()
        self.files[identity] = form["file"].file.read()  # type: ignore[union-attr]
        return web.json_response({})

    async def _fireworks_dataset_state(self, request: web.Request, identity: str) -> web.Response:
        _ = self.files[identity]
        return web.json_response({"name": identity, "state": "READY"})

    async def _fireworks_create(self, request: web.Request) -> web.Response:
        identity = request.query["batchInferenceJobId"]
        if identity in self.jobs:
            return web.json_response({"error": {"message": "already exists"}}, status=409)
        data = orjson.loads(await request.read())
        dataset = data["inputDatasetId"].rpartition("/")[2]
        rows = []
        for line in self.files[dataset].splitlines():
            row = orjson.loads(line)
            rows.append(Row(row["custom_id"], read_openai({"model": data["model"], **row["body"]})))
        output = data["outputDatasetId"].rpartition("/")[2]
        self._make(rows, id=identity, file=output, metadata=data["inferenceParameters"])
        return web.json_response({"name": identity, "state": "JOB_STATE_CREATING"})

    async def _fireworks_status(self, request: web.Request, identity: str) -> web.Response:
        job = self.jobs[identity]
        state = "JOB_STATE_COMPLETED" if self._ended(job) else "JOB_STATE_RUNNING"
        return web.json_response({"name": identity, "state": state, "outputDatasetId": job.file})

    async def _fireworks_download(self, request: web.Request, identity: str) -> web.Response:
        job = next(job for job in self.jobs.values() if job.file == identity)
        answered, _ = self._run(job)
        lines = [{"custom_id": row.custom_id, "response": body} for row, body in answered]
        self.files[f"{identity}.jsonl"] = _jsonl(lines)
        url = f"{self.server.url}/signed/{identity}.jsonl"
        return web.json_response({"filenameToSignedUrls": {f"{identity}.jsonl": url}})


def _jsonl(lines: list[dict[str, Any]]) -> bytes:
    return b"\n".join(map(orjson.dumps, lines)) + b"\n"
