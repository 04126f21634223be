"""Provider batch jobs: many outstanding calls of many trials become one job, at half the price.

How to use it: nothing in a family changes. A subject whose options say `batch: true` (or
`batch: {parts: 2, max_concurrent_jobs: 4, …}`, see `subjects.options.BatchOptions`) is still asked
by `await subject.reply(…, key=content_key)`; below the ledger the engine's `BatchDesk`
(`engine.batches`) gathers the purchases until no more arrive, and answers each when its job ends.
So a family should ask for everything it wants at once (`asyncio.gather`).

    route.batch: BatchRoute        what this package gives the engine: an adapter, options, price
    BatchAdapter                   one provider's job interface: upload, create, status, results, find
    engine.batches.desk_of(ledger) the desk of a run: `buy`, `describe`, `jobs`
    BatchRoute.line(request, id)   one line of an input file, a pure function (for `build`)

Order of a job, each step durable before the next: intent with its keys → upload → file id → create →
job id → poll → download → replies and job state in one transaction. Killed between `create` and its
job id, `find` looks the job up at the provider; nothing is submitted again while one may be open.
"""

from __future__ import annotations

from peira.subjects.batch.adapter import (
    BatchAdapter,
    BatchRoute,
    Delivered,
    JobSpec,
    JobStatus,
    Line,
    custom_id,
    open_batch,
)

__all__ = [
    "BatchAdapter", "BatchRoute", "Delivered", "JobSpec", "JobStatus", "Line", "custom_id",
    "open_batch",
]  # fmt: skip
