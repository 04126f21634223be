"""The house stays in order: small functions, small files, few parameters, no machine's path."""

import ast
import re
import statistics
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
FUNCTIONS = [
    (path, node)
    for path, tree in TREES.items()
    for node in ast.walk(tree)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
]
COMMANDS = ROOT / "src/peira/cli"  # a command's parameters are its flags


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

    assert [
        place(p, n) for p, n in FUNCTIONS if count(n) > 8 and not p.is_relative_to(COMMANDS)
    ] == []


def test_every_module_says_what_it_is_for():
    assert [str(p) for p, tree in TREES.items() if not ast.get_docstring(tree)] == []


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
