"""What a run already shows: its figures, its report, its study."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from peira.families import load_family
from peira.store.collect import study_yaml
from peira.store.records import RunView
from peira.web.guard import POLICY
from peira.web.house import stamp
from peira.web.page import Memo, answer, opened
from peira.web.queries import ships
from peira.web.run import frame

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = {"png": "image/png", "svg": "image/svg+xml", "json": "application/json"}
DRAWING = threading.Lock()  # matplotlib's settings are global: one figure at a time
# A file of the run directory may come from anywhere: it is shown as a picture or as plain pages.
SEALED = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'"

# plotly places its words by style attributes; style sheets and scripts stay our own.
PLOTTED = f"{POLICY}; style-src-attr 'unsafe-inline'"


def figures(request: Request) -> HTMLResponse:
    """All figures of a run."""
    from peira.report.interactive import style_ids

    key, view = opened(request)
    with view:
        drawn, saved = makers(view), saved_names(view.path)
        names = list(dict.fromkeys([*drawn, *saved]))
        context = frame(key, view) | {"names": names, "live_names": set(drawn),
                                      "style_ids": style_ids() if drawn else (),
                                      "mark": hash(stamp(view.path)) & 0xFFFFFFFF}  # fmt: skip
    page = answer(request, "figures.html", **context)
    if drawn:
        page.headers["Content-Security-Policy"] = PLOTTED
    return page


def figure(request: Request) -> Response:
    """One figure as PNG, SVG or what plotly draws from, drawn from run.db, or as it was saved."""
    form, name = request.query_params.get("form", "svg"), request.query_params.get("name", "")
    if form not in KINDS:
        raise HTTPException(404)
    key, view = opened(request)
    memo: Memo = request.app.state.memo
    with view:
        data = memo.get(
            (key, "figure", name, form), stamp(view.path), lambda: _drawn(view, name, form)
        )
    if data is None:
        raise HTTPException(404)
    headers = {"Content-Security-Policy": SEALED}
    if "save" in request.query_params:
        headers["Content-Disposition"] = f'attachment; filename="figure.{form}"'
    return Response(data, media_type=KINDS[form], headers=headers)


def makers(view: RunView) -> Mapping[str, Callable[[], Figure]]:
    """Figures that can be drawn here: only of families that ship with Peira."""
    return load_family(view.family).figures(view) if ships(view) else {}


def saved_names(folder: Path) -> list[str]:
    """Names of the figures that a run has saved."""
    return sorted(path.stem for path in (folder / "figures").glob("*.png"))


def plotly(request: Request) -> Response:
    """plotly's script; the same file as long as the package is not changed."""
    from peira.report.interactive import script

    return FileResponse(script(), media_type="text/javascript",
                        headers={"Cache-Control": "private, max-age=86400"})  # fmt: skip


def _drawn(view: RunView, name: str, form: str) -> bytes | None:
    from peira.report.figures import draw
    from peira.report.interactive import told

    if form == "json":
        with DRAWING:
            make = makers(view).get(name)
            return (
                None
                if make is None
                else orjson.dumps(told(make()), option=orjson.OPT_SERIALIZE_NUMPY)
            )
    known = name in saved_names(view.path)
    if known and _is_newer(view.path / "figures" / f"{name}.{form}", view.path):
        return _inside(view.path, f"figures/{name}.{form}")
    with DRAWING:
        make = makers(view).get(name)
        if make is not None:
            return draw(make(), form)  # type: ignore[arg-type]
    return _inside(view.path, f"figures/{name}.{form}") if known else None


def _is_newer(file: Path, folder: Path) -> bool:
    """True if a saved figure was drawn after the last change of its run."""
    changed = stamp(folder)
    return file.is_file() and file.stat().st_mtime_ns >= max(changed[0], changed[2])


def _inside(folder: Path, name: str) -> bytes | None:
    """A file of the run, unless a link leads out of it."""
    path = (folder / name).resolve()
    return path.read_bytes() if path.is_file() and path.is_relative_to(folder.resolve()) else None


def report(request: Request) -> Response:
    """report.html as written by `peira report`, without scripts."""
    _, view = opened(request)
    with view:
        data = _inside(view.path, "report.html")
    if data is None:
        raise HTTPException(404)
    headers = {"Content-Security-Policy": SEALED}
    return Response(data, media_type="text/html", headers=headers)


def study(request: Request) -> HTMLResponse:
    """The study as run, and what reproducing needs."""
    key, view = opened(request)
    with view:
        manifest = dict(view.meta.get("manifest", {}))
        text = study_yaml(view).decode()
        facts = {name: manifest.get(name) for name in ("created", "updated", "peira", "git",
                 "python", "study_hash")}  # fmt: skip
        context = frame(key, view) | {
            "text": text, "facts": facts, "subjects": manifest.get("subjects", {}),
            "packages": manifest.get("packages", {}), "has_report": (view.path / "report.html").is_file(),
        }  # fmt: skip
    return answer(request, "study.html", **context)
