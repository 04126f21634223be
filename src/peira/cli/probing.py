"""What `peira probe` does: flags into a study, checks before the run, resume, scripts.

Invariant: what is wrong with the input is said before a run directory exists; a resumed run goes on
with its own settings, and a flag that would change a number is refused, named.
"""

from __future__ import annotations

import logging
import runpy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import ValidationError

from peira.errors import InputError
from peira.families.representations import catalogue, loading, tiny
from peira.families.representations.settings import RepresentationSettings

if TYPE_CHECKING:
    from peira.cli.probe import Probe
    from peira.study.study import Study

DIRECT = ("model", "n_contexts", "layers", "dtype", "device", "batch_size", "batch_tokens",
          "token_budget", "lengths", "graph", "graphs", "branching", "walk", "vocabulary",
          "assignment", "bos", "mode", "steer")  # fmt: skip
LONG = 600.0  # seconds of forecast beyond which the background lines are printed
SEED = 42


@dataclass(frozen=True)
class Asked:
    """A probe as asked for on the command line: `fixed` is what its flags say of the settings."""

    experiment: str
    fixed: dict[str, Any]
    told: Probe
    resume: Path | None = None

    @classmethod
    def of(cls, experiment: str, told: Probe, words: Sequence[str]) -> Asked:
        """From the flags given; `words` are what optional values left over."""
        entry, given = catalogue.find(experiment), told.given
        fixed: dict[str, Any] = {k: given[k] for k in DIRECT if k in given}
        left = list(words)
        if told.save_activations:
            fixed["save_activations"] = next((w for w in left if w in ("means", "tokens")), "means")
            left = [w for w in left if w not in ("means", "tokens")]
        path = Path(left.pop(0)) if told.resume and left else None
        if left:
            raise InputError(f"{left[0]}: unknown argument\n  remedy: peira probe --help")
        if told.window is not None:
            fixed["window"] = _window(told.window)
        if told.null is not None:
            fixed["null"] = [w for w in told.null.split(",") if w]
        if told.checkpoints:
            fixed["checkpoints"] = list(told.checkpoints)
        if told.resume and path is None:
            path = told.output_dir or Path("results") / entry.name
        return cls(entry.name, fixed, told, path)


def _window(text: str) -> int:
    if text == "all":
        return 0
    if not text.isdigit() or int(text) < 1:
        raise InputError(f"--window: {text}\n  allowed: a number of words, or all")
    return int(text)


# -- the study ------------------------------------------------------------------------------------


def study_of(asked: Asked) -> Study:
    """A new study: one condition each of the experiment's, one seed."""
    from peira.study.study import Study

    entry = catalogue.find(asked.experiment)
    given = str(
        asked.fixed.get("model") or ("" if asked.told.simulated else loading.default_model())
    )
    model = "sim:mixer" if asked.told.simulated and not given.startswith("sim:") else given
    fixed = {**asked.fixed, "experiment": entry.name, "model": model}
    conditions = tuple(asked.told.condition or ()) or (
        () if asked.fixed.get("graph") else entry.conditions
    )
    factors: dict[str, list[Any]] = {}
    if len(conditions) == 1:
        fixed["condition"] = conditions[0]
    elif conditions:
        factors["condition"] = list(conditions)
    seed = SEED if asked.told.seed is None else asked.told.seed
    normal = settings_of({**fixed, **({"condition": conditions[0]} if conditions else {})})
    stored = normal.model_dump(mode="json", exclude_defaults=True, exclude={"condition"})
    if "condition" in fixed:
        stored["condition"] = fixed["condition"]
    return Study(
        family="representations", name=entry.name, fixed=stored, factors=factors, seeds=[seed]
    )


def settings_of(fixed: Mapping[str, Any]) -> RepresentationSettings:
    """Validated settings; InputError naming each flag that is wrong."""
    try:
        return RepresentationSettings.model_validate(dict(fixed))
    except ValidationError as error:
        lines = []
        for fault in error.errors():
            where = ".".join(str(x) for x in fault["loc"][:1])
            flag = f"--{where.replace('_', '-')}: {fixed.get(where)}\n  allowed: " if where else ""
            told = fault["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
            lines.append(f"{flag}{told}")
        raise InputError("\n".join(dict.fromkeys(lines))) from error


def resumed_study(asked: Asked, run_dir: Path) -> Study:
    """The run's own study with the flags given laid over it."""
    from peira.store.records import RunView

    with RunView(run_dir) as run:
        before = run.study
    if before.fixed.get("experiment") != asked.experiment:
        raise InputError(
            f"{run_dir}: a run of {before.fixed.get('experiment')}, not {asked.experiment}"
        )
    if asked.told.seed is not None and [asked.told.seed] != before.trial_seeds:
        raise InputError(f"seed: {asked.told.seed}, but this run was begun with {before.trial_seeds[0]}\n"
                         "  remedy: another --output-dir, or --fresh")  # fmt: skip
    condition = before.factors.get("condition", [before.fixed.get("condition", "")])[0]
    normal = settings_of({**before.fixed, **asked.fixed, "condition": condition})
    fixed = normal.model_dump(mode="json", exclude_defaults=True, exclude={"condition"})
    if "condition" in before.fixed:
        fixed["condition"] = before.fixed["condition"]
    return before.model_copy(update={"fixed": fixed})


def place_of(resume: Path) -> Path:
    """The run directory that `--resume PATH` means. InputError for a foreign or broken checkpoint."""
    from peira.families.representations.files import settings_hash
    from peira.store.records import RunView

    run_dir = resume if resume.is_dir() else resume.parent
    if not (run_dir / "run.db").is_file():
        raise InputError(
            f"--resume: {resume}: no run here (no run.db)\n  remedy: run without --resume"
        )
    if resume.is_dir():
        return run_dir
    try:
        checkpoint = orjson.loads(resume.read_bytes())
        told = checkpoint["settings_hash"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"--resume: {resume}: not a checkpoint, or cut short\n"
                         f"  remedy: --resume {run_dir}") from error  # fmt: skip
    with RunView(run_dir) as run:
        known = {settings_hash(record.settings) for record in run.records()}
    if told not in known:
        raise InputError(f"--resume: {resume}: of another run (its settings differ)\n"
                         f"  remedy: --resume {run_dir}")  # fmt: skip
    return run_dir


# -- running --------------------------------------------------------------------------------------


def probe(asked: Asked) -> int:
    """Run, or go on; then analysis, figures, report, and tracking where asked."""
    from peira import api
    from peira.cli.display import note, watcher
    from peira.cli.plan import show
    from peira.cli.run import execute

    told = asked.told
    if told.verbose:
        logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stderr)
        logging.getLogger("peira").setLevel(logging.DEBUG)
    run_dir = place_of(asked.resume) if asked.resume else None
    target = run_dir or told.output_dir or Path("results") / asked.experiment
    going_on = (target / "run.db").is_file() and not told.fresh
    study = resumed_study(asked, target) if going_on and run_dir else study_of(asked)
    question = api.ask(study)
    if not told.dry_run:
        loading.check_there(study.fixed["model"])
    note(model_line(study.fixed["model"], "model" in asked.fixed or run_dir is not None))
    options = api.Options(run_dir=target, fresh=told.fresh, simulated=told.simulated,
                          on_start=watcher(told.json))  # fmt: skip
    if told.dry_run:
        return show(question, options, told.json)
    if going_on:
        check_same(target, question)
    long_lines(preflight(question), sys.argv)
    from peira.families.representations.extending import keeper

    with keeper(target):
        code = execute(question, options, told.json)
    if told.wandb:
        from peira.families.representations.tracking import log_run

        note(log_run(target, told.wandb))
    return code


def check_same(run_dir: Path, question: Any) -> None:
    """Refuse settings that differ from those the run was begun with, before a model is loaded."""
    from peira.store.records import RunView

    with RunView(run_dir) as run:
        before = run.study
    question.family.check_change(before, question.study)
    if before.trial_seeds != question.study.trial_seeds:
        raise InputError(f"seed: {question.study.trial_seeds[0]}, but this run was begun with"
                         f" {before.trial_seeds[0]}\n  remedy: another --output-dir, or --fresh")  # fmt: skip


def model_line(name: str, chosen: bool) -> str:
    """Which model is used, and why, in plain words."""
    if name == tiny.NAME:
        why = "" if chosen else f" ({loading.DEFAULT} is not in the local cache)"
        return f"model: {name}{why}: a tiny embedded model, trained on graph walks only"
    kind = "simulated: no model at all" if name.startswith("sim:") else "a model in this process"
    return f"model: {name}: {kind}"


def preflight(question: Any) -> list[Any]:
    """Resolve every cell: models, layers, graphs and words are checked before anything is written."""
    from peira.families.representations.trial import resolve

    specs = []
    for cell in question.cells():
        name = cell.settings.model
        seed = question.study.trial_seeds[0]
        made = resolve(cell.settings, seed, name if name.startswith("sim:") else None)
        made.draw(0)
        specs.append(made)
    return specs


def long_lines(specs: Sequence[Any], words: Sequence[str]) -> None:
    """For more than ten minutes of work, how to run it in the background."""
    model = specs[0].model
    tokens = sum(s.settings.n_contexts * s.length * s.entry.rows(s.length) for s in specs)
    speed = 2e14 if str(model.device).startswith("cuda") else 2e10
    seconds = 2.0 * model.num_parameters * tokens / speed
    if seconds < LONG:
        return
    line = "peira " + " ".join(words[1:])
    sys.stderr.write(
        f"about {seconds / 60:,.0f} minutes; in the background:\n"
        f"  nohup {line} > experiment.log 2>&1 &\n  tmux new -d '{line}'\n"
    )


# -- a user's own script --------------------------------------------------------------------------


def is_script(name: str) -> bool:
    """True for an existing FILE.py that is none of the guide's scripts."""
    path = Path(name)
    return path.suffix == ".py" and path.stem not in catalogue.BY_SCRIPT


def as_words(given: Mapping[str, Any], words: Sequence[str]) -> list[str]:
    """The flags given, as a script would read them."""
    out: list[str] = []
    for name, value in given.items():
        if name in ("experiment", "context"):
            continue
        flag = f"--{name.replace('_', '-')}"
        for one in value if isinstance(value, (list, tuple)) else [value]:
            out += [flag] if one is True else [flag, str(one)]
    return [*out, *words]


def run_script(path: Path, words: list[str]) -> int:
    """Run a script; `src.data`, `src.models`, `src.metrics` are Peira unless a real `src` exists."""
    from peira.families.representations.workspace import provide_src

    if not path.is_file():
        raise InputError(
            f"{path}: no such script\n  allowed: {', '.join(catalogue.BY_NAME)}, FILE.py"
        )
    before = sys.argv
    sys.argv = [str(path), *words]
    try:
        with provide_src(path.resolve().parent):
            runpy.run_path(str(path), run_name="__main__")
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else int(bool(ending.code))
    finally:
        sys.argv = before
    return 0
