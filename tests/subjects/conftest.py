"""A process that drives studies and can be killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest


class Drivers:
    """Starts drivers one after another; `kill` ends the one at work as the kernel would."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("zygote.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = 0

    def run(self, study, folder: Path) -> int:
        """Run a study to its end and return the exit code, negative for a signal."""
        file = folder.with_suffix(".study.json")
        file.write_text(study.model_dump_json())
        self.process.stdin.write(f"{file}\t{folder}\n")
        self.process.stdin.flush()
        self.pid = int(self.process.stdout.readline())
        return int(self.process.stdout.readline())

    def kill(self) -> None:
        """kill -9, and wait until it is dead."""
        os.kill(self.pid, signal.SIGKILL)
        while self._alive():
            pass

    def _alive(self) -> bool:
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        return state != "Z"


@pytest.fixture(scope="session")
def drivers():
    made = Drivers()
    yield made
    made.process.stdin.close()
    made.process.wait(10)
    made.process.stdout.close()
