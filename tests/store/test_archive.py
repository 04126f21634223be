"""An archive is sealed: reading leaves it as it is, writing is refused, restoring makes a run of it."""

import shutil

import pytest

from peira import api
from peira.cli.main import run as peira
from peira.errors import InputError, StoreError
from peira.store import archive
from peira.store.rundir import RunDir
from peira.study.study import Study
from tests.engine.toy import Toy

TOY = f"{Toy.run.__code__.co_filename}:Toy"


def study(seeds) -> Study:
    return Study(family=TOY, name="kept", seeds=seeds)


@pytest.fixture
def sealed(tmp_path):
    assert api.run(study([1, 2]), api.Options(run_dir=tmp_path / "run")).exit_code == 0
    archive.seal(RunDir(tmp_path / "run"), tmp_path / "archive")
    return tmp_path / "archive"


def test_reading_leaves_it_as_sealed_and_writing_is_refused(sealed, tmp_path, capsys):
    for words in (["analyse"], ["status"], ["show"], ["replay"]):
        assert peira([words[0], str(sealed)]) == 0
    assert peira(["export", str(sealed), "-o", str(tmp_path / "t.csv")]) == 0
    for words in (["collect"], ["report"], ["plot"], ["export"]):
        assert peira([words[0], str(sealed)]) == 2
        assert "a sealed archive" in capsys.readouterr().err
    with pytest.raises(InputError, match="peira archive --restore"):
        api.run(study([1, 2, 3]), api.Options(run_dir=sealed))
    assert archive.verify(sealed) == []


def test_a_restored_archive_is_gone_on_with(sealed, tmp_path):
    archive.restore(sealed, tmp_path / "back")
    report = api.run(study([1, 2, 3]), api.Options(run_dir=tmp_path / "back"))
    assert (report.tally.done, report.ran) == (3, 1)


def test_what_was_tampered_with_is_named_and_not_restored(sealed, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(sealed, copy)
    (copy / "results.csv").write_text("better,results")
    (copy / "summary.json").unlink()
    (copy / "more.txt").write_text("more")
    assert archive.verify(copy) == [
        "missing: summary.json",
        "changed: results.csv",
        "added: more.txt",
    ]
    with pytest.raises(StoreError, match="does not match its manifest"):
        archive.restore(copy, tmp_path / "back")
