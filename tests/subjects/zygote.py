"""Runs studies in forked children, so that a test can kill many drivers without importing again.

Reads `study.json<TAB>run dir` lines; prints each child's pid, then its exit code or -signal.
"""

import os
import sys
import tempfile
from pathlib import Path

import aiohttp  # noqa: F401 - imported here once, not in every child

import peira.subjects.registry  # noqa: F401
from peira import api
from peira.study.study import Study


def warm_up() -> None:
    """One simulated study in this process, so that children find every module loaded."""
    toy = Path(__file__).parents[1] / "engine" / "toy.py"
    with tempfile.TemporaryDirectory() as folder:
        api.run(Study(family=f"{toy}:Toy"), api.Options(run_dir=Path(folder)))


def say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def main() -> None:
    warm_up()
    for line in sys.stdin:
        file, folder = line.rstrip("\n").split("\t")
        child = os.fork()
        if child == 0:
            study = Study.model_validate_json(Path(file).read_text())
            try:
                code = api.run(study, api.Options(run_dir=Path(folder))).exit_code
            finally:
                sys.stderr.flush()
            os._exit(code)
        say(child)
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    main()
