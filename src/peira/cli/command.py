"""A command from a typed function: flags by typer, `_` accepted for `-`, usage errors as exit 2.

`spread` turns what `flags` describes into typer's own form. A function may carry
`variadic = {"--models"}`: `--models A B` is then read as `--models A --models B`, as the guides
write it.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

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


def spread(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as typer reads it: a parameter that is a dataclass stands for its fields, and a
    string beside a type is the help of a flag of that name."""
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {
        name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind)
    }
    found: list[tuple[str, Any, Any]] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in groups:
            inner = get_type_hints(groups[name], include_extras=True)
            found += [(f.name, inner[f.name], f.default) for f in dataclasses.fields(groups[name])]
        else:
            found.append((name, hints[name], parameter.default))

    @functools.wraps(function)
    def call(**given: Any) -> Any:
        for name, kind in groups.items():
            given[name] = kind(**{f.name: given.pop(f.name) for f in dataclasses.fields(kind)})
        return function(**given)

    call.__signature__ = inspect.Signature([  # type: ignore[attr-defined]
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=_flag(name, hint),
                          default=inspect.Parameter.empty if default in MISSING else default)
        for name, hint, default in found
    ])  # fmt: skip
    return call


MISSING = (inspect.Parameter.empty, dataclasses.MISSING)


def _flag(name: str, hint: Any) -> Any:
    """`Annotated[kind, "help", "panel"]` in typer's words."""
    about = getattr(hint, "__metadata__", ())
    if not about or not isinstance(about[0], str):
        return hint
    words, panel = (*about, None)[:2]
    flag = f"--{_dashes(name.strip('_'))}"
    return Annotated[hint.__origin__, typer.Option(flag, help=words, rich_help_panel=panel)]


def build(name: str, function: Callable[..., Any]) -> Command:
    """The parser of one command."""
    flat = spread(function)
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    settings = {**SETTINGS, **getattr(function, "context_settings", {})}
    app.command(name=name, cls=Command, context_settings=settings)(flat)
    command = get_command(app)
    assert isinstance(command, Command)
    kinds = {p.name: p.annotation for p in inspect.signature(flat).parameters.values()}
    for param in command.params:
        if param.metavar is None and not getattr(param, "is_flag", False):
            name = str(param.name)
            argument = param.param_type_name == "argument"
            kind: Any = kinds.get(name)
            kind = kind.__origin__ if hasattr(kind, "__metadata__") else kind
            param.metavar = name.upper() if argument else _placeholder(kind)
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
