"""Anthropic's message batches: requests inline, results as a stream of lines.

The interface has no place for a name of ours, so a job whose id was not recorded is known by its
row count, the time since our intent, and the custom ids among its results.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson

from peira.subjects.batch.adapter import (
    Delivered,
    Desk,
    JobSpec,
    JobStatus,
    Line,
    Unsure,
    delivered,
    read_rows,
)
from peira.subjects.options import BatchOptions

CLOCK_SKEW = 120.0  # seconds our clock may be ahead of the provider's
STATUS_OF = {"invalid_request_error": 400, "authentication_error": 401, "permission_error": 403,
             "not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429,
             "api_error": 500, "overloaded_error": 529}  # fmt: skip


class AnthropicBatches:
    """`POST /messages/batches`."""

    max_rows = 100_000
    max_bytes = 240_000_000

    def __init__(self, desk: Desk, options: BatchOptions) -> None:
        self.desk = desk

    def encode(self, line: Line) -> bytes:
        return orjson.dumps({"custom_id": line.custom_id, "params": line.body})

    async def upload(self, spec: JobSpec) -> str:
        return ""

    async def create(self, spec: JobSpec, file: str) -> str:
        requests = [{"custom_id": each.custom_id, "params": each.body} for each in spec.lines]
        answer = await self.desk.post("/messages/batches", {"requests": requests})
        return str(answer["id"])

    async def status(self, job: str) -> JobStatus:
        data = await self.desk.get(f"/messages/batches/{job}")
        words = str(data.get("processing_status", "unknown"))
        files = (str(data["results_url"]),) if data.get("results_url") else ()
        return JobStatus("ended" if words == "ended" else "working", words, files)

    async def results(self, job: str, status: JobStatus) -> list[Delivered]:
        data = await self.desk.raw(f"/messages/batches/{job}/results")
        return read_rows(data, self._delivered)

    def _delivered(self, row: dict[str, Any]) -> Delivered:
        result = row.get("result") or {}
        kind = result.get("type")
        if kind == "succeeded":
            return delivered(
                self.desk.dialect, str(row.get("custom_id")), 200, result["message"], ""
            )
        error = result.get("error") or {}
        inner = error.get("error") or error
        status = STATUS_OF.get(str(inner.get("type")), 500) if kind == "errored" else 500
        body = {"error": inner or kind}
        return delivered(self.desk.dialect, str(row.get("custom_id")), status, body, "")

    async def find(self, spec: JobSpec, file: str) -> str | None:
        page = await self.desk.get("/messages/batches?limit=100")
        for job in page.get("data") or ():
            if not _may_be(job, spec):
                continue
            if job.get("processing_status") != "ended":
                raise Unsure(f"batch {job['id']} may be ours; waiting until it ends")
            status = await self.status(str(job["id"]))
            found = {row.custom_id for row in await self.results(str(job["id"]), status)}
            if found & set(spec.ids):
                return str(job["id"])
        return None


def _may_be(job: dict[str, Any], spec: JobSpec) -> bool:
    counts = job.get("request_counts") or {}
    created = str(job.get("created_at", "")).replace("Z", "+00:00")
    try:
        when = datetime.fromisoformat(created).timestamp()
    except ValueError:
        when = spec.since
    total = sum(int(value) for value in counts.values())
    return total == len(spec.ids) and when >= spec.since - CLOCK_SKEW
