"""Fireworks-style jobs: create and upload a dataset, await it, run a job into an output dataset.

The ids of datasets and jobs are ours, made from the job's name, so a second creation is refused by
the provider and a job is found again by its id.
"""

from __future__ import annotations

import asyncio
import os
import re
from typing import Any

import orjson

from peira.errors import InputError, ProviderStop, TransientError
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

WORKING = ("CREATING", "PENDING", "RUNNING", "WRITING", "VALIDATING", "PAUSED", "UNSPECIFIED")
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "EXPIRED", "EARLY_STOPPED", "DELETING")
ACCOUNT = "FIREWORKS_ACCOUNT_ID"
READY_SECONDS = 600.0


class FireworksBatches:
    """`/accounts/ACCOUNT/datasets` and `/accounts/ACCOUNT/batchInferenceJobs`."""

    max_rows = 100_000
    max_bytes = 450_000_000

    def __init__(self, desk: Desk, options: BatchOptions) -> None:
        self.desk = desk
        desk.base_url = desk.endpoint.base_url.replace("/inference/v1", "/v1")
        account = options.account or os.environ.get(ACCOUNT, "")
        if not account:
            raise InputError(
                f"subject {desk.endpoint.name!r}: Fireworks batch jobs need an account id\n"
                f"  remedy: --account-id, batch: {{account: …}}, or export {ACCOUNT}=…"
            )
        self.account = f"/accounts/{account}"
        self.poll = min(options.poll_seconds, 5.0)

    def encode(self, line: Line) -> bytes:
        return orjson.dumps({"custom_id": line.custom_id, "body": line.body})

    async def upload(self, spec: JobSpec) -> str:
        dataset = _identity(spec.name)
        form = {"datasetId": dataset, "dataset": {
            "userUploaded": {}, "exampleCount": str(len(spec.lines))}}  # fmt: skip
        await self._made(f"{self.account}/datasets", form)
        data = joined([self.encode(line) for line in spec.lines])
        path = f"{self.account}/datasets/{dataset}:upload"
        await self.desk.post_file(path, {}, f"{dataset}.jsonl", data)
        await self._ready(dataset)
        return f"{self.account.removeprefix('/')}/datasets/{dataset}"

    async def _made(self, path: str, form: dict[str, Any]) -> None:
        """Create; that it is there already is as good."""
        try:
            await self.desk.post(path, form)
        except (ProviderStop, TransientError) as error:
            if "HTTP 409" not in str(error) and "already exists" not in str(error).lower():
                raise

    async def _ready(self, dataset: str) -> None:
        for _ in range(int(READY_SECONDS / self.poll) + 1):
            data = await self.desk.get(f"{self.account}/datasets/{dataset}")
            if _word(data, "") in ("READY", ""):
                return
            await asyncio.sleep(self.poll)
        raise TransientError(f"dataset {dataset} is not ready after {READY_SECONDS:.0f} s")

    async def create(self, spec: JobSpec, file: str) -> str:
        job = _identity(spec.name)
        body = dict(spec.lines[0].body)
        given = {"maxTokens": body.get("max_tokens"), "temperature": body.get("temperature"),
                 "topP": body.get("top_p"), "topK": body.get("top_k")}  # fmt: skip
        form = {
            "model": body["model"],
            "displayName": spec.name,
            "inputDatasetId": file,
            "outputDatasetId": f"{file}-out",
            "inferenceParameters": {
                key: value for key, value in given.items() if value is not None
            },
        }
        await self._made(f"{self.account}/batchInferenceJobs?batchInferenceJobId={job}", form)
        return job

    async def status(self, job: str) -> JobStatus:
        data = await self.desk.get(f"{self.account}/batchInferenceJobs/{job}")
        words = _word(data, "JOB_STATE_")
        output = str(data.get("outputDatasetId") or f"{job}-out")
        reason = str((data.get("status") or {}).get("message") or "")
        return JobStatus(
            "ended" if words in ENDED else "working",
            words.lower() or "unknown",
            (output.rpartition("/")[2],),
            reason,
        )

    async def results(self, job: str, status: JobStatus) -> list[Delivered]:
        found: list[Delivered] = []
        for dataset in status.files:
            path = f"{self.account}/datasets/{dataset}:getDownloadEndpoint"
            try:
                answer = await self.desk.get(path)
            except ProviderStop:
                return found  # a job that failed at once leaves no output dataset
            for url in (answer.get("filenameToSignedUrls") or {}).values():
                found += read_rows(await self.desk.raw(url), self._delivered)
        return found

    def _delivered(self, row: dict[str, Any]) -> Delivered:
        body = row.get("response")
        if isinstance(body, dict) and "body" in body:
            body = body["body"]
        status = 200 if isinstance(body, dict) and "choices" in body else 500
        if status != 200:
            body = {"error": row.get("error") or "no response"}
        return delivered(self.desk.dialect, str(row.get("custom_id")), status, body, "")

    async def find(self, spec: JobSpec, file: str) -> str | None:
        job = _identity(spec.name)
        try:
            await self.desk.get(f"{self.account}/batchInferenceJobs/{job}")
        except ProviderStop as error:
            if "HTTP 404" in str(error):
                return None
            raise
        return job


def _identity(name: str) -> str:
    return re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")[:60]


def _word(data: dict[str, Any], prefix: str) -> str:
    return str(data.get("state") or "").removeprefix(prefix)
