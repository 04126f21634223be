"""One trial: every row is asked for, once, and kept as it came back.

Invariant: a trial is done only if no row is in error or missing. What a reply cannot be scored for
(cut, refused, empty) is a finished row with that status; nothing here looks at an answer.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import orjson

from peira.engine.lab import Lab
from peira.errors import ProviderFailure, TrialFailed, TrialPending
from peira.families.prompts.inputs import Inputs, inputs_of
from peira.families.prompts.outcome import PromptsOutcome
from peira.families.prompts.rows import Address, Answers, Asking, Row, pack_items, planned_rows
from peira.families.prompts.scoring import asks_models, load_scorer
from peira.families.prompts.settings import AnalysisSettings, PromptsSettings
from peira.families.prompts.simulated import Observation
from peira.subjects.subject import Subject

SEAT = "respondent"
BREATH = 256  # free rows asked in one go before others get a turn


async def run_trial(settings: PromptsSettings, lab: Lab) -> PromptsOutcome:
    """Ask every selected row. Raises TrialFailed if rows failed, TrialPending if some were not
    selected."""
    inputs = inputs_of(settings)
    subject = lab.subject(settings.resolved_model, SEAT, scope="run")
    asking = Asking(settings, inputs, address_of(subject), lab.seed)
    rows = list(planned_rows(settings, len(inputs.items)))
    answers = Answers.blank(len(rows))
    await _note_plan(settings, inputs, lab)
    try:
        await Round(settings, inputs, subject, asking, lab).ask(rows, answers)
        await _judge(settings, inputs, rows, answers, lab)
    finally:
        mode = "batch" if getattr(getattr(subject, "route", None), "batch", None) else "live"
        lab.emit("rows", mode=mode, **answers.to_dict())
    return _outcome(inputs, rows, answers)


def address_of(subject: Subject) -> Address:
    """Provider, endpoint and model behind a subject, as far as it tells."""
    route: Any = getattr(subject, "route", None)
    if route is None:
        return Address("given", "", subject.name, {})
    endpoint = str(route.details.get("base_url", ""))
    return Address(route.provider, endpoint, route.model, dict(route.sampling))


async def _note_plan(settings: PromptsSettings, inputs: Inputs, lab: Lab) -> None:
    """Items, prompts and the analysis in force before the first paid row."""
    digest = analysis_digest(settings.analysis)
    frozen = lab.restored("analysis")
    if frozen is None:
        await lab.checkpoint("analysis", digest)
    else:
        digest = frozen.decode()
    lab.emit("items", merged=inputs.merged, sha256=inputs.items_sha256, **pack_items(inputs.items))
    lab.emit(
        "prompts",
        arms={
            arm: asdict(p) | {"names": inputs.names_of(p)}
            for arm, p in inputs.arms(settings).items()
        },
        token_method=inputs.counter.method,
        instructions=dict(inputs.instructions),
        instructions_sha256=inputs.instructions_sha256,
        analysis=digest,
    )


def analysis_digest(analysis: AnalysisSettings) -> str:
    """Hash of the settings that only read results; prices do not change a claim."""
    data = analysis.model_dump(mode="json", exclude={"pricing"})
    return hashlib.sha256(orjson.dumps(data, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


class Round:
    """One pass over a trial's rows."""

    def __init__(
        self,
        settings: PromptsSettings,
        inputs: Inputs,
        subject: Subject,
        asking: Asking,
        lab: Lab,
    ) -> None:
        self.settings = settings
        self.subject = subject
        self.asking = asking
        self.lab = lab
        self.items = inputs.items
        self.names = {arm: inputs.names_of(p) for arm, p in inputs.arms(settings).items()}
        self.dials = settings.simulated.parameters
        self.effects = {arm: settings.effect(names) for arm, names in self.names.items()}
        self.stopped = False
        self.asked = 0

    async def ask(self, rows: Sequence[Row], answers: Answers) -> None:
        """All selected rows; where calls cost nothing one after another, else many at once. Rows
        of other arms are not bought, but what an earlier run bought of them counts."""
        chosen = self.settings.condition
        todo = []
        for number, row in enumerate(rows):
            if chosen in ("both", "all", row.arm):
                todo.append(number)
            else:
                await self._recall(number, row, answers)
        route: Any = getattr(self.subject, "route", None)
        if route is not None and not route.durable:
            for place, number in enumerate(todo):
                if place % BREATH == 0:
                    await asyncio.sleep(0)
                await self._one(number, rows[number], answers)
            return
        batch = route is not None and route.batch is not None
        workers = len(todo) if batch else self.settings.max_concurrent_requests
        await self._together(iter(todo), min(workers, len(todo)), rows, answers)

    async def _together(
        self, numbers: Any, workers: int, rows: Sequence[Row], answers: Answers
    ) -> None:
        """Workers take rows in order. When one must stop, the others finish what they have asked
        for, so that no call in flight is lost."""

        async def work() -> None:
            for number in numbers:
                if self.stopped:
                    return
                try:
                    await self._one(number, rows[number], answers)
                except BaseException:
                    self.stopped = True
                    raise

        ended = await asyncio.gather(*(work() for _ in range(workers)), return_exceptions=True)
        for error in ended:
            if error is not None:
                raise error

    async def _recall(self, number: int, row: Row, answers: Answers) -> None:
        key = self.asking.key(row)
        known = await self.subject.recall(
            self.asking.messages(row), self.asking.sampling(row), key=key
        )
        if known is not None:
            answers.put(number, key, known)

    async def _one(self, number: int, row: Row, answers: Answers) -> None:
        key = self.asking.key(row)
        seen = self._observation(row, key) if self.subject.simulated else None
        try:
            reply = await self.subject.reply(
                self.asking.messages(row), self.asking.sampling(row), seen,
                label=row.arm, key=key, record=False,
            )  # fmt: skip
        except ProviderFailure:
            answers.put(number, key, None)
        else:
            answers.put(number, key, reply)
        self.asked += 1
        self.lab.progress(f"{self.asked} of {len(answers.status)} rows")

    def _observation(self, row: Row, key: str) -> Observation:
        item, arm = self.items[row.item], row.arm
        return Observation(item, key, self.lab.seed, self.dials, self.effects[arm], self.names[arm])


async def _judge(
    settings: PromptsSettings, inputs: Inputs, rows: Sequence[Row], answers: Answers, lab: Lab
) -> None:
    """Scorers that ask models run here, while there is a lab; the others when results are read."""
    for name in settings.analysis.scoring.scorers:
        scorer = load_scorer(name)
        if not asks_models(scorer):
            continue
        found: list[dict[str, float | None] | None] = [None] * len(rows)
        for number, row in enumerate(rows):
            if answers.status[number] == "ok":
                found[number] = await scorer(inputs.items[row.item], answers.text[number], lab)
        lab.emit("judged", scorer=name, scores=found)


def _outcome(inputs: Inputs, rows: Sequence[Row], answers: Answers) -> PromptsOutcome:
    counts = answers.counts()
    if counts["error"]:
        raise TrialFailed(
            "rows_failed",
            f"{counts['error']} of {len(rows)} rows failed after all retries\n"
            "  remedy: the same command with --resume asks for these rows alone",
        )
    if counts["missing"]:
        raise TrialPending(f"{counts['missing']} of {len(rows)} rows not asked for yet")
    used = [usage for usage in answers.usage if usage is not None]
    return PromptsOutcome(
        items=len(inputs.items),
        planned=len(rows),
        rows=counts,
        prompt_tokens=sum(usage[0] for usage in used),
        completion_tokens=sum(usage[1] for usage in used),
        served_models=sorted(set(answers.served)),
    )
