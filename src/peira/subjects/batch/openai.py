"""OpenAI's batch jobs: upload a file, create a batch, read the output and the error file."""

from __future__ import annotations

from typing import Any

import orjson

from peira.subjects.batch.adapter import (
    Delivered,
    Desk,
    JobSpec,
    JobStatus,
    Line,
    delivered,
    joined,
    read_rows,
)
from peira.subjects.options import BatchOptions

ENDED = ("completed", "failed", "expired", "cancelled")
PAGES = 20  # of 100 jobs, looked through for one of ours


class OpenAIBatches:
    """`POST /files`, `POST /batches`. The job carries our name as metadata."""

    max_rows = 50_000
    max_bytes = 190_000_000

    def __init__(self, desk: Desk, options: BatchOptions) -> None:
        self.desk = desk
        url = desk.dialect.url(desk.endpoint).removeprefix(desk.endpoint.base_url)
        self.path = f"/v1{url}"

    def encode(self, line: Line) -> bytes:
        row = {"custom_id": line.custom_id, "method": "POST", "url": self.path, "body": line.body}
        return orjson.dumps(row)

    async def upload(self, spec: JobSpec) -> str:
        data = joined([self.encode(line) for line in spec.lines])
        form = {"purpose": "batch"}
        answer = await self.desk.post_file("/files", form, f"{spec.name}.jsonl", data)
        return str(answer["id"])

    async def create(self, spec: JobSpec, file: str) -> str:
        answer = await self.desk.post(
            "/batches",
            {
                "input_file_id": file,
                "endpoint": self.path,
                "completion_window": "24h",
                "metadata": {"peira_job": spec.name},
            },
        )
        return str(answer["id"])

    async def status(self, job: str) -> JobStatus:
        data = await self.desk.get(f"/batches/{job}")
        words = str(data.get("status", "unknown"))
        files = (data.get("output_file_id"), data.get("error_file_id"))
        ended = words in ENDED
        return JobStatus(
            "ended" if ended else "working", words, tuple(f for f in files if f), _reason(data)
        )

    async def results(self, job: str, status: JobStatus) -> list[Delivered]:
        found: list[Delivered] = []
        for file in status.files:
            found += read_rows(await self.desk.raw(f"/files/{file}/content"), self._delivered)
        return found

    def _delivered(self, row: dict[str, Any]) -> Delivered:
        response = row.get("response") or {}
        body = response.get("body")
        status = int(response.get("status_code") or 0)
        if not response:
            status, body = 500, {"error": row.get("error") or "no response"}
        identity = str(response.get("request_id") or "")
        return delivered(self.desk.dialect, str(row.get("custom_id")), status, body, identity)

    async def find(self, spec: JobSpec, file: str) -> str | None:
        after = ""
        for _ in range(PAGES):
            page = await self.desk.get(f"/batches?limit=100{after}")
            for job in page.get("data") or ():
                named = (job.get("metadata") or {}).get("peira_job") == spec.name
                if named or (file and job.get("input_file_id") == file):
                    return str(job["id"])
            if not page.get("has_more"):
                return None
            after = f"&after={page['data'][-1]['id']}"
        return None


def _reason(data: dict[str, Any]) -> str:
    errors = (data.get("errors") or {}).get("data") or ()
    return "; ".join(str(each.get("message")) for each in errors)
