"""`peira plan STUDY`: trials, calls, tokens and cost before spending; `--write-configs`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from peira.cli import flags

if TYPE_CHECKING:
    from peira import api


def command(
    study: flags.StudyArgument,
    free: flags.Free,
    output_dir: flags.OutputDir = None,
    write_configs: Annotated[bool, "Write configs/config_<i>.json, one a trial."] = False,
    json: flags.Json = False,
) -> int:
    """What a study would run and cost. Makes no call."""
    from peira import api
    from peira.cli.display import say

    question = api.ask(study)
    options = api.Options(run_dir=output_dir, simulated=free.simulated)
    show(question, options, json)
    if write_configs:
        written = configs(question, options)
        say(f"wrote {len(written)} files to {written[0].parent}" if written else "nothing to write")
    return 0


def show(question: api.Question, options: api.Options, json: bool) -> int:
    """Print the forecast of a study. Raises InputError where `peira run` would."""
    from peira.api.checks import check_plan
    from peira.cli.display import as_json, note, say, table
    from peira.store.forecast import forecast

    for line in question.unasked():
        note(line)
    check_plan(question, options)
    data = forecast(question, options)
    if json:
        as_json(data)
        return 0
    say(f"{data['name']}: {data['cells']} cells x {data['seeds']} seeds = {data['trials']} trials")
    if data["existing"]:
        say(f"  in {data['run_dir']}: {data['done']} done, {data['to_run']} to run")
    table(
        "per model, low / expected / high",
        ("model", "calls", "tokens in", "tokens out", "USD"),
        [[m["model"], *(_triple(m[k]) for k in ("calls", "tokens_in", "tokens_out")), _usd(m)]
         for m in data["models"]],
    )  # fmt: skip
    say(
        f"  total {_usd(data)}"
        + (f", budget ${data['budget_usd']:.2f}" if data["budget_usd"] else "")
    )
    for line in data["notes"]:
        say(f"  {line}")
    return 0


def _triple(values: tuple[float, float, float]) -> str:
    return " / ".join(f"{value:,.0f}" for value in values)


def _usd(row: dict[str, Any]) -> str:
    if row["usd"] is None:
        return "unknown price"
    low, expected, high = row["usd"]
    return "free" if high == 0 else f"${low:.2f} / ${expected:.2f} / ${high:.2f}"


def configs(question: api.Question, options: api.Options) -> list[Path]:
    """One config_<i>.json a trial, in the guide's fields where the family has them."""
    from peira.engine.plan import plan
    from peira.store.rundir import dumps, write_file

    run_dir = options.run_dir or question.run_dir(options.simulated).path
    written = []
    for cell, trial in plan(question.study, question.family, question.cells()):
        path = run_dir / "configs" / f"config_{trial.index}.json"
        folder = run_dir / question.family.folder / question.family.slug(cell.settings, trial)
        data = question.family.config(cell.settings, trial, str(folder))
        if "fixed" in data:  # a one-trial study; other forms name their family by their keys
            data["family"] = _portable(question)
        write_file(path, dumps(data))
        written.append(path)
    return written


def _portable(question: api.Question) -> str:
    """The family as another directory can name it."""
    return question.reference if question.reference.startswith("/") else question.study.family
