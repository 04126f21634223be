"""`peira plot RUN [FIGURE…]`: the figures of a run, as PNG and SVG, or one as a page to zoom into."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peira.cli import flags

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMS = ("png", "svg", "html")


def command(
    run: flags.RunArgument,
    figures: Annotated[list[str] | None, typer.Argument(help="Names, or all (default).")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="FILE.png, .svg or .html (to zoom into) for one figure, or a folder.",
        ),
    ] = None,
    list_names: Annotated[bool, typer.Option("--list", help="Name the figures only.")] = False,
    json: flags.Json = False,
) -> int:
    """Draw figures of a run; by default all of them, into the run's figures/."""
    from peira.cli.display import as_json, say
    from peira.families import load_family
    from peira.report.tables import harmless
    from peira.store.records import RunView
    from peira.store.rundir import find_run

    with RunView(find_run(run)) as view:
        family = load_family(view.family)
        makers = family.figures(view)
        if list_names:
            as_json(list(makers)) if json else say(harmless("\n".join(makers)))
            return 0
        groups = getattr(family, "figure_groups", {})
        wanted = [part for name in figures or [] for part in groups.get(name, (name,))]
        chosen = choose(makers, wanted)
        if output is None:
            view.dir.refuse_sealed()
        written = _save(chosen, output, view.path / "figures")
    as_json([str(path) for path in written]) if json else say("\n".join(map(str, written)))
    return 0


def choose(
    makers: Mapping[str, Callable[[], Figure]], names: list[str]
) -> dict[str, Callable[[], Figure]]:
    """The figures asked for. Raises InputError naming those there are."""
    import difflib

    from peira.errors import InputError
    from peira.report.tables import harmless

    if not names or names == ["all"]:
        return dict(makers)
    for name in names:
        if name not in makers:
            near = difflib.get_close_matches(name, makers, n=1)
            hint = f"did you mean {near[0]}?" if near else "name one of these, or all"
            known = harmless(", ".join(makers)) or "none: this run has no figures"
            raise InputError(f"figure {name}: unknown\n  allowed: {known}\n  remedy: {hint}")
    return {name: makers[name] for name in names}


def _save(
    chosen: Mapping[str, Callable[[], Figure]], output: Path | None, default: Path
) -> list[Path]:
    from peira.report.figures import draw, save
    from peira.report.tables import file_stem
    from peira.store.rundir import write_file

    if output is None or not output.suffix:
        folder = output or default
        return [
            path for name, make in chosen.items() for path in save(make(), folder / file_stem(name))
        ]
    form = _form(output, len(chosen))
    name, make = next(iter(chosen.items()))
    if form == "html":
        from peira.report.interactive import page

        write_file(output, page(make(), name))
    else:
        write_file(output, draw(make(), form))  # type: ignore[arg-type]
    return [output]


def _form(output: Path, count: int) -> str:
    from peira.errors import InputError

    form = output.suffix.lstrip(".").lower()
    if form not in FORMS:
        raise InputError(
            f"--output {output}: unknown kind of file\n  allowed: .png, .svg, .html, or a folder"
        )
    if count != 1:
        raise InputError(f"--output {output}: one file, but {count} figures\n  remedy: name one figure,"
                         " or give a folder")  # fmt: skip
    return form
