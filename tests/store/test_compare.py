"""Two runs side by side: trials pair by the levels and the seed they share."""

import pytest

from peira import api
from peira.errors import InputError
from peira.store.compare import compare, load_side
from peira.store.records import RunView
from peira.study.study import Study
from tests.engine.toy import Toy

TOY = f"{Toy.run.__code__.co_filename}:Toy"


def side(folder, name, **changes):
    study = Study(family=TOY, name=name, seeds=[1, 2, 3], save_individual_runs=False, **changes)
    assert api.run(study, api.Options(run_dir=folder / name)).exit_code == 0
    return load_side(str(folder / name), folder, api.load_family)


def test_a_factor_with_one_level_in_each_run_does_not_part_their_trials(tmp_path):
    first = side(tmp_path, "a", factors={"calls": [2], "level": [0.0, 1.0]})
    second = side(tmp_path, "b", factors={"calls": [4], "level": [0.0, 1.0, 2.0]})
    found = compare(first, second)
    assert found.notes == ("calls: 2 in the first is matched with 4 in the second",)
    total = next(c for c in found.changes if c.first.quantity == "total")
    assert (total.first.n, total.second.n, total.change.n) == (6, 9, 6)
    assert total.change.low < total.change.estimate < total.change.high
    assert ("factors.calls", "[2]", "[4]") in found.config


def test_trials_of_other_levels_do_not_pair(tmp_path):
    first = side(tmp_path, "a", factors={"calls": [2, 3]})
    second = side(tmp_path, "b", factors={"calls": [3, 4]})
    total = next(c for c in compare(first, second).changes if c.first.quantity == "total")
    assert (total.change.n, total.change.estimate) == (3, pytest.approx(0.0))


def test_a_trial_is_compared_by_itself_not_by_its_run(tmp_path):
    """Its folder, however deep, tells which: its numbers, its tokens, its cost."""
    study = Study(family=TOY, fixed={"model": "sim:dice,cost=0.01"}, factors={"calls": [2, 4]})
    assert api.run(study, api.Options(run_dir=tmp_path / "run")).exit_code == 0
    with RunView(tmp_path / "run") as run:
        slugs = [record.slug for record in run.records()]
    first, second = (
        load_side(str(tmp_path / "run" / "trials" / slug), tmp_path, api.load_family)
        for slug in slugs
    )
    assert (first.costs["usd"], second.costs["usd"]) == (0.02, 0.04)
    assert first.name == f"run/{slugs[0]}"
    total = next(c for c in compare(first, second).changes if c.first.quantity == "total")
    assert (total.first.n, total.second.n) == (1, 1)


@pytest.mark.parametrize(("name", "text"), [
    ("per_item_scores.csv", "item_key,em\na,much\n"), ("significance.json", "{"),
    ("costs.json", "}"), ("eval_config.yaml", "a: [\n"),
])  # fmt: skip
def test_a_damaged_file_of_another_tool_is_named(tmp_path, name, text):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "per_item_scores.csv").write_text("item_key,em\na,1\n")
    (tmp_path / "old" / name).write_text(text)
    if name == "significance.json":
        (tmp_path / "old" / "per_item_scores.csv").unlink()
    with pytest.raises(InputError, match=f"{name}: cannot be read"):
        load_side("old", tmp_path, api.load_family)
