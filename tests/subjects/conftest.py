"""A process that drives studies and can be killed."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest


class Drivers:
    """Starts drivers one after another; `kill` ends the one at work as the kernel would."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("zygote.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._pid = 0
        self._started = threading.Event()

    def run(self, study, folder: Path) -> int:
        """Run a study to its end and return the exit code, negative for a signal."""
        file = folder.with_suffix(".study.json")
        file.write_text(study.model_dump_json())
        self._started.clear()
        self.process.stdin.write(f"{file}\t{folder}\n")
        self.process.stdin.flush()
        self._pid = int(self.process.stdout.readline())
        self._started.set()
        return int(self.process.stdout.readline())

    def kill(self) -> None:
        """kill -9 the driver at work, never an earlier one whose number may be another's by now.
        Called while that driver waits for an answer, so it is alive and will be dead after."""
        assert self._started.wait(30), "no driver is at work"
        os.kill(self._pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def drivers():
    made = Drivers()
    yield made
    made.process.stdin.close()
    made.process.wait(10)
    made.process.stdout.close()
