"""The command `peira`: finds the sub-command, runs it, turns errors into messages and exit codes.

Only the sub-command asked for is imported, and top-level help imports nothing, so that `--help`
answers at once. Exit codes: 0 all done, 2 bad input, 3 finished with failures or stopped by a
provider, 4 stopped by a budget or cost limit, 130 interrupted, 1 a bug.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

# name: (module, what it does); grouped for the help text.
COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Run a study": {
        "run": ("run", "run a study file, or go on with it: the same command"),
        "plan": ("plan", "trials, calls, tokens and cost of a study, before spending"),
        "power": ("power", "how many units a study needs, and what it can detect"),
        "negotiate": ("negotiate", "negotiations between models, in one line"),
        "evaluate": ("evaluate", "system prompts compared on the same items"),
        "simulate": ("simulate", "one scenario, played by models"),
        "probe": ("probe", "how context reshapes an open model's geometry"),
    },
    "Look at it": {
        "status": ("status", "counts, failures and progress of a run"),
        "list": ("list", "all runs below a directory"),
        "show": ("show", "a run's trials, or one trial's transcript"),
        "analyse": ("analyse", "tables and findings, with intervals"),
        "report": ("report", "report.md and report.html"),
        "plot": ("plot", "the figures of a run"),
        "view": ("view", "runs in the browser"),
        "compare": ("compare", "runs side by side: settings, paired differences, costs"),
    },
    "Keep it": {
        "collect": ("collect", "rebuild every file of a run from run.db"),
        "export": ("export", "trials, events or replies as CSV or Parquet"),
        "archive": ("archive", "seal a copy of a run"),
        "clean": ("clean", "empty the working paths, into a trash folder"),
        "fork": ("fork", "go on from any turn with another subject or world"),
        "replay": ("replay", "re-run a finished run offline, from its ledger"),
        "import": ("import_", "results recorded by other tools"),
    },
    "Set up": {
        "models": ("models", "the registry of models: list and filter"),
        "doctor": ("doctor", "check keys, endpoints and versions"),
        "new": ("new", "a template: study, experiment, scenario, workspace"),
    },
}
ALIASES = {"analyze": "analyse", "ls": "list"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script; exits with the command's code."""
    raise SystemExit(run(list(sys.argv[1:] if arguments is None else arguments)))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code: 0 if whoever reads its output leaves early."""
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    arguments = [word for word in arguments if word != "--debug"]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        return _help(arguments[1:])
    if arguments[0] in ("-V", "--version"):
        from peira import __version__

        sys.stdout.write(f"peira {__version__}\n")
        return 0
    name = ALIASES.get(arguments[0], arguments[0])
    module = {n: m for group in COMMANDS.values() for n, (m, _) in group.items()}.get(name)
    if module is None:
        return _unknown(arguments[0])
    return _invoke(name, module, arguments[1:], debug)


def _help(rest: list[str]) -> int:
    if rest:
        return _run([rest[0], "--help"])
    lines = ["usage: peira COMMAND [options]      peira COMMAND --help", ""]
    lines.append("A laboratory for experiments on language models.")
    for title, commands in COMMANDS.items():
        lines += ["", f"{title}:"]
        lines += [f"  {name:<10} {summary}" for name, (_, summary) in commands.items()]
    lines += ["", "Everywhere: --json for machines, --debug for our tracebacks, --version."]
    lines += ["", "Start: peira run studies/negotiation/quickstart.yaml (simulated, free)", ""]
    sys.stdout.write("\n".join(lines))
    return 0


def _unknown(word: str) -> int:
    import difflib

    names = [name for group in COMMANDS.values() for name in group]
    near = difflib.get_close_matches(word, names, n=1)
    hint = f"did you mean `peira {near[0]}`?" if near else "peira --help lists the commands"
    sys.stderr.write(f"peira: unknown command {word!r}\n  remedy: {hint}\n")
    return 2


def _invoke(name: str, module: str, arguments: list[str], debug: bool) -> int:
    from peira.errors import EXIT_INPUT, PeiraError

    try:
        from importlib import import_module

        from peira.cli.command import execute

        return execute(name, import_module(f"peira.cli.{module}").command, arguments)
    except PeiraError as error:
        if debug:
            raise
        from peira.cli.display import note

        note(f"peira {name}: {error}")
        return error.exit_code
    except OSError as error:
        if debug or error.filename is None:
            raise
        sys.stderr.write(f"peira {name}: {error.filename}: {error.strerror}\n")
        sys.stderr.write("  remedy: check the path and its permissions\n")
        return EXIT_INPUT
    except KeyboardInterrupt:
        sys.stderr.write(f"peira {name}: interrupted\n")
        return 130


if __name__ == "__main__":
    main()
