"""Two runs side by side: trials pair by the levels and the seed they share."""

import pytest

from peira import api
from peira.store.compare import compare, load_side
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
