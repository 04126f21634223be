"""What `peira evaluate` does: find the run, go through the phases, say how it ended.

Invariant: `--resume` never buys a row twice and never mixes runs; planning writes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from peira import api
from peira.cli.display import as_json, ending, note, remedy, report_dict, say, table, watcher
from peira.cli.evaluate import Evaluate
from peira.engine.plan import plan as planned_trials
from peira.errors import InputError, PeiraError
from peira.families.prompts import planning
from peira.families.prompts.family import Prompts
from peira.families.prompts.phases import ASKING, VIEWS
from peira.families.prompts.prepare import prepare, require_prepared
from peira.families.prompts.settings import PromptsSettings
from peira.families.prompts.slugs import decimal_label
from peira.store.collect import collect
from peira.store.records import RunView
from peira.store.rundir import RunDir, list_runs
from peira.study.dialects_eval import eval_config
from peira.study.reader import load_yaml

DEFAULT = Path("config/eval_config.yaml")
BUILT_IN = Path(planning.__file__).parent / "builtin" / "config" / "eval_config.yaml"
FAMILY = "peira.families.prompts:Prompts"
ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


class Evaluation:
    """A command line on its way through the phases."""

    def __init__(self, request: Evaluate) -> None:
        self.request = request
        self.changes = request.changes
        self.choice = request.choice
        self.phases = self.choice.phases
        self.family = Prompts(self.phases & VIEWS)
        self.question = self._question()
        first = self.question.study
        paths = first.fixed.get("paths") or {}
        self.experiments = request.experiments_dir or Path(
            paths.get("experiments_dir", "experiments")
        )

    def _question(self) -> api.Question:
        config = self.request.config
        if config == DEFAULT and not config.exists() and self.request.simulated:
            note("no config/eval_config.yaml here: the built-in one, with the sample items")
            config = BUILT_IN
        data, source = load_yaml(config)
        if not isinstance(data, dict):
            raise InputError(f"{config}: not a config\n  allowed: a mapping with `prompt_sets`, …")
        study, lines = eval_config(data, config, source, self.changes)
        return api.Question(study, lines, FAMILY, self.family, config.resolve().parent)

    # -- phases -----------------------------------------------------------------------------
    def run(self) -> int:
        """All chosen phases. Returns the exit code."""
        self._prepare()
        target = self._target()
        if self.phases & ASKING:
            return self._ask(target)
        if "build" in self.phases:
            return self._build(target)
        return self._project(target)

    def _prepare(self) -> None:
        plan = _first_settings(self.question).data_plan
        if "prepare" in self.choice.skipped:
            require_prepared(plan)
        elif "prepare" in self.phases:
            loaded = prepare(plan)
            if self.choice.only == "prepare":
                say(f"{len(loaded.items)} items ready, {loaded.merged} duplicates merged")

    def _ask(self, target: RunDir) -> int:
        request = self.request
        options = api.Options(
            run_dir=target.path, parallel=request.parallel, budget_usd=request.budget,
            executor=request.executor, retry_failed=target.exists, simulated=request.simulated,
            on_start=watcher(request.json),
        )  # fmt: skip
        report = api.run(self.question, options)
        if "build" in self.phases:
            planning.write_inputs(self.question, target.path, request.simulated)
        if request.json:
            as_json(report_dict(report))
        else:
            ending(report)
        partial = self._selection_finished(report)
        if "report" in self.phases and report.tally.done:
            from peira.cli.finish import finish

            finish(target.path, quiet=request.json)
        code = 0 if partial or self._detached(report) else report.exit_code
        self._say_what_lacks(report, partial, code)
        if code == 0 and request.archive and not self._detached(report):
            self._archive(target, partial)
        return code

    def _selection_finished(self, report: api.RunReport) -> bool:
        """True if all rows selected by --condition are there, and the rest was not asked for."""
        chosen = self.question.study.fixed.get("condition", "both")
        selected = chosen not in ("both", "all")
        tally = report.tally
        return selected and not (tally.done == tally.planned or tally.failed or tally.halted or report.message) and (
            tally.done + tally.pending == tally.planned
        )  # fmt: skip

    def _detached(self, report: api.RunReport) -> bool:
        """True if all there is left to do is the provider's: its jobs go on without us."""
        asked = dict(self.changes.batch).get("detach", False)
        return bool(asked) and set(report.causes) == {"stopped"} and not report.tally.failed

    def _say_what_lacks(self, report: api.RunReport, partial: bool, code: int) -> None:
        if self.request.json:
            return
        if partial:
            with RunView(report.path) as run:
                for record in run.records():
                    if not record.done:
                        say(f"  {record.slug}: pending, {record.message}")
            say("  the selected rows are complete; nothing is compared until all arms are there")
        elif code:
            same = f"the same command with --run-id {report.path.name.removeprefix('run_')}"
            note(remedy(report, f"{same} asks for what is missing alone", same))
        made = [report.path / name for name in ("aggregate_report.md", "report.html")]
        if shown := [str(path) for path in made if path.exists()]:
            say(f"  look: {', '.join(shown)}")

    def _build(self, target: RunDir) -> int:
        """The planned rows, and in batch mode the input files; no call is made."""
        written = planning.write_inputs(self.question, target.path, self.request.simulated)
        for path, lines in written:
            say(f"{path}: {lines} rows")
        if not written:
            rows = sum(planning.rows_of(cell.settings) for cell in self.question.cells())
            say(f"{rows} rows planned; input files are written in batch mode only")
        return 0

    def _project(self, target: RunDir) -> int:
        """Files of finished phases, made again from run.db."""
        if self.phases <= {"prepare"}:
            return 0
        if not target.exists:
            raise InputError(f"{target.path}: no run here\n  remedy: --run-id NAME, or --resume")
        with RunView(target) as run:
            collect(run, self.family)
            tally = run.tally
        if "report" in self.phases and tally.done:
            from peira.cli.finish import finish

            finish(target.path, quiet=self.request.json)
        say(f"{target.path}: {tally}")
        return tally.exit_code(set())

    # -- the run ------------------------------------------------------------------------------
    def _target(self) -> RunDir:
        request = self.request
        if request.run_id is not None:
            return self._named(request.run_id)
        derived = not self.phases & ASKING and "build" not in self.phases
        if request.resume or derived:
            found = self._newest()
            if found is not None:
                note(f"going on with {found.path}")
                return found
            if derived:
                return RunDir(self.experiments / "run_")
        target = RunDir(self.experiments / f"run_{self._fresh_id()}")
        if request.resume:
            note(f"no run holds these trials: starting {target.path}")
        return target

    def _named(self, text: str) -> RunDir:
        import re

        path = Path(text)
        if len(path.parts) > 1:
            return RunDir(path)
        name = text.removeprefix("run_")
        if not re.fullmatch(ID, name):
            raise InputError(
                f"--run-id {text}\n  allowed: 1 to 64 letters, digits, dots, `_` and `-`,"
                " beginning with a letter or digit"
            )
        return RunDir(self.experiments / f"run_{name}")

    def _fresh_id(self) -> str:
        stamp = "r" + time.strftime("%Y%m%d%H%M%S", time.gmtime())
        taken = (stamp, *(f"{stamp}-{k}" for k in range(2, 1000)))
        return next(name for name in taken if not (self.experiments / f"run_{name}").exists())

    def _newest(self) -> RunDir | None:
        """The newest run that holds one of these trials, simulated or real as asked."""
        if not self.experiments.is_dir():
            return None
        wanted = set(self.trial_ids)
        for run in list_runs(self.experiments):
            if run.path.parent == self.experiments and self._holds(run, wanted):
                return run
        return None

    def _holds(self, run: RunDir, wanted: set[str]) -> bool:
        if (run.path / "archive_manifest.json").exists():
            return False
        try:
            with RunView(run) as view:
                ids = {row[0] for row in view.query("SELECT id FROM trials")}
                return bool(ids & wanted) and view.meta.get("simulated") == self.request.simulated
        except PeiraError:
            return False

    @cached_property
    def trial_ids(self) -> list[str]:
        question = self.question
        trials = planned_trials(question.study, self.family, question.cells())
        return [trial.id for _, trial in trials]

    def _archive(self, target: RunDir, partial: bool) -> None:
        from peira.store.archive import seal

        temps = {t for cell in self.question.cells() for t in cell.settings.temps}
        labels = "-".join(decimal_label(t) for t in sorted(temps))
        name = f"t{labels}_{target.path.name.removeprefix('run_')}"
        sealed = seal(target, self.experiments / name, allow_incomplete=partial)
        say(f"  {sealed.describe()}")

    # -- planning -----------------------------------------------------------------------------
    def plan(self) -> int:
        """What would be run and cost; writes nothing."""
        target = self._target_if_any()
        data = planning.plan(self.question, target, self.request.simulated)
        if self.request.json:
            as_json(data)
            return 0
        for line in _planned_lines(data):
            say(line)
        method = data["arms"][0]["token_method"]
        table(f"arms (tokens by {method})", ("prompt set", "arm", "file", "SHA-256", "tokens", "length / control"),
              [[a[k] for k in ("prompt_set", "arm", "path", "sha", "tokens", "ratio")]
               for a in data["arms"]])  # fmt: skip
        return 0

    def _target_if_any(self) -> RunDir | None:
        if self.request.run_id is not None:
            return self._named(self.request.run_id)
        return self._newest() if self.request.resume else None


def _first_settings(question: api.Question) -> PromptsSettings:
    """Settings of the first cell; a cell's identity needs the items, so `prepare` comes first."""
    from pydantic import ValidationError

    from peira.study.grid import cells

    try:
        return PromptsSettings.model_validate(next(cells(question.study)).settings)
    except ValidationError:
        question.cells()  # says the same with lines and remedies
        raise


def _planned_lines(data: dict[str, Any]) -> Iterator[str]:
    trials = len(data["trials"])
    yield (
        f"{trials} trial{'s' if trials > 1 else ''}, {data['rows']:,} rows,"
        f" {data['paid']:,} already paid for"
    )
    for trial in data["trials"]:
        yield f"  {trial['slug']}: {trial['rows']:,} rows, {trial['items']:,} items"
    yield f"  distinct requests: {data['requests']:,}"
    low, expected, high = data["tokens_in"]
    yield f"  tokens in {low:,.0f} / {expected:,.0f} / {high:,.0f} (low, expected, high)"
    usd = data["usd"]
    if usd is None:
        yield f"  cost unknown: {data['note']}"
    elif usd[2] == 0:
        yield "  free"
    else:
        yield f"  ${usd[0]:.4f} / ${usd[1]:.4f} / ${usd[2]:.4f}"
    for kind, effect in data["detectable"].items():
        yield (
            f"  {kind}: {effect['n']:,} items find differences from {effect['low']:.3f} (10 % of"
            f" items change) to {effect['high']:.3f} (30 % change), power {effect['power']:.0%}"
        )
