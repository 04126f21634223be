"""Every snippet of README and docs is run, in order, as a user would run it; none can hide.

One test a page, in a folder that looks like a fresh clone (studies, scenarios, config, scripts).
`bash` and `python` are run, `yaml file=` and `py file=` written, other `yaml` read by what it is a
part of. `console` and `text` are shown only (keys, clusters, hours); like every `peira …` in running
text, their commands are held to the real parser. Another language, or a fence that is not at the
beginning of a line, is a fault.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer
import yaml

from peira.cli.command import parse
from peira.cli.main import ALIASES, COMMANDS
from peira.families.scenarios.load import load_scenario
from peira.subjects.registry import describe_model

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]
BLOCK = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.M | re.S)
SPAN = re.compile(r"`(peira [^`]+)`")
SHOWN = {"console", "text", "{toctree}", "{eval-rst}"}
FILE = re.compile(r"(?:yaml|py) file=(\S+)")
SHARED = ("studies", "scenarios", "config", "scripts", "benchmarks")
MODULES = {name: module for group in COMMANDS.values() for name, (module, _) in group.items()}


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of every block, in order."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def each(check):
    return pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)(check)


@pytest.fixture
def clone(tmp_path) -> Path:
    for name in SHARED:
        if (ROOT / name).exists():
            (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@each
def test_no_snippet_can_hide(page):
    text = page.read_text(encoding="utf-8")
    languages = [language for language, _ in blocks(page)]
    known = {"bash", "python", "yaml", *SHOWN}
    assert [x for x in languages if x not in known and not FILE.fullmatch(x)] == []
    assert text.count("```") == 2 * len(languages), (
        "a fence that is not one at the line's beginning"
    )
    assert "~~~" not in text
    assert not re.search(r"\|\| *true|set \+e", "".join(t for x, t in blocks(page) if x == "bash"))


@each
def test_snippets_run(page, clone):
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(clone), "MPLBACKEND": "Agg", "PYTHONWARNINGS": "default",
    }  # fmt: skip
    for number, (language, text) in enumerate(blocks(page), start=1):
        if named := FILE.fullmatch(language):
            (clone / named[1]).write_text(text)
        elif language == "yaml":
            read_part(yaml.safe_load(text), clone)
        elif language in ("bash", "python"):
            start = ["bash", "-euo", "pipefail"] if language == "bash" else [sys.executable]
            done = subprocess.run(
                [*start, "-c", text], cwd=clone, env=environment, capture_output=True, text=True,
                timeout=600, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            assert done.returncode == 0, (
                f"{page.name}, block {number}:\n{text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            )


def read_part(data: dict, clone: Path) -> None:
    """A part of a file is read as the whole file would be: its subjects, or its metrics."""
    (part,) = data
    if part == "subjects":
        for name, fields in data["subjects"].items():
            assert describe_model(name, fields)
    else:
        assert part == "metrics"
        folder = clone / "with-metrics"
        if not folder.exists():
            shutil.copytree(ROOT / "scenarios/hello-scenario", folder)
        (folder / "metrics.yaml").write_text(yaml.safe_dump(data))
        assert load_scenario(folder).metrics


def command_lines(page: Path) -> list[str]:
    """Every `peira …` the page shows, in blocks and in running text."""
    text = page.read_text(encoding="utf-8")
    found = SPAN.findall(re.sub(r"\\\|", "|", text.replace("\n", " ")))
    for language, block in blocks(page):
        if language in ("console", "text", "bash"):
            whole = block.replace("\\\n", " ")
            found += re.findall(r"^(?:\$ )?(peira .*)$", whole, re.M)
    return found


@each
def test_every_command_on_the_page_exists_with_its_flags(page):
    wrong = []
    for line in command_lines(page):
        shown = re.split(r" [>|&]", line)[0].replace("…", "")
        words = shlex.split(shown, comments=True)[1:]
        if not words or words[0].startswith("-") or words[0].isupper():
            continue
        name = ALIASES.get(words[0], words[0])
        if name not in MODULES:
            wrong.append(f"{line}: no such command")
            continue
        try:
            parse(name, import_module(f"peira.cli.{MODULES[name]}").command, words[1:])
        except typer.Exit:
            pass
        except Exception as error:  # noqa: BLE001 - click's usage errors, vendored by typer
            if not str(error).startswith("Missing"):
                wrong.append(f"{line}: {error}")
    assert wrong == []
