"""A command from a typed function: flags by typer, `_` accepted for `-`, usage errors as exit 2.

A function may carry `variadic = {"--models"}`: `--models A B` is then read as `--models A
--models B`, as the guides write it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer
from typer.core import TyperCommand
from typer.main import get_command

from peira.cli import flags
from peira.cli.examples import EXAMPLES

PANELS = ("Which trials", "Steps", "Provider jobs", flags.WORK, flags.FREE, flags.SHOW)
PLACEHOLDERS = {int: "N", float: "X", Path: "PATH"}


def _dashes(token: str) -> str:
    return token.replace("_", "-") if token.startswith("-") or token.isidentifier() else token


SETTINGS = {"help_option_names": ["-h", "--help"], "token_normalize_func": _dashes}


class Command(TyperCommand):
    """A command whose help reads: usage, what it does, its options by group, examples."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """`peira run [OPTIONS] STUDY`: what must be given stands without braces."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, the command's own options, then the groups that several commands share."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            if param.param_type_name == "argument":
                groups.setdefault("Arguments", []).append((str(param.metavar), record[1]))
            else:
                own = flags.SHOW if param.name == "help" else "Options"
                groups.setdefault(getattr(param, "rich_help_panel", None) or own, []).append(record)
        for title, rows in sorted(groups.items(), key=lambda group: _rank(group[0])):
            with formatter.section(title):
                formatter.write_dl(rows)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Command lines to copy."""
        with formatter.section("Examples"):
            for line in EXAMPLES[str(self.name)]:
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def _rank(title: str) -> int:
    order = ("Arguments", "Options", *PANELS)
    return order.index(title) if title in order else len(order)


def build(name: str, function: Callable[..., Any]) -> Command:
    """The parser of one command."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    settings = {**SETTINGS, **getattr(function, "context_settings", {})}
    app.command(name=name, cls=Command, context_settings=settings)(function)
    command = get_command(app)
    assert isinstance(command, Command)
    hints = get_type_hints(function)
    for param in command.params:
        if param.metavar is None and not getattr(param, "is_flag", False):
            name = str(param.name)
            argument = param.param_type_name == "argument"
            param.metavar = name.upper() if argument else _placeholder(hints.get(name))
    return command


def _placeholder(hint: Any) -> str:
    """What stands for an option's value: N for `int | None`, PATH for a Path, TEXT for words."""
    kinds = [hint, *get_args(hint), *(inner for part in get_args(hint) for inner in get_args(part))]
    return next((word for kind, word in PLACEHOLDERS.items() if kind in kinds), "TEXT")


def parse(name: str, function: Callable[..., Any], arguments: list[str]) -> dict[str, Any]:
    """What `arguments` mean to `function`, without calling it. Raises click's UsageError."""
    words = list(_repeated(arguments, getattr(function, "variadic", frozenset())))
    return build(name, function).make_context(f"peira {name}", words).params


def execute(name: str, function: Callable[..., Any], arguments: list[str]) -> int:
    """Parse `arguments` for `function`, call it, return the exit code it returns (None is 0)."""
    words = list(_repeated(arguments, getattr(function, "variadic", frozenset())))
    command = build(name, function)
    try:  # not by `main`, which makes a bug (exit code 1) of a reader that leaves early
        with command.make_context(f"peira {name}", words) as context:
            code = command.invoke(context)
    except typer.Exit as ending:
        return ending.exit_code
    except (typer.Abort, EOFError):
        return 130
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        sys.stderr.write(f"peira {name}: {error.format_message()}\n")
        sys.stderr.write(f"  remedy: peira {name} --help\n")
        return 2
    return code if isinstance(code, int) else 0


def _repeated(arguments: Iterable[str], variadic: frozenset[str]) -> Iterable[str]:
    """`--models A B --x` -> `--models A --models B --x`; a flag with nothing after it stays bare, so
    that its lack is said."""
    current, bare = "", False
    for word in arguments:
        if word.startswith("--"):
            if bare:
                yield current
            current = word if _dashes(word) in variadic else ""
            bare = bool(current)
            if not current:
                yield word
        elif current:
            bare = False
            yield from (current, word)
        else:
            yield word
    if bare:
        yield current
