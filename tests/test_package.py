"""The public face: what `import peira` offers and how light it is."""

import subprocess
import sys
from pathlib import Path

import peira

PUBLIC = {
    "Analysis", "BatchAnalyzer", "ClusterSeparation", "Column", "ContextSensitivityScore",
    "Estimate", "Family", "Finding", "Forecast", "HierarchicalGraph", "HierarchicalGraphConfig",
    "HookedLLM", "Lab", "Limits", "Message", "Options", "Outcome", "Record", "Reply", "Request",
    "RunReport", "RunView", "Sampling", "Settings", "SimSpec", "Study", "Table", "Usage",
    "__version__", "analyse", "ask", "collect", "load", "run", "system", "user",
}  # fmt: skip
HEAVY = ("numpy", "pydantic", "typer", "rich", "aiohttp", "pandas", "matplotlib", "scipy", "torch")


def modules_after(code: str) -> set[str]:
    """Names of all modules a fresh interpreter has loaded after `code`."""
    program = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_public_surface_is_pinned():
    assert set(peira.__all__) == PUBLIC
    assert set(dir(peira)) == PUBLIC


def test_every_public_name_without_torch_loads():
    for name in PUBLIC - {"HookedLLM"}:
        assert getattr(peira, name) is not None, name


def test_every_public_name_is_on_the_reference_page_and_says_what_it_is():
    page = (Path(__file__).parents[1] / "docs/api.md").read_text(encoding="utf-8")
    assert [n for n in PUBLIC - {"__version__"} if f":: peira.{n}\n" not in page] == []
    for name in PUBLIC - {"HookedLLM", "__version__"}:
        assert len(getattr(peira, name).__doc__ or "") > 10, name


def test_an_unknown_name_is_an_attribute_error():
    try:
        peira.nonesuch  # noqa: B018
    except AttributeError as error:
        assert "nonesuch" in str(error)
    else:
        raise AssertionError("no error")


def test_import_peira_loads_almost_nothing():
    bare = modules_after("pass")
    loaded = modules_after("import peira") - bare
    assert not loaded & set(HEAVY)
    assert len(loaded) < 40, sorted(loaded)


def test_top_level_help_loads_almost_nothing():
    bare = modules_after("pass")
    help_only = "import io, contextlib\nfrom peira.cli.main import run\nwith contextlib.redirect_stdout(io.StringIO()): assert run(['--help']) == 0"
    loaded = modules_after(help_only) - bare
    assert not loaded & set(HEAVY)
    assert len(loaded) < 40, sorted(loaded)


def test_help_of_a_command_leaves_the_laboratory_unloaded():
    code = "import io, contextlib\nfrom peira.cli.main import run\nwith contextlib.redirect_stdout(io.StringIO()): assert run(['run', '--help']) == 0"
    assert not modules_after(code) & {
        "numpy",
        "pydantic",
        "aiohttp",
        "pandas",
        "matplotlib",
        "scipy",
    }
