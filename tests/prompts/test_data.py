"""Items: what is accepted, what is refused with its line, what a cap selects."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peira.errors import InputError
from peira.families.prompts import loaders
from peira.families.prompts.counting import token_counter
from peira.families.prompts.data import Caps, Item, make_item, read_items, select
from peira.families.prompts.prepare import DataFile, DataPlan, prepare, require_prepared
from peira.families.prompts.scoring import exact_match, f1_score


def plan(folder: Path, **changes: object) -> DataPlan:
    given = {"source": "prepared", "prepared_dir": folder / "prepared", "raw_dir": folder / "raw"}
    return DataPlan(**{**given, **changes})  # type: ignore[arg-type]


def test_the_sample_holds_what_it_promises() -> None:
    items = loaders.sample().items
    opened = [item for item in items if item.type == "open"]
    assert sum(item.type == "closed" for item in items) >= 48
    assert sum(item.answerable for item in opened) >= 48
    assert sum(item.is_unanswerable for item in opened) >= 24
    questions = [sum(i.cluster == c for i in opened) for c in {i.cluster for i in opened}]
    assert sum(count > 1 for count in questions) >= 12
    assert all("difficulty" in item.meta for item in items)
    assert (Path(loaders.__file__).parent / "sample" / "LICENSE.md").is_file()


def test_every_sample_gold_is_right_and_every_distractor_wrong() -> None:
    for item in loaders.sample().items:
        assert all(exact_match(gold, item.answers) for gold in item.answers)
        for wrong in item.meta["distractors"]:
            assert f1_score(wrong, item.answers) < 1


def test_an_answer_of_the_sample_stands_in_its_passage() -> None:
    for item in loaders.sample().items:
        if item.context and item.answers:
            assert any(gold.lower() in item.context.lower() for gold in item.answers), item.key


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('{"dataset": "d", "id": "1", "question": " ", "answers": ["a"]}', "no question"),
        ('{"dataset": "d", "id": "1", "question": "q", "answers": []}', "answerable without"),
        ('{"dataset": "d", "id": "1", "question": "q", "answers": ["a"], "context": " "}', "blank"),
        ('{"dataset": "d", "id": "1", "question": "q", "answers": ["a"], "extra": 1}', "unknown"),
        ("{broken", "not JSON"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(tmp_path: Path, line: str, fault: str) -> None:
    good = '{"dataset": "d", "id": "0", "question": "q", "answers": ["a"]}'
    path = tmp_path / "items.jsonl"
    path.write_text(f"{good}\n{line}\n")
    with pytest.raises(InputError, match=fault) as caught:
        read_items(path)
    assert "items.jsonl:2" in str(caught.value)


def test_equal_duplicates_merge_and_differing_ones_are_refused(tmp_path: Path) -> None:
    row = {"dataset": "d", "id": "1", "question": "q", "answers": ["a"]}
    path = tmp_path / "items.jsonl"
    path.write_text(f"{json.dumps(row)}\n{json.dumps(row)}\n")
    loaded = read_items(path)
    assert (len(loaded.items), loaded.merged) == (1, 1)
    path.write_text(f"{json.dumps(row)}\n{json.dumps(row | {'answers': ['b']})}\n")
    with pytest.raises(InputError, match="other contents"):
        read_items(path)


def test_items_of_one_passage_form_a_cluster() -> None:
    rows = [
        {"dataset": "d", "id": i, "question": "q", "answers": ["a"], "context": c}
        for i, c in (("1", "one"), ("2", "one"), ("3", "two"))
    ]
    first, second, third = (make_item(row, "here") for row in rows)
    assert first.cluster == second.cluster != third.cluster


def items_of(n: int) -> list[Item]:
    return [Item("d", str(i), "q", () if i % 4 == 0 else ("a",), "p", i % 4 == 0) for i in range(n)]


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 2**31))
def test_a_higher_cap_only_adds_items(low: int, high: int, seed: int) -> None:
    low, high = sorted((low, high))
    items = items_of(50)
    few = select(items, seed, Caps({"d": low}))
    many = select(list(reversed(items)), seed, Caps({"d": high}))
    assert few == many[: len(few)]
    assert len(few) == min(low, 50)


def test_a_size_of_zero_means_none_and_null_means_all() -> None:
    items = items_of(20)
    assert select(items, 1, Caps(types={"open": 0})) == ()
    assert len(select(items, 1, Caps(types={"open": None}))) == 20


def test_the_limit_keeps_the_unanswerable_share_of_each_type() -> None:
    items = items_of(40) + [Item("c", str(i), "q", ("a",)) for i in range(30)]
    chosen = select(items, 7, Caps(limit=8))
    opened = [item for item in chosen if item.type == "open"]
    assert len(opened) == 8
    assert sum(item.is_unanswerable for item in opened) == 2
    assert sum(item.type == "closed" for item in chosen) == 8


# -- loaders ------------------------------------------------------------------------------------
def squad_file(folder: Path) -> Path:
    path = folder / "dev-v2.0.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    qas = [
        {"id": "q1", "question": "Who?", "answers": [{"text": "Ann"}, {"text": "Ann"}]},
        {"id": "q2", "question": "When?", "answers": [], "is_impossible": True},
    ]
    data = {"data": [{"title": "t", "paragraphs": [{"context": "Ann came.", "qas": qas}]}]}
    path.write_text(json.dumps(data))
    return path


def test_squad_maps_impossible_to_unanswerable(tmp_path: Path) -> None:
    first, second = loaders.squad(squad_file(tmp_path)).items
    assert (first.answers, first.is_unanswerable) == (("Ann",), False)
    assert second.is_unanswerable and second.cluster == first.cluster


def test_triviaqa_unites_answers_of_equal_ids(tmp_path: Path) -> None:
    entry = {"QuestionId": "1", "Question": "Q?", "Answer": {"Value": "A", "Aliases": ["B"]}}
    other = entry | {"Answer": {"Value": "C", "Aliases": []}}
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"Data": [entry, other]}))
    loaded = loaders.triviaqa(path)
    assert loaded.items[0].answers == ("A", "B", "C")
    assert loaded.merged == 1


def test_nq_open_names_items_by_their_question(tmp_path: Path) -> None:
    path = tmp_path / "NQ-open.dev.jsonl"
    path.write_text(json.dumps({"question": "who", "answer": ["x"]}) + "\n")
    (item,) = loaders.nq_open(path).items
    assert item.id == "nq-" + hashlib.sha256(b"who").hexdigest()[:12]


def test_a_csv_is_read_by_its_column_map(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text('q,gold\n"Capital, of France?",Paris|paris\n')
    (item,) = loaders.generic(path, columns={"question": "q", "answers": "gold"}).items
    assert (item.dataset, item.id, item.answers) == ("mine", "1", ("Paris", "paris"))
    with pytest.raises(InputError, match=r"mine.csv:2: columns.question"):
        loaders.generic(path, columns={"question": "nope"})


# -- prepare ------------------------------------------------------------------------------------
def test_official_files_are_prepared_once_and_then_used_as_they_stand(tmp_path: Path) -> None:
    asked = plan(tmp_path)
    raw = squad_file(tmp_path / "raw")
    items = prepare(asked).items
    raw.unlink()
    assert prepare(asked).items == items
    require_prepared(asked)


def test_prepared_data_with_another_hash_is_not_used(tmp_path: Path) -> None:
    asked = plan(tmp_path)
    squad_file(tmp_path / "raw")
    prepare(asked)
    book = tmp_path / "prepared" / "open_book.jsonl"
    book.write_bytes(book.read_bytes() + b"\n")
    with pytest.raises(InputError, match="does not match its hash"):
        require_prepared(asked)


def test_nothing_at_all_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data.source: sample"):
        prepare(plan(tmp_path))


def test_files_of_the_config_make_the_prepared_data(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "q", "answers": ["a"]}\n')
    asked = plan(tmp_path, files=(DataFile(path=path),))
    assert prepare(asked).items[0].dataset == "q"
    path.write_text('{"question": "other", "answers": ["a"]}\n')
    assert prepare(asked).items[0].question == "other"


def test_sample_and_simulated_bypass_the_prepared_folder(tmp_path: Path) -> None:
    for source in ("sample", "simulated"):
        asked = plan(tmp_path, source=source)
        assert prepare(asked).items
        require_prepared(asked)
    assert not (tmp_path / "prepared").exists()


def test_a_named_tokenizer_counts_the_prompts_and_an_absent_one_is_refused(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel({"be": 0, "brief": 1}, "be"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    inner.save(str(tmp_path / "tokenizer.json"))
    named = token_counter(str(tmp_path))
    assert named.count("be brief and plain") == 4
    assert str(tmp_path) in named.method
    assert token_counter(None).count("be brief and plain") == 5
    (tmp_path / "other.json").write_text("{}")
    for name in ("no such tokenizer", str(tmp_path / "other.json")):
        with pytest.raises(InputError, match="allowed: a tokenizer"):
            token_counter(name)


@pytest.mark.parametrize(
    ("name", "content"),
    [("squad_v2", b'{"data": [{"paragraphs": [{}]}]}'), ("triviaqa", b'{"Data": [{"Question": 1}]}'),
     ("nq_open", b'{"answer": ["x"]}'), ("squad_v2", b'{"data": 3}')],
)  # fmt: skip
def test_an_official_file_of_another_form_is_refused(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / "file.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"file.jsonl: no {name} file"):
        DataFile(path=path, loader=name).load()  # type: ignore[arg-type]


def test_a_table_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"question,answers\n\xff\xfe,b\n")
    with pytest.raises(InputError, match=r"t\.csv: .*decode"):
        loaders.generic(path)
