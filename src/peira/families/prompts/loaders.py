"""Published files to items: SQuAD 2.0, TriviaQA, NQ-open, generic tables, the shipped sample.

Invariant: a loader only maps fields; what is an acceptable item is decided in `data` alone.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import orjson

from peira.errors import InputError
from peira.families.prompts.data import (
    FIELDS,
    Item,
    Loaded,
    make_item,
    merge,
    read_bytes,
    read_jsonl,
)

HERE = Path(__file__).parent
Rows = Iterator[tuple[Item, str]]

#: Where official files are looked for in `raw_dir`, by lower-case name.
OFFICIAL: Mapping[str, tuple[str, ...]] = {
    "squad_v2": ("*squad*.json", "*dev-v2.0*.json", "*train-v2.0*.json"),
    "triviaqa": ("*trivia*.json", "*web-dev*.json", "*wikipedia-dev*.json"),
    "nq_open": ("*nq*open*.jsonl", "*nq-open*.jsonl"),
}


def squad(path: Path) -> Loaded:
    """SQuAD 2.0 JSON; `is_impossible` makes a question unanswerable."""
    return merge(_squad_rows(_json(path, "data"), path))


def _squad_rows(articles: Any, path: Path) -> Rows:
    for article in articles:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                where = f"{path}: question {question['id']}"
                row = {
                    "dataset": "squad_v2",
                    "id": question["id"],
                    "context": paragraph["context"],
                    "question": question["question"],
                    "answers": [answer["text"] for answer in question.get("answers", ())],
                    "is_unanswerable": bool(question.get("is_impossible", False)),
                }
                yield make_item(row, where), where


def triviaqa(path: Path) -> Loaded:
    """TriviaQA JSON; questions of one id are merged, their answers united."""
    return _united(
        "triviaqa",
        (
            (
                str(entry["QuestionId"]),
                entry["Question"],
                [entry["Answer"]["Value"], *entry["Answer"].get("Aliases", ())],
                f"{path}: question {entry['QuestionId']}",
            )
            for entry in _json(path, "Data")
        ),
    )


def nq_open(path: Path) -> Loaded:
    """NQ-open JSONL; the id is `nq-` and 12 hex of the question's SHA-256."""
    return _united(
        "nq_open",
        (
            (
                "nq-" + hashlib.sha256(str(row["question"]).encode()).hexdigest()[:12],
                row["question"],
                row.get("answer") or row.get("answers") or [],
                where,
            )
            for row, where in read_jsonl(path)
        ),
    )


def _united(dataset: str, entries: Iterator[tuple[str, str, list[str], str]]) -> Loaded:
    """Closed items whose equal ids unite their answers."""
    rows: dict[str, tuple[dict[str, Any], str]] = {}
    merged = 0
    for name, question, answers, where in entries:
        if name in rows:
            rows[name][0]["answers"] += answers
            merged += 1
        else:
            rows[name] = (
                {"dataset": dataset, "id": name, "question": question, "answers": list(answers)},
                where,
            )
    return Loaded(tuple(make_item(row, where) for row, where in rows.values()), merged)


def generic(path: Path, dataset: str = "", columns: Mapping[str, str] | None = None) -> Loaded:
    """A JSONL or CSV table. `columns` maps our field to the file's column; CSV answers split at
    `|`; a missing id is the row's number, a missing dataset the file's stem."""
    names = dict(columns or {})
    table = _csv_rows(path) if path.suffix.lower() == ".csv" else read_jsonl(path)
    return merge(
        (_generic_item(row, where, number, dataset or path.stem, names), where)
        for number, (row, where) in enumerate(table, start=1)
    )


def _generic_item(
    row: Mapping[str, Any], where: str, number: int, dataset: str, columns: Mapping[str, str]
) -> Item:
    for name, column in columns.items():
        if name not in FIELDS or column not in row:
            raise InputError(
                f"{where}: columns.{name}: {column}\n  allowed: our fields {', '.join(sorted(FIELDS))};"
                f" this row's columns {', '.join(map(str, row))}"
            )
    found = {name: row[c] for name in FIELDS if (c := columns.get(name, name)) in row}
    csv_file = where.rpartition(":")[0].lower().endswith(".csv")  # `name.csv:7`
    if isinstance(found.get("answers"), str) and csv_file:
        found["answers"] = found["answers"].split("|")
    if isinstance(flag := found.get("is_unanswerable"), str):
        found["is_unanswerable"] = flag.strip().lower() in ("1", "true", "yes")
    if csv_file and not found.get("context"):
        found.pop("context", None)
    return make_item({"dataset": dataset, "id": str(number), **found}, where)


def _csv_rows(path: Path) -> list[tuple[dict[str, Any], str]]:
    try:
        text = read_bytes(path).decode("utf-8-sig")
        table = list(csv.DictReader(io.StringIO(text)))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: {error}\n  allowed: CSV as UTF-8 text") from None
    return [(row, f"{path}:{number}") for number, row in enumerate(table, start=2)]


def _json(path: Path, field: str) -> Any:
    try:
        return orjson.loads(read_bytes(path))[field]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise InputError(f"{path}: no official file\n  allowed: JSON with {field!r}") from None


READERS: Mapping[str, Callable[[Path], Loaded]] = {
    "squad_v2": squad,
    "triviaqa": triviaqa,
    "nq_open": nq_open,
}


def official(name: str, path: Path) -> Loaded:
    """Items of an official file. Raises InputError where it has another form."""
    try:
        return READERS[name](path)
    except (KeyError, TypeError, AttributeError) as error:
        fault = f"no {name} file ({type(error).__name__}: {error})"
        raise InputError(f"{path}: {fault}\n  allowed: the official form") from None


def official_files(raw_dir: Path) -> list[tuple[str, Path]]:
    """Official files found in `raw_dir`, with the loader each needs."""
    if not raw_dir.is_dir():
        return []
    return [
        (name, path)
        for path in sorted(raw_dir.rglob("*"))
        if path.is_file()
        for name, patterns in OFFICIAL.items()
        if any(Path(path.name.lower()).match(pattern) for pattern in patterns)
    ]


def hugging_face() -> Loaded:
    """The three validation splits through `datasets`, where it is installed and online."""
    try:
        from datasets import load_dataset
    except ImportError:
        raise _no_source("`datasets` is not installed") from None
    try:
        return merge(_hugging_face_rows(load_dataset))
    except (OSError, ConnectionError, ValueError) as error:
        raise _no_source(f"`datasets` could not load ({error})") from None


def _hugging_face_rows(load: Callable[..., Any]) -> Rows:
    for row in load("rajpurkar/squad_v2", split="validation"):
        answers = row["answers"]["text"]
        yield _row_item("squad_v2", row["id"], row["question"], answers, row["context"])
    trivia = load("mandarjoshi/trivia_qa", "rc.nocontext", split="validation")
    for row in {row["question_id"]: row for row in trivia}.values():
        answers = [row["answer"]["value"], *row["answer"]["aliases"]]
        yield _row_item("triviaqa", row["question_id"], row["question"], answers)
    for row in load("google-research-datasets/nq_open", split="validation"):
        name = "nq-" + hashlib.sha256(row["question"].encode()).hexdigest()[:12]
        yield _row_item("nq_open", name, row["question"], row["answer"])


def _row_item(
    dataset: str, name: str, question: str, answers: list[str], context: str = ""
) -> tuple[Item, str]:
    where = f"{dataset}: {name}"
    row: dict[str, Any] = {"dataset": dataset, "id": name, "question": question, "answers": answers}
    if context:
        row |= {"context": context, "is_unanswerable": not answers}
    return make_item(row, where), where


def _no_source(fault: str) -> InputError:
    return InputError(
        f"data: no prepared data, no official files, and {fault}\n"
        "  allowed: dev-v2.0.json, TriviaQA's *-dev.json, NQ-open.dev.jsonl in paths.raw_dir\n"
        "  remedy: put the files there, or set data.source: sample"
    )


def sample() -> Loaded:
    """The items written for Peira (see sample/LICENSE.md)."""
    return merge((item, f"sample {item.key}") for item in [*_sample_closed(), *_sample_open()])


def _sample_yaml(name: str) -> Any:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load((HERE / "sample" / name).read_text("utf-8"), Loader=loader)


def _sample_closed() -> Iterator[Item]:
    for number, (question, *rest) in enumerate(_sample_yaml("closed_book.yaml"), start=1):
        yield _sample_item("sample_closed", f"c{number:02d}", question, rest)


def _sample_open() -> Iterator[Item]:
    for passage in _sample_yaml("open_book.yaml"):
        asked = [("a", number, each) for number, each in enumerate(passage["questions"], 1)]
        asked += [("u", number, (question, [], *rest))
                  for number, (question, *rest) in enumerate(passage["unanswerable"], 1)]  # fmt: skip
        for kind, number, (question, *rest) in asked:
            name = f"{passage['id']}-{kind}{number}"
            yield _sample_item("sample_open", name, question, rest, passage)


def _sample_item(
    dataset: str, name: str, question: str, rest: Sequence[Any], passage: Mapping[str, Any] = {},
) -> Item:  # fmt: skip
    answers, difficulty, wrong = rest
    return Item(
        dataset, name, question, tuple(answers), passage.get("text", "").strip(), not answers,
        f"{dataset}/{passage.get('id', name)}", {"difficulty": difficulty, "distractors": wrong},
    )  # fmt: skip


def simulated(closed: int = 400, opened: int = 200) -> Loaded:
    """Synthetic items for planted-truth studies: difficulties are the normal quantiles
    b_i = Phi^-1((i - 1/2)/n) of each type; every third open item is unanswerable."""
    items = [_synthetic("sim_closed", i, b) for i, b in enumerate(normal_scores(closed), 1)]
    items += [_synthetic("sim_open", i, b) for i, b in enumerate(normal_scores(opened), 1)]
    return Loaded(tuple(items))


def normal_scores(n: int) -> list[float]:
    """Phi^-1((i - 1/2)/n) for i = 1..n."""
    normal = NormalDist()
    return [normal.inv_cdf((i - 0.5) / n) for i in range(1, n + 1)]


def _synthetic(dataset: str, number: int, difficulty: float) -> Item:
    opened = dataset == "sim_open"
    unanswerable = opened and number % 3 == 0
    gold = f"code {number * 7919 % 1_000_003}"
    context = f"Register {number} of the archive lists {gold}." if opened else ""
    return Item(
        dataset, f"{number:06d}", f"Which code does register {number} list?",
        () if unanswerable else (gold,), context, unanswerable, f"{dataset}/{number:06d}",
        {"difficulty": difficulty},
    )  # fmt: skip
