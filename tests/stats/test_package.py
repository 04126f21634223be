"""The package as a whole: light, alone, complete, seeded by purpose."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import peira.stats
from peira.stats import derived_generator, seed_sequence, spec_hash

HOME = Path(peira.stats.__file__).parent


def test_importing_it_loads_no_heavy_library():
    code = (
        "import sys, peira.stats; "
        "heavy = {'numpy', 'scipy', 'statsmodels', 'pandas', 'matplotlib'} & set(sys.modules); "
        "assert not heavy, heavy; import peira.stats.paired; "
        "heavy = {'scipy.stats', 'statsmodels', 'pandas'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_name_resolves_and_none_hides_a_module():
    modules = {path.stem for path in HOME.glob("*.py")}
    assert not modules & set(peira.stats.__all__)
    for name in peira.stats.__all__:
        assert getattr(peira.stats, name).__doc__ or name == "REASONS"
    with pytest.raises(AttributeError, match="no_such"):
        _ = peira.stats.no_such


def test_it_imports_nothing_else_of_peira_and_draws_from_no_global_generator():
    for path in HOME.glob("*.py"):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("peira"):
                assert node.module.startswith("peira.stats"), path
        assert "np.random.seed" not in text
        assert "random.seed" not in text


def test_hash_ignores_order_and_refuses_what_json_cannot_say():
    assert spec_hash({"a": 600, "b": 1}) == spec_hash({"b": 1, "a": 600.0})
    assert spec_hash(json.loads('{ "a" : [1] }')) == spec_hash({"a": [1]})
    for bad in (float("nan"), float("inf"), {1: 2}, object()):
        with pytest.raises(ValueError, match="canonical"):
            spec_hash({"x": bad})


def test_seeds_follow_the_purpose_not_the_order():
    one = derived_generator("spec", "bootstrap", "item-1", "treatment", 0).random(3)
    derived_generator("spec", "other").random(10)
    again = derived_generator("spec", "bootstrap", "item-1", "treatment", 0).random(3)
    assert np.array_equal(one, again)
    states = {
        tuple(seed_sequence(*p).generate_state(4))
        for p in (("a", "bc"), ("ab", "c"), ("a", "bc", 0), ("a", "bc", "0"), ("a",))
    }
    assert len(states) == 5
