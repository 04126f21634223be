"""`peira import excellence DIR`: evaluations of the public project treygoff24/Excellence_experiment.

Reads every `predictions.csv` below a folder: `run_<ID>/<slug>/results/`, or an archive's `results/`
(`t1_r20250821`). Replies are scored anew by our rules against the prepared items, which that tool
keeps in `data/prepared`; where its own item scores differ, the trial says how many. Invariant: a row
that was planned and not recorded is missing, and its trial is not done.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from peira.errors import InputError
from peira.families.prompts.counting import token_counter
from peira.families.prompts.data import FIELDS, Item, make_item
from peira.families.prompts.evaluated import score_rows
from peira.families.prompts.outcome import PromptsOutcome
from peira.families.prompts.rows import Answers, Row, pack_items, planned_rows
from peira.families.prompts.settings import CONTROL, Pricing, PromptsSettings
from peira.families.prompts.trial import SEAT, analysis_digest
from peira.importers.base import ImportedTrial, Notes

FAMILY = "prompts"
ABOUT = "runs or archives of Excellence_experiment (…/results/predictions.csv; data/prepared)"
BOOKS = ("closed_book", "open_book")
COLUMNS = ("dataset", "item_id", "condition", "temp", "sample_index", "type", "response_text")
FINISH = {
    **dict.fromkeys(("", "stop", "completed", "end_turn", "stop_sequence", "eos"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "incomplete"), "length"),
    **dict.fromkeys(("content_filter", "refusal"), "refusal"),
}
STATUS = {"stop": "ok", "length": "truncated", "refusal": "refused"}
SLUG = re.compile(r"-tp(?P<p>\d+)(?:-tk(?P<k>\d+))?-mx(?P<closed>\d+)-(?P<open>\d+)")
Key = tuple[str, str, str, float, int]  # dataset, item, arm, temperature, sample


def read(directory: Path, notes: Notes) -> Iterator[ImportedTrial]:
    """Every trial with predictions; one that is damaged, or whose prepared items are not here to
    score it by, is left out with a warning. Raises InputError when there is none."""
    found = sorted(directory.rglob("predictions.csv"))
    if not found:
        inputs = next(directory.rglob("batch_inputs"), None)
        why = "batch inputs only: nothing was answered" if inputs else "no predictions.csv below"
        raise InputError(f"{directory}: {why}\n  allowed: {ABOUT}")
    for number, path in enumerate(found):
        with notes.leaving_out(path):
            told = Told.of(path, directory, notes)
            items = prepared(told.config, path)
            yield Recorded.read(path, items, notes).trial(told, number, notes)


# -- the items -----------------------------------------------------------------------------------
def prepared(config: Mapping[str, Any], path: Path) -> Mapping[tuple[str, str], Item]:
    """The prepared items, from `data/prepared` beside or above. Raises InputError without."""
    stated = str((config.get("paths") or {}).get("prepared_dir") or "data/prepared")
    places = [parent / stated for parent in path.resolve().parents[:6]] + [Path(stated)]
    for place in places:
        if any((place / f"{book}.jsonl").is_file() for book in BOOKS):
            return _items(place)
    raise InputError(
        f"{path}: its items are not here (no {stated} beside or above), so nothing can be scored\n"
        f"  remedy: copy {stated} there; `peira compare` takes recorded scores as they stand"
    )


@lru_cache(maxsize=4)
def _items(folder: Path) -> Mapping[tuple[str, str], Item]:
    found = {}
    for book in BOOKS:
        path = folder / f"{book}.jsonl"
        lines = path.read_bytes().splitlines() if path.is_file() else []
        for number, line in enumerate(lines, start=1):
            where = f"{path}:{number}"
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise InputError(f"{where}: not JSON ({error})\n  remedy: mend it") from error
            item = make_item({k: v for k, v in row.items() if k in FIELDS and v is not None}, where)
            found[item.dataset, item.id] = item
    return found


# -- what the files around a trial say -----------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Told:
    """Configuration and manifests around a predictions.csv, as far as they are there."""

    slug: str
    config: Mapping[str, Any]
    manifest: Mapping[str, Any]
    costs: Mapping[str, Any]
    root: Path

    @classmethod
    def of(cls, path: Path, directory: Path, notes: Notes) -> Told:
        """From the trial's folder and those above it, up to the one that is imported."""
        trial = path.parent.parent if path.parent.name == "results" else path.parent
        top = directory.resolve()
        above = [p for p in (trial, *trial.parents) if p.resolve().is_relative_to(top)] or [trial]
        entries = [
            entry
            for folder in above
            for entry in notes.mapping(folder / "multi_trial_manifest.json").get("trials", [])
            if entry.get("slug") == trial.name
        ]
        archive = notes.mapping(trial / "archive_manifest.json").get("config", {})
        own = next((m for n in ("trial_manifest.json", "run_manifest.json")
                    if (m := notes.mapping(path.parent / n))), {})  # fmt: skip
        manifest = {**archive, **own, **(own.get("trial") or {}), **(entries[0] if entries else {})}
        return cls(trial.name, _config(above, notes), manifest,
                   notes.mapping(path.parent / "costs.json"), above[-1])  # fmt: skip

    @property
    def model(self) -> str:
        """The model's id, aliases resolved."""
        name = str(self.manifest.get("model_id") or self.config.get("model_id") or "unknown")
        return str((self.config.get("model_aliases") or {}).get(name, name))

    @property
    def prompt_set(self) -> str:
        """The set's name; older single runs had none."""
        named = self.manifest.get("prompt_set") or self.config.get("default_prompt_set")
        return re.sub(r"[^A-Za-z0-9_]+", "_", str(named or "default"))[:40]

    def prompts(self, arms: list[str]) -> dict[str, tuple[str, str | None]]:
        """Arm -> (path as stated, text where the file is still there)."""
        sets = self.config.get("prompt_sets") or {}
        paths = sets.get(self.prompt_set) or self.config.get("prompts") or {}
        return {arm: (str(paths.get(arm) or f"{arm} (not recorded)"),
                      self._text(paths.get(arm))) for arm in arms}  # fmt: skip

    def _text(self, stated: Any) -> str | None:
        places = [parent / str(stated) for parent in (Path(), self.root, *self.root.parents)]
        found = next((p for p in places if stated and p.is_file()), None)
        return None if found is None else found.read_text("utf-8", "replace")

    @property
    def decoding(self) -> dict[str, Any]:
        """top_p, top_k and token limits: of the slug, else of the configuration."""
        if named := SLUG.search(self.slug):
            digits = named["p"]
            p = float(f"{digits[0]}.{digits[1:] or 0}")
            tokens = {"closed_book": int(named["closed"]), "open_book": int(named["open"])}
            return {"top_p": p, "top_k": int(named["k"]) if named["k"] else None,
                    "max_new_tokens": tokens}  # fmt: skip
        return {k: self.config[k] for k in ("top_p", "top_k", "max_new_tokens") if k in self.config}


def _config(above: list[Path], notes: Notes) -> Mapping[str, Any]:
    import yaml

    for folder in above:
        for name in ("effective_config.yaml", "eval_config.yaml", "config.yaml"):
            path = folder / name
            if not path.is_file():
                continue
            try:
                data = yaml.safe_load(path.read_text("utf-8", "replace"))
            except yaml.YAMLError as error:
                notes.damaged(InputError(f"{path}: cannot be read ({error})"))
                continue
            if isinstance(data, Mapping):
                return data
    return {}


# -- the rows ------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Recorded:
    """One predictions.csv: its items in order, and each row by what it answered."""

    path: Path
    items: list[Item]
    rows: Mapping[Key, Mapping[str, str]]

    @classmethod
    def read(cls, path: Path, items: Mapping[tuple[str, str], Item], notes: Notes) -> Recorded:
        """Raises InputError for a file without the columns, or whose items are all unknown."""
        rows: dict[Key, Mapping[str, str]] = {}
        wanted: dict[tuple[str, str], None] = {}
        with path.open(newline="", encoding="utf-8", errors="replace") as handle:
            table = csv.DictReader(handle)
            lacking = [name for name in COLUMNS if name not in (table.fieldnames or ())]
            if lacking:
                raise InputError(f"{path}: no column {lacking[0]!r}\n  allowed: {ABOUT}")
            for line, row in enumerate(table, start=2):
                try:
                    rows[_key(row)] = row
                except (TypeError, ValueError):
                    notes.warnings.append(f"left out: {path}:{line}: not a whole row")
                    continue
                wanted[row["dataset"], row["item_id"]] = None
        known = [items[key] for key in wanted if key in items]
        if not known:
            raise InputError(f"{path}: none of its items is in the prepared data")
        if len(known) < len(wanted):
            notes.warnings.append(f"{path}: {len(wanted) - len(known)} of {len(wanted)} items are not"
                                  " in the prepared data and left out")  # fmt: skip
        return cls(path, known, rows)

    @property
    def arms(self) -> list[str]:
        """Arms in their order, the control first whether it was run or not."""
        return list(dict.fromkeys([CONTROL, *(key[2] for key in self.rows)]))

    @property
    def samples(self) -> dict[float, int]:
        """Temperature -> samples an item."""
        found: dict[float, int] = {}
        for _, _, _, temp, sample in self.rows:
            found[temp] = max(found.get(temp, 1), sample + 1)
        return dict(sorted(found.items()))

    def settings(
        self, told: Told, prompts: Mapping[str, tuple[str, str | None]]
    ) -> PromptsSettings:
        """The settings this trial must have had."""
        data: dict[str, Any] = {
            "model": told.model, "prompt_set": told.prompt_set, "mode": "batch",
            "prompt_sets": {told.prompt_set: {arm: path for arm, (path, _) in prompts.items()}},
            "temps": list(self.samples), "samples_per_item": self.samples, **told.decoding,
        }  # fmt: skip
        try:
            pricing = Pricing.model_validate(told.config.get("pricing") or {})
            return PromptsSettings.model_validate(data | {"analysis": {"pricing": pricing}})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise InputError(f"{self.path}: {where}: {first['msg']}\n  allowed: {ABOUT}") from error

    def answers(self, planned: list[Row]) -> Answers:
        """The recorded reply of every planned row."""
        answers = Answers.blank(len(planned))
        for number, row in enumerate(planned):
            item = self.items[row.item]
            said = self.rows.get((item.dataset, item.id, row.arm, row.temp, row.sample))
            if said is not None:
                _put(answers, number, said)
        return answers

    def trial(self, told: Told, number: int, notes: Notes) -> ImportedTrial:
        """These rows as a trial: done if every planned row has an end."""
        prompts = told.prompts(self.arms)
        settings = self.settings(told, prompts)
        planned = list(planned_rows(settings, len(self.items)))
        answers = self.answers(planned)
        counts = answers.counts()
        lost = counts["error"] + counts["missing"]
        shas = {
            arm: _sha(text if text is not None else path) for arm, (path, text) in prompts.items()
        }
        differing = self._differing(settings, planned, answers)
        if differing:
            notes.warnings.append(f"{told.slug}: {differing} recorded item scores differ from ours"
                                  " (docs: prompts, scoring)")  # fmt: skip
        outcome = PromptsOutcome(
            items=len(self.items), planned=len(planned), rows=counts, served_models=[told.model],
            prompt_tokens=sum(u[0] for u in answers.usage if u),
            completion_tokens=sum(u[1] for u in answers.usage if u),
        )  # fmt: skip
        asked = len(planned) - counts["missing"]
        return ImportedTrial(
            slug=told.slug, settings=settings.model_dump(mode="json"), seed=number,
            factors={"model": told.model, "prompt_set": told.prompt_set},
            outcome=None if lost else outcome, state="failed" if lost else "done",
            cause="rows_failed" if lost else None,
            message=f"{lost} of {len(planned)} rows have no recorded reply" if lost else None,
            events=list(self._events(settings, prompts, shas, answers, differing)),
            usage={SEAT: {"calls": asked, "tokens_in": outcome.prompt_tokens,
                          "tokens_out": outcome.completion_tokens}},
            subjects={SEAT: {"name": told.model, "served_model": told.model, "simulated": False}},
            cost=round(float(told.costs.get("usd") or 0) * 1e6),
            identity={"model": told.model, "prompt_set": told.prompt_set, "arms": shas,
                      "recorded": hashlib.sha256(self.path.read_bytes()).hexdigest()},
        )  # fmt: skip

    def _events(
        self, settings: PromptsSettings, prompts: Mapping[str, tuple[str, str | None]],
        shas: Mapping[str, str], answers: Answers, differing: int,
    ) -> Iterator[dict[str, Any]]:  # fmt: skip
        digest = hashlib.sha256(b"".join(item.line for item in self.items)).hexdigest()
        counter = token_counter(None)
        yield {"kind": "items", "merged": 0, "sha256": digest, **pack_items(self.items)}
        yield {
            "kind": "prompts", "instructions": {}, "instructions_sha256": "not recorded",
            "analysis": analysis_digest(settings.analysis), "token_method": counter.method,
            "arms": {arm: {"path": path, "text": text, "sha256": shas[arm],
                           "tokens": counter.count(text or ""),
                           "names": [f"{settings.prompt_set}.{arm}"]}
                     for arm, (path, text) in prompts.items()},
        }  # fmt: skip
        yield {"kind": "rows", "mode": "batch", **answers.to_dict()}
        yield {"kind": "recorded_scores", "differing_items": differing}

    def _differing(self, settings: PromptsSettings, planned: list[Row], answers: Answers) -> int:
        """Item means of em, over samples, that the tool recorded otherwise."""
        theirs = _item_scores(self.path.with_name("per_item_scores.csv"))
        if not theirs:
            return 0
        scores = score_rows(settings, self.items, planned, answers.to_dict(), {})
        sums: dict[tuple[str, str, float], list[float]] = {}
        for row, score in zip(planned, scores, strict=True):
            if score is not None:
                item = self.items[row.item]
                sums.setdefault((f"{item.dataset}|{item.id}", row.arm, row.temp), []).append(
                    score.em
                )
        ours = {key: sum(values) / len(values) for key, values in sums.items()}
        return sum(abs(ours[key] - value) > 1e-9 for key, value in theirs.items() if key in ours)


def _key(row: Mapping[str, str]) -> Key:
    return (row["dataset"], row["item_id"], row["condition"], float(row["temp"]),
            int(row["sample_index"]))  # fmt: skip


def _put(answers: Answers, number: int, said: Mapping[str, str]) -> None:
    finish = FINISH.get(str(said.get("finish_reason") or "").lower())
    text = said.get("response_text") or ""
    status = "error" if finish is None else STATUS[finish]
    answers.keys[number] = said.get("custom_id") or ""
    answers.status[number] = "empty" if status == "ok" and not text.strip() else status
    answers.text[number], answers.finish[number] = text, finish
    answers.request_id[number] = said.get("request_id") or ""
    answers.usage[number] = (_count(said.get("prompt_tokens")),
                             _count(said.get("completion_tokens")), 0, 0, 0)  # fmt: skip


def _count(text: str | None) -> int:
    return int(float(text)) if text and re.fullmatch(r"\d+(\.0)?", text) else 0


def _item_scores(path: Path) -> dict[tuple[str, str, float], float]:
    if not path.is_file():
        return {}
    found = {}
    with path.open(newline="", encoding="utf-8", errors="replace") as handle:
        for row in csv.DictReader(handle):
            try:
                item = row["item_key"]
                item = item if "|" in item else item.replace("/", "|", 1)
                key = (item, row["condition"], float(row["temp"]))
                found[key] = float(row["em"])
            except (KeyError, TypeError, ValueError):
                continue
    return found


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
