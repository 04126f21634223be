"""No study file, in whatever form, crashes the reader: it is read, or refused in our own words."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from peira import api
from peira.errors import InputError
from peira.study.grid import count
from peira.study.reader import load_yaml
from tests.strategies import files


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "study.yaml"


@given(files())
@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
def test_a_sound_file_with_anything_in_its_fields_is_planned_or_refused(path, data):
    path.write_text(json.dumps(data))
    try:
        question = api.ask(path)
        if count(question.study) < 1000:
            question.cells()
    except InputError as error:
        assert str(error)


HOSTILE = {
    "aliases of aliases": "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
    ),
    "itself": "a: &a [*a]\n",
    "deep": "a: " + "[" * 500 + "]" * 500,
    "object": "family: !!python/object/apply:os.system ['exit 1']\n",
    "tag": "family: !nonesuch x\n",
    "complex key": "? [a, b]\n: c\n",
    "merge": "a: &a {b: 1}\nc: {<<: [*a, 3]}\n",
    "two documents": "family: negotiation\n---\nfamily: prompts\n",
    "date": "name: 2020-13-45\n",
    "huge number": "replicates: " + "9" * 5000,
    "binary": "name: !!binary '***'\n",
    "set": "fixed: !!set {a, b}\n",
    "omap": "fixed: !!omap [a: 1]\n",
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_yaml_is_refused_in_words(path, text):
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        api.ask(path)
    assert len(str(caught.value)) < 3000


def test_a_setting_called_null_keeps_its_name(path):
    path.write_text("fixed:\n  null: [shuffled]\n")
    data, source = load_yaml(path)
    assert data == {"fixed": {"null": ["shuffled"]}}
    assert source.where(("fixed", "null")) == f"{path}:2:3"
