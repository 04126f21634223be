"""A command from a typed function: flags by typer, `_` accepted for `-`, usage errors as exit 2.

A function may carry `variadic = {"--models"}`: `--models A B` is then read as `--models A
--models B`, as the guides write it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

import typer
from typer.main import get_command


def _dashes(token: str) -> str:
    return token.replace("_", "-") if token.startswith("-") or token.isidentifier() else token


SETTINGS = {"help_option_names": ["-h", "--help"], "token_normalize_func": _dashes}


def execute(name: str, function: Callable[..., Any], arguments: list[str]) -> int:
    """Parse `arguments` for `function`, call it, return the exit code it returns (None is 0)."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    settings = {**SETTINGS, **getattr(function, "context_settings", {})}
    app.command(name=name, context_settings=settings)(function)
    words = list(_repeated(arguments, getattr(function, "variadic", frozenset())))
    try:
        code = get_command(app).main(words, prog_name=f"peira {name}", standalone_mode=False)
    except typer.Exit as ending:
        return ending.exit_code
    except typer.Abort:
        return 130
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        sys.stderr.write(f"peira {name}: {error.format_message()}\n")
        sys.stderr.write(f"  remedy: peira {name} --help\n")
        return 2
    return code if isinstance(code, int) else 0


def _repeated(arguments: Iterable[str], variadic: frozenset[str]) -> Iterable[str]:
    """`--models A B --x` -> `--models A --models B --x`."""
    current = ""
    for word in arguments:
        if word.startswith("--"):
            current = word if _dashes(word) in variadic else ""
            if not current:
                yield word
        elif current:
            yield from (current, word)
        else:
            yield word
