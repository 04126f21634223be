"""Every bash and python snippet of README and docs is run, in order, as a user would run it.

One test a page, in a folder that looks like a fresh clone (studies, scenarios, config, scripts).
Blocks in other languages (`text`, `console`, `yaml`, `json`) are shown, not run.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
BLOCK = re.compile(r"^```(bash|python|yaml file=(\S+)|py file=(\S+))\n(.*?)^```", re.M | re.S)
SHARED = ("studies", "scenarios", "config", "scripts", "benchmarks")


def blocks(page: Path) -> list[tuple[str, str]]:
    """(kind or file name, text) of every block that does something, in order."""
    found = []
    for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
        name = match[2] or match[3]
        found.append((f"file {name}" if name else match[1], match[4]))
    return found


@pytest.fixture
def clone(tmp_path) -> Path:
    for name in SHARED:
        if (ROOT / name).exists():
            (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_snippets_run(page, clone):
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(clone), "MPLBACKEND": "Agg", "PYTHONWARNINGS": "default",
    }  # fmt: skip
    for number, (kind, text) in enumerate(blocks(page), start=1):
        if kind.startswith("file "):
            (clone / kind.removeprefix("file ")).write_text(text)
            continue
        command = (
            ["bash", "-euo", "pipefail", "-c", text]
            if kind == "bash"
            else [sys.executable, "-c", text]
        )
        done = subprocess.run(
            command, cwd=clone, env=environment, capture_output=True, text=True, timeout=600,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, (
            f"{page.name}, block {number}:\n{text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
