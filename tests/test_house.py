"""The house stays in order: small functions, small files, few parameters, no machine's path."""

import ast
import re
import statistics
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
FUNCTIONS = [
    (path, node)
    for path, tree in TREES.items()
    for node in ast.walk(tree)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
]


def place(path: Path, node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"


def length(node: ast.AST) -> int:
    return node.end_lineno - node.lineno + 1


def test_no_file_is_over_500_lines():
    assert [str(p) for p in SOURCES if len(p.read_text().splitlines()) > 500] == []


def test_no_function_is_over_80_lines_and_the_median_is_under_10():
    assert [place(p, n) for p, n in FUNCTIONS if length(n) > 80] == []
    assert statistics.median(length(n) for _, n in FUNCTIONS) < 10


def test_no_call_takes_more_than_8_parameters():
    def count(node):
        names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        return len([name for name in names if name not in ("self", "cls")])

    assert [place(p, n) for p, n in FUNCTIONS if count(n) > 8] == []


def test_every_module_says_what_it_is_for():
    assert [str(p) for p, tree in TREES.items() if not ast.get_docstring(tree)] == []


def test_the_map_is_the_tree():
    """docs/architecture.md names every room, and nothing that is not there."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    lines = text.split("```text\nsrc/peira/\n")[1].split("```")[0].splitlines()
    rooms = {
        line.split()[0].rstrip("/"): re.split(r"  +", line.strip())[2].split() for line in lines
    }
    home = ROOT / "src/peira"
    assert set(rooms) == {path.parent.name for path in home.glob("*/__init__.py")}
    missing = [f"{room}/{name}" for room, names in rooms.items() for name in names
               if not (home / room / (name if name.endswith("/") else f"{name}.py")).exists()]  # fmt: skip
    assert missing == []


STORY = ("settings", "trial", "outcome", "analysis", "figures", "simulated", "family")


@pytest.mark.parametrize("family", ["negotiation", "prompts", "scenarios", "representations"])
def test_every_family_tells_its_story_in_the_same_files(family):
    folder = ROOT / "src/peira/families" / family
    assert [name for name in STORY if not (folder / f"{name}.py").is_file()] == []


def test_no_family_imports_another():
    """import-linter holds the whole order; this is its first rule, where every test run sees it."""
    own = {path.name for path in (ROOT / "src/peira/families").iterdir() if path.is_dir()}
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path, tree in TREES.items()
        if "families" in path.parts
        for name in imported(tree)
        for other in own - set(path.parts)
        if name.startswith(f"peira.families.{other}")
    ]
    assert found == []


def imported(tree: ast.AST) -> list[str]:
    """Every module that a file imports, wherever in it."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def test_no_machine_path_or_registry_host_is_committed():
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\0")
    forbidden = re.compile(r"(?<![\w.])/(?:work|root)/\w|/opt/pypi|files\.pythonhosted\.org")
    found = []
    for name in filter(None, tracked):
        path = ROOT / name
        if path.suffix in {".png", ".npz", ".safetensors", ".db"} or not path.is_file():
            continue
        if path != Path(__file__) and forbidden.search(path.read_text(errors="replace")):
            found.append(name)
    assert found == []
