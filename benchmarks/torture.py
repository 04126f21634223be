"""`make torture`: kill, fill, corrupt, confuse. Small runs of every family, bounded in time.

After each case: nothing paid is lost or bought twice, counts add up, the error is clear. Prints a
table of cases and outcomes (kept in docs/reliability.md). Exit code 1 if any case fails.

    python benchmarks/torture.py [--seconds 240] [--only kill,disk] [--markdown FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from peira import api
from peira.cli.finish import finish
from peira.cli.main import run as command
from peira.cli.new import experiment
from peira.errors import PeiraError
from peira.store.records import RunView
from peira.store.rundir import RunDir
from peira.study.study import Study

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


IN_FLIGHT = 3  # calls at once, at most: trials of one call each, or rows of one trial


@dataclass(frozen=True)
class Row:
    """One case, as the table shows it."""

    case: str
    family: str
    runs: int
    outcome: str
    good: bool


# -- small studies of every family -----------------------------------------------------------
def studies(folder: Path) -> dict[str, api.Question]:
    """A small priced study of each family; priced, so that the ledger matters."""
    paid = "cost=0.001,worst=0.002"
    found = {
        "toy": api.ask(
            Study(
                family=f"{ROOT / 'tests/engine/toy.py'}:Toy", name="toy", replicates=4,
                fixed={"model": f"sim:dice,{paid}"}, limits={"budget_usd": 5},
            )
        ),
        "negotiation": api.ask(
            Study(
                family="negotiation", name="negotiation", replicates=2,
                fixed={"max_rounds": 3, "competition_level": 0.5,
                       "models": [f"sim:skill=0.3,{paid}", f"sim:skill=0.8,{paid}"]},
                limits={"budget_usd": 5},
            )
        ),
    }  # fmt: skip
    batch = {
        "experiment_name": "torture", "base_scenario": str(ROOT / "scenarios/hello-scenario"),
        "runs_per_variation": 2, "budget_limit": 5.0, "output_dir": str(folder / "scenario"),
    }  # fmt: skip
    path = folder / "batch-config.yaml"
    path.write_text(json.dumps(batch))
    found["scenarios"] = api.ask(path)
    found["prompts"] = api.ask(_evaluation(folder))
    found["representations"] = api.ask(
        Study(
            family="representations", name="representations",
            fixed={"experiment": "css", "model": "sim:mixer,d=32,layers=2", "n_contexts": 4},
        )
    )  # fmt: skip
    return found


def _evaluation(folder: Path) -> Path:
    prompts = {}
    for arm, text in {"control": "Answer.", "treatment": "Answer briefly."}.items():
        (folder / f"{arm}.txt").write_text(text)
        prompts[arm] = str(folder / f"{arm}.txt")
    path = folder / "eval_config.yaml"
    path.write_text(
        json.dumps(
            {
                "model_id": "sim:respondent,skill=0.5,cost=0.001,worst=0.002",
                "prompt_sets": {"default": prompts},
                "data": {"source": "sample"},
                "sizes": {"closed_book_max_items": 6, "open_book_max_items": 6},
                "limits": {"budget_usd": 5},
                "max_concurrent_requests": IN_FLIGHT,
            }
        )
    )
    return path


# -- tools -----------------------------------------------------------------------------------
def child(work: Callable[[], int]) -> int:
    """Start `work` in a forked process; returns its pid."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                code = work()
        finally:
            os._exit(code)
    return pid


def drive(question: api.Question, folder: Path, **options) -> int:
    """Run in this process; exit code."""
    return api.run(question, api.Options(run_dir=folder, **options)).exit_code


def outcomes(folder: Path) -> dict[str, object]:
    with RunView(RunDir(folder)) as run:
        return {r.slug: (str(r.state), r.outcome) for r in run.records()}


def faults(folder: Path, reference: dict[str, object], kills: int, parallel: int) -> list[str]:
    """What is wrong with a finished run, in words; empty means nothing."""
    found = []
    with RunView(RunDir(folder)) as run:
        tally = run.tally
        if tally.planned != tally.done:
            found.append(f"not all done: {tally}")
        twice = run.query(
            "SELECT COUNT(*) FROM (SELECT 1 FROM replies WHERE state='done' GROUP BY trial, key"
            " HAVING COUNT(*) > 1)"
        )[0][0]
        lost = run.query("SELECT COUNT(*) FROM replies WHERE state='unsettled'")[0][0]
    if twice:
        found.append(f"{twice} replies bought twice")
    if lost > kills * parallel:
        found.append(f"{lost} calls lost by {kills} kills of {parallel} in flight")
    if timeless(outcomes(folder)) != timeless(reference):
        found.append("outcomes differ from an unbroken run's")
    return found


def timeless(value: object) -> object:
    """Outcomes without what time alone decides."""
    if isinstance(value, dict):
        return {
            k: timeless(v) for k, v in value.items() if k not in ("seconds", "timestamp", "cost")
        }
    if isinstance(value, (list, tuple)):
        return [timeless(item) for item in value]
    return value


# -- cases -----------------------------------------------------------------------------------
def kill_driver(question: api.Question, family: str, folder: Path, seconds: float) -> Row:
    """SIGKILL the driver at random moments until the run is done; again and again."""
    reference_dir = folder / "reference"
    drive(question, reference_dir, parallel=IN_FLIGHT)  # also loads what the family needs
    start = time.time()
    drive(question, folder / "timed", parallel=IN_FLIGHT)
    whole = time.time() - start
    reference = outcomes(reference_dir)
    dice, runs, kills, wrong = random.Random(family), 0, 0, []
    deadline = time.time() + seconds
    while time.time() < deadline and not wrong:
        target = folder / f"run{runs}"
        killed = 0
        for _ in range(40):
            pid = child(lambda target=target: drive(question, target, parallel=IN_FLIGHT))
            if killed < 6:
                time.sleep(dice.random() * whole)
                os.kill(pid, signal.SIGKILL)
            if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0:
                break
            killed += 1
        runs, kills = runs + 1, kills + killed
        wrong = faults(target, reference, killed, IN_FLIGHT)
        shutil.rmtree(target)
    text = "; ".join(wrong) or f"{kills} kills: all done, equal outcomes, nothing bought twice"
    return Row("SIGKILL of the driver", family, runs, text, not wrong)


def kill_workers(question: api.Question, family: str, folder: Path, seconds: float) -> Row:
    """SIGKILL worker processes while the driver lives."""
    import psutil

    reference = folder / "reference"
    drive(question, reference, parallel=2)
    pid = child(lambda: drive(question, folder / "run", parallel=2, executor="processes"))
    killed, deadline = 0, time.time() + seconds
    driver = psutil.Process(pid)
    while killed < 2 and time.time() < deadline and driver.status() != "zombie":
        workers = driver.children()
        if workers and time.time() > deadline - seconds + 0.8:
            workers[0].kill()
            killed += 1
        time.sleep(0.3)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    wrong = (
        [f"driver exit {code}"] if code else faults(folder / "run", outcomes(reference), killed, 2)
    )
    return Row(
        "SIGKILL of workers", family, 1, "; ".join(wrong) or f"{killed} killed: done", not wrong
    )


@contextlib.contextmanager
def tmpfs(size: str) -> Iterator[Path | None]:
    """A small file system of its own, or None where it cannot be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="peira-tmpfs-"))
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
                          capture_output=True)  # fmt: skip
    try:
        yield folder if done.returncode == 0 else None
    finally:
        subprocess.run(["umount", "-l", str(folder)], capture_output=True)
        folder.rmdir()


def disk_full(question: api.Question, family: str, folder: Path, seconds: float) -> Row:
    """The disk fills in mid-run; after space is freed the same command goes on."""
    reference = folder / "reference"
    drive(question, reference, parallel=3)
    said: list[str] = []
    wrong: list[str] = []
    rooms = range(1_000_000, 2_200_000, 100_000)
    with tmpfs("4m") as small:
        if small is None:
            return Row("disk full", family, 0, "skipped: no tmpfs may be mounted here", True)
        for free in rooms:
            (small / "filler").write_bytes(b"x" * ((4 << 20) - free))
            message = _message(lambda: drive(question, small / "run", parallel=3))
            said += [message] if message else []
            (small / "filler").unlink()
            code = drive(question, small / "run", parallel=3)
            wrong += [] if code == 0 else [f"exit {code} after space was freed"]
            wrong += faults(small / "run", outcomes(reference), 2, 3)
            shutil.rmtree(small / "run")
    wrong += [f"unclear: {m!r}" for m in said if "full" not in m and "cannot be written" not in m]
    return Row(
        "disk full, then freed",
        family,
        len(rooms),
        "; ".join(wrong) or f"halted {len(said)} times in words; done once freed",
        not wrong,
    )


def _message(work: Callable[[], object]) -> str:
    try:
        work()
    except PeiraError as error:
        return str(error)
    return ""


def corrupt(question: api.Question, family: str, folder: Path, seconds: float) -> Row:
    """Projections cut, overwritten or gone: rebuilt as they were. run.db cut in half: refused."""
    target = folder / "run"
    drive(question, target)
    api.collect(RunDir(target))
    before = {p: p.read_bytes() for p in target.rglob("*") if p.suffix in (".json", ".csv", ".md")}
    for number, path in enumerate(before):
        if number % 3 == 2:
            path.unlink()
        else:
            path.write_bytes(before[path][: len(before[path]) // 2] if number % 3 else b"\0\xff{")
    api.collect(RunDir(target))
    wrong = [f"{path.name} is not as it was" for path, data in before.items()
             if not path.exists() or path.read_bytes() != data]  # fmt: skip
    for name in ("run.db-wal", "run.db-shm"):
        (target / name).unlink(missing_ok=True)
    data = (target / "run.db").read_bytes()
    (target / "run.db").write_bytes(data[: len(data) // 2 - 1000])
    message = _message(lambda: drive(question, target, retry_failed=True))
    if "damaged" not in message and "run.db" not in message:
        wrong.append(f"no clear message for a cut run.db: {message!r}")
    text = "; ".join(wrong)[:300] or f"{len(before)} files rebuilt as they were; refused in words"
    return Row("projections damaged or gone, run.db cut", family, 1, text, not wrong)


def two_drivers(question: api.Question, family: str, folder: Path, seconds: float) -> Row:
    """Two drivers at once: one works, the other is refused, results are whole."""
    reference = folder / "reference"
    drive(question, reference)
    pids = [child(lambda: _code(lambda: drive(question, folder / "run"))) for _ in range(2)]
    codes = sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids)
    wrong = [] if codes in ([0, 0], [0, 2]) else [f"exit codes {codes}"]
    wrong += faults(folder / "run", outcomes(reference), 0, 1)
    return Row("two drivers", family, 1, "; ".join(wrong) or f"exit codes {codes}", not wrong)


def _code(work: Callable[[], int]) -> int:
    try:
        return work()
    except PeiraError as error:
        return error.exit_code


def clock_jumps(question: api.Question, family: str, folder: Path, seconds: float) -> Row:
    """The clock jumps by hours, back and forth, during the run."""
    reference = folder / "reference"
    drive(question, reference)
    real, dice = time.time, random.Random(1)
    time.time = lambda: real() + dice.uniform(-7200, 7200)  # type: ignore[assignment]
    try:
        code = drive(question, folder / "run")
    finally:
        time.time = real  # type: ignore[assignment]
    wrong = [f"exit {code}"] if code else faults(folder / "run", outcomes(reference), 0, 1)
    return Row("clock jumps", family, 1, "; ".join(wrong) or "no difference", not wrong)


def read_only(question: api.Question, family: str, folder: Path, seconds: float) -> Row:
    """A sealed directory: a new run is refused before anything starts, a finished one can be looked
    at, and what would write says so. Root is bound by no mode, so the commands lose that power."""
    drive(question, folder / "run")
    (folder / "sealed").mkdir()
    for place in (folder / "sealed", *(p for p in folder.rglob("*") if p.is_dir())):
        place.chmod(0o555)
    bound = (
        ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    )

    def said(*words: str) -> tuple[int, str]:
        call = [*bound, sys.executable, "-m", "peira.cli.main", *words]
        done = subprocess.run(call, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    wrong = []
    for words, code, part in (
        (("status", str(folder / "run")), 0, "planned"),
        (("collect", str(folder / "run")), 3, "cannot be written"),
        (("new", "study", "x", "--dir", str(folder / "sealed")), 2, "cannot be written"),
    ):
        got, text = said(*words)
        if got != code or part not in text or "Traceback" in text:
            wrong.append(f"{words[0]}: exit {got}: {text[-120:]}")
    for place in folder.rglob("*"):
        if place.is_dir():
            place.chmod(0o755)
    message = _message(lambda: drive(question, Path("/proc/peira/run")))
    wrong += [] if "cannot be written" in message else [f"unclear: {message!r}"]
    return Row("read-only directory", family, 1,
               "; ".join(wrong) or "readable; writing refused in words", not wrong)  # fmt: skip


# -- hostile model output ---------------------------------------------------------------------
def hostile(question: api.Question, family: str, folder: Path, seconds: float) -> Row:
    """Every reply is hostile: megabytes, escapes, half characters, deep JSON, injections. Trials end
    as done or failed for a stated cause, no text runs on a page, drives a terminal or names a file."""
    from peira.testing import FaultServer
    from peira.testing.hostile import TEXTS, answer

    if family == "representations":
        return Row("hostile model output", family, 0, "no replies: activations only", True)
    with FaultServer(answer=answer).running() as server:
        target = folder / "run"
        code = drive(_asking(family, server.url, folder), target)
        replies = len(server.answered())
    wrong = [] if code in (0, 3) else [f"exit {code}"]
    with RunView(RunDir(target)) as run:
        tally = run.tally
        if tally.pending or tally.planned != tally.done + tally.failed + tally.halted:
            wrong.append(f"counts: {tally}")
        wrong += [
            f"{r.slug}: our fault: {r.message}"[:200] for r in run.records() if r.cause == "code"
        ]
        mixed = run.query("SELECT COUNT(*) FROM replies WHERE state='unsettled'")[0][0]
    wrong += [f"{mixed} calls unsettled"] if mixed else []
    finish(target, quiet=True)
    wrong += unsafe(target)
    said = f"{replies} replies of {len(TEXTS)} kinds: {tally.done} done, {tally.failed} failed in words, nothing ran"
    return Row(
        "hostile model output", family, tally.planned, "; ".join(wrong)[:300] or said, not wrong
    )


def _asking(family: str, url: str, folder: Path) -> api.Question:
    """A small study of a family, put to the hostile server."""
    subjects = {"evil": {"base_url": f"{url}/v1", "model": "evil", "price": "free",
                         "context_window": 100_000_000, "max_output": 10_000}}  # fmt: skip
    limits = {"max_parallel": 8, "retries": 1}
    if family == "negotiation":
        fixed = {"models": ["evil", "evil"], "max_rounds": 1, "discussion_turns": 1, "num_items": 3}
        return api.ask(Study(family="negotiation", name="evil", fixed=fixed, replicates=8,
                             subjects=subjects, limits=limits))  # fmt: skip
    if family == "toy":  # the family that `peira new experiment` writes
        experiment("add_two", folder)
        return api.ask(Study(family=f"{folder / 'add_two.py'}:AddTwo", name="evil", replicates=40,
                             fixed={"model": "evil"}, subjects=subjects, limits=limits))  # fmt: skip
    if family == "prompts":
        path = _evaluation(folder)
        data = json.loads(path.read_text())
        del data["limits"]
        path.write_text(json.dumps({**data, "model_id": "evil", "subjects": subjects}))
        return api.ask(path)
    scenario = folder / "scenarios" / "evil"
    shutil.copytree(ROOT / "scenarios" / "test-regulation-negotiation", scenario)
    for file in scenario.rglob("*.yaml"):
        file.write_text(file.read_text().replace('"openai/gpt-4o-mini"', '"evil"'))
    batch = {"experiment_name": "evil", "base_scenario": str(scenario), "runs_per_variation": 6,
             "max_parallel": 6, "subjects": subjects, "output_dir": str(folder / "batch")}  # fmt: skip
    (folder / "batch-config.yaml").write_text(json.dumps(batch))
    return api.ask(folder / "batch-config.yaml")


def unsafe(target: Path) -> list[str]:
    """What hostile text did to a run's files and to a terminal; empty means nothing."""
    from peira.testing.hostile import MARK

    found: list[str] = []

    def refuse(word: str) -> None:
        found.append(f"{word} in a JSON file")

    for path in target.rglob("*"):
        if any(not char.isprintable() for char in path.name) or len(path.name) > 200:
            found.append(f"file name {path.name[:40]!r}")
        if path.suffix == ".json":
            json.loads(path.read_bytes(), parse_constant=refuse)
        if path.suffix in (".html", ".md"):
            text = path.read_text("utf-8")
            found += [
                f"{path.name}: {w}"
                for w in (f"<script>alert('{MARK}", "<img src=x", "](java")
                if w in text
            ]
    for words in (["show", str(target), "0", "--prompts"], ["status", str(target), "--failed"],
                  ["show", str(target)], ["analyse", str(target)]):  # fmt: skip
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            command(words)
        if any(char in out.getvalue() for char in "\x1b\x07\x9b\u202e"):
            found.append(f"peira {words[0]} drives the terminal")
    return found


CASES = {
    "kill": kill_driver, "workers": kill_workers, "disk": disk_full, "corrupt": corrupt,
    "two": two_drivers, "clock": clock_jumps, "readonly": read_only,
    "hostile": hostile,
}  # fmt: skip
LONG = {"kill"}


def crowd() -> Row:
    """10,000 simulated calls at once."""
    with tempfile.TemporaryDirectory() as folder:
        study = Study(
            family=f"{ROOT / 'tests/engine/toy.py'}:Toy", name="crowd", replicates=10_000,
            fixed={"model": "sim:dice,latency=0.05", "calls": 1}, save_individual_runs=False,
            limits={"max_parallel": 10_000},
        )  # fmt: skip
        target = Path(folder) / "run"
        code = drive(api.ask(study), target)
        with RunView(RunDir(target)) as run:
            tally = run.tally
    good = code == 0 and tally.planned == tally.done == 10_000
    return Row("10,000 concurrent calls", "toy", 1, f"exit {code}: {tally}", good)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=240, help="about how long in all")
    parser.add_argument("--only", default="", help="cases, comma-separated")
    parser.add_argument("--family", default="", help="families, comma-separated")
    parser.add_argument("--markdown", type=Path, help="write the table here, too")
    chosen = parser.parse_args()
    if unknown := {name for name in chosen.only.split(",") if name} - {*CASES, "crowd"}:
        parser.error(f"--only {sorted(unknown)[0]}: allowed: {', '.join(CASES)}, crowd")
    rows = list(run_all(chosen))
    text = table(rows)
    print(text)
    if chosen.markdown:
        chosen.markdown.write_text(text + "\n")
    return 0 if all(row.good for row in rows) else 1


def run_all(chosen: argparse.Namespace) -> Iterator[Row]:
    """Every case on every family, then the crowd."""
    with tempfile.TemporaryDirectory() as base:
        questions = studies(Path(base))
        if chosen.family:
            questions = {k: v for k, v in questions.items() if k in chosen.family.split(",")}
        cases = {k: v for k, v in CASES.items() if not chosen.only or k in chosen.only.split(",")}
        share = chosen.seconds * 0.6 / max(1, len(questions))
        for name, case in cases.items():
            for family, question in questions.items():
                folder = Path(base) / f"{name}-{family}"
                folder.mkdir()
                yield guarded(case, question, family, folder, share if name in LONG else 15.0)
                shutil.rmtree(folder, ignore_errors=True)
        if not chosen.only or "crowd" in chosen.only:
            yield crowd()


def guarded(case, question, family: str, folder: Path, seconds: float) -> Row:
    """A case that itself breaks is a failed case, told in words."""
    try:
        row = case(question, family, folder, seconds)
    except Exception as error:  # noqa: BLE001 - the table must show every case
        row = Row(case.__name__, family, 0, f"{type(error).__name__}: {error}"[:120], False)
    print(
        f"  {'ok  ' if row.good else 'FAIL'} {row.case}: {row.family}: {row.outcome}",
        file=sys.stderr,
    )
    return row


def table(rows: list[Row]) -> str:
    lines = ["| case | family | runs | outcome |", "|---|---|---:|---|"]
    lines += [
        f"| {r.case} | {r.family} | {r.runs} | {'' if r.good else '**FAILED** '}{r.outcome} |"
        for r in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
