"""Fuzzing until quiet: study files of every form, replies of every shape, bytes as run.db and imports.

Structure-aware (hypothesis) everywhere; where atheris is installed also coverage-guided on raw bytes.
Each distinct place that raises anything but Peira's own errors is printed with the input that got
there. Exit code 1 if there is one.

    python benchmarks/fuzz.py [--seconds 60] [--only reader,offers] [--atheris TARGET]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sqlite3
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

try:
    import atheris
except ImportError:
    atheris = None

watched = (
    atheris.instrument_imports(include=["peira"])
    if atheris is not None and "--atheris" in sys.argv
    else contextlib.nullcontext()
)
with watched:
    from tests.strategies import VALUES, files, recordings, replies

    from peira import api
    from peira.errors import PeiraError
    from peira.families.negotiation import parsing
    from peira.families.prompts.abstention import AbstentionDetector
    from peira.families.prompts.data import Item
    from peira.families.prompts.scoring import ScoringRules, score
    from peira.families.scenarios import parse
    from peira.families.scenarios.load import load_scenario
    from peira.importers import importer
    from peira.importers.base import Notes
    from peira.store.records import RunView
    from peira.study.grid import count

FOLDER = Path(tempfile.mkdtemp(prefix="peira-fuzz-"))
NAMES = parsing.Names.of(("Agent 1", "Agent 2"), ("Apple", "Jewel"))
RULES = ScoringRules(AbstentionDetector())
ITEM = Item("fuzz", "1", "What?", ("Paris", "the city of light"), context="Paris is a city.")


# -- targets: each takes one drawn value and may raise only PeiraError ------------------------
def reader(data: dict[str, Any]) -> None:
    path = FOLDER / "study.yaml"
    path.write_text(json.dumps(data))
    question = api.ask(path)
    if count(question.study) < 500:
        question.cells()


def offers(text: str) -> None:
    parsing.read_offer(text, NAMES)


def ballots(text: str) -> None:
    parsing.read_ballot(text, (1, 2))


def plans(text: str) -> None:
    parsing.read_plan(text)


def forms(text: str) -> None:
    for form in parse.FORMS.values():
        found = parse.read_form(form, text).value or {}
        for value in found.values():
            parse.as_text(value), parse.as_list(value), parse.as_truth(value)


def scores(text: str) -> None:
    score(ITEM, text, RULES)


def scenarios(drawn: tuple[str, Any]) -> None:
    name, value = drawn
    folder = FOLDER / "scenario"
    for source in (ROOT / "scenarios/test-regulation-negotiation").rglob("*.yaml"):
        path = folder / source.relative_to(ROOT / "scenarios/test-regulation-negotiation")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read_bytes())
    (folder / name).write_text(json.dumps(value))
    load_scenario(folder)


def imports(drawn: tuple[str, dict[str, str]]) -> None:
    kind, files = drawn
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        for name, text in files.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        list(importer(kind).read(Path(folder), Notes()))


def databases(drawn: tuple[int, bytes]) -> None:
    """A sound run.db with bytes of it replaced."""
    place, change = drawn
    whole = FOLDER / "sound.db"
    if not whole.exists():
        study = {"family": "negotiation", "fixed": {"models": ["sim:skill=0.1", "sim:skill=0.9"]}}
        (FOLDER / "sound.yaml").write_text(json.dumps(study))
        api.run(FOLDER / "sound.yaml", api.Options(run_dir=FOLDER / "sound", fresh=True))
        with sqlite3.connect(FOLDER / "sound/run.db") as source:
            source.execute("PRAGMA journal_mode=DELETE")
        whole.write_bytes((FOLDER / "sound/run.db").read_bytes())
    data = bytearray(whole.read_bytes())
    place %= len(data)
    data[place : place + len(change)] = change
    folder = FOLDER / "damaged"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    (folder / "run.db").write_bytes(data)
    with RunView(folder) as run:
        assert run.tally.planned >= 0
        for record in run.records():
            list(run.events(record.number))


SCENARIO_FILES = st.sampled_from(
    [
        "scenario.yaml",
        "actors/regulator.yaml",
        "metrics.yaml",
        "events.yaml",
        "validation-rules.yaml",
    ]
)
TARGETS: dict[str, tuple[Callable[[Any], None], st.SearchStrategy[Any]]] = {
    "reader": (reader, files()),
    "offers": (offers, replies()),
    "ballots": (ballots, replies()),
    "plans": (plans, replies()),
    "forms": (forms, replies()),
    "scores": (scores, replies()),
    "scenarios": (scenarios, st.tuples(SCENARIO_FILES, VALUES)),
    "imports": (imports, recordings()),
    "databases": (
        databases,
        st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=200)),
    ),
}


# -- the search -------------------------------------------------------------------------------
def search(name: str, seconds: float) -> dict[str, str]:
    """Crash sites of a target: place -> the shortest input that got there."""
    target, strategy = TARGETS[name]
    found: dict[str, str] = {}
    deadline, tried = time.time() + seconds, 0

    def once(value: Any) -> None:
        nonlocal tried
        tried += 1
        try:
            target(value)
        except PeiraError:
            pass
        except Exception as error:  # noqa: BLE001 - the place is what we are after
            place, told = site(error), f"{str(error)[:100]} <- {value!r}"
            if place not in found or len(told) < len(found[place]):
                found[place] = told

    while time.time() < deadline:
        rules = settings(
            max_examples=100, deadline=None, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        test = rules(given(strategy)(once))
        test._hypothesis_internal_use_seed = random.getrandbits(64)  # a new hundred each time
        test()
    sys.stdout.write(f"{name}: {tried:,} inputs, {len(found)} crash sites\n")
    return found


def site(error: Exception) -> str:
    """Our innermost line on the way to an error."""
    ours = [f for f in traceback.extract_tb(error.__traceback__) if "/peira/" in f.filename]
    frame = ours[-1] if ours else traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} {frame.name}: {type(error).__name__}"


def guided(name: str, arguments: list[str]) -> int:
    """Coverage-guided: libFuzzer's bytes become hypothesis' choices."""
    if atheris is None:
        sys.stderr.write("atheris is not installed\n  remedy: pip install atheris\n")
        return 2
    target, strategy = TARGETS[name]

    @settings(database=None, deadline=None)
    @given(strategy)
    def once(value: Any) -> None:
        with contextlib.suppress(PeiraError):
            target(value)

    atheris.Setup([sys.argv[0], *arguments], once.hypothesis.fuzz_one_input)
    atheris.Fuzz()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="in all")
    parser.add_argument("--only", default="", help="targets, comma-separated")
    parser.add_argument("--atheris", choices=list(TARGETS), help="this target, coverage-guided")
    chosen, rest = parser.parse_known_args()
    if chosen.atheris:
        return guided(chosen.atheris, rest)
    names = chosen.only.split(",") if chosen.only else list(TARGETS)
    crashes = {name: search(name, chosen.seconds / len(names)) for name in names}
    for name, found in crashes.items():
        for place, told in found.items():
            sys.stdout.write(f"  {name}: {place}\n      {told[:300]}\n")
    return 1 if any(crashes.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
