"""The view in a real Chromium: pages load without a complaint, live progress moves, filters and keys
work, hostile transcripts are inert, a person's answer reaches the run."""

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import quote

import pytest

from peira import api
from tests.web.conftest import EXAMPLES, HOSTILE, talk
from tests.web.talkers import PROBE, Talk

pytestmark = pytest.mark.browser
CHROMIUM = next((p for p in ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
                 if Path(p).exists()), None)  # fmt: skip
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip
SHOTS = os.environ.get("PEIRA_SHOTS")  # a folder to keep screenshots in, for looking at them
KEY = quote(HOSTILE)
PAGES = {"home": "/", "run": f"/run/{KEY}", "trials": f"/trials/{KEY}", "trial": f"/trial/1/{KEY}",
         "figures": f"/figures/{KEY}", "study": f"/study/{KEY}", "desk": f"/desk/{KEY}",
         "compare": f"/compare?run={KEY}&run=deep/inside/plain"}  # fmt: skip


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextlib.contextmanager
def viewing(root: Path):
    """`peira view` in a process of its own; yields the address it printed."""
    command = [
        sys.executable,
        "-m",
        "peira.cli.main",
        "view",
        str(root),
        "--port",
        "0",
        "--no-browser",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child.stdout.readline().strip()
        finally:
            child.terminate()


@pytest.fixture(scope="module")
def served(house):
    with viewing(house) as address:
        yield address


@pytest.fixture(scope="module")
def served_families(families):
    with viewing(families) as address:
        yield address


@contextlib.contextmanager
def visit(chromium, address, **options):
    """A page, let in, with every complaint of the browser gathered; none may be left."""
    context = chromium.new_context(reduced_motion="reduce", **options)
    page = context.new_page()
    complaints = []
    page.on(
        "console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "dialog", lambda dialog: (complaints.append(f"dialog {dialog.message}"), dialog.dismiss())
    )
    page.on("request", lambda r: complaints.append(f"asked {r.url}")
            if not r.url.startswith((page.base, "data:")) else None)  # fmt: skip
    page.base = address.split("/?")[0]
    page.goto(address)
    yield page
    context.close()
    assert complaints == []


def settle(page):
    """Every part that the page fetches by itself is there."""
    expected(page, ".loading, .htmx-request").to_have_count(0)


def expected(page, selector):
    """What a selector finds, to be waited for. (Pages forbid eval, so no wait_for_function.)"""
    from playwright.sync_api import expect

    expect.set_options(timeout=20_000)
    return expect(page.locator(selector))


def shoot(page, name):
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_loads_without_complaint_and_without_sideways_scrolling(
    chromium, served, scheme, width
):
    size = {"width": width, "height": 900}
    with visit(chromium, served, color_scheme=scheme, viewport=size) as page:
        for name, address in PAGES.items():
            page.goto(page.base + address)
            settle(page)
            shoot(page, f"{name}-{scheme}-{width}")
            assert page.locator("h1").count() == 1, name
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
            assert page.evaluate("getComputedStyle(document.body).fontFamily") != ""


def test_the_pages_of_the_families_load(chromium, served_families):
    with visit(chromium, served_families) as page:
        for key in ("game", "scenario", "prompts", "probe"):
            for name in ("run", "trials", "trial/1"):
                page.goto(f"{page.base}/{name}/{key}")
                settle(page)
                shoot(page, f"{key}-{name.replace('/', '-')}")
        page.goto(f"{page.base}/figure/game?name=run_counts")
        assert page.locator("svg").count() == 1


def test_figures_are_drawn_to_zoom_into_and_turn_with_the_theme(chromium, served_families):
    with visit(chromium, served_families, viewport={"width": 1280, "height": 900}) as page:
        page.goto(f"{page.base}/figures/game#convergence_rounds")
        plot = page.locator("#convergence_rounds .plot")
        plot.locator(".cartesianlayer .scatterlayer").wait_for()
        plot.locator(".nsewdrag").first.hover()
        page.keyboard.press("d")
        shoot(page, "game-figures")
        page.locator("#convergence_rounds button").click()
        page.locator("#convergence_rounds img").wait_for()
        assert not plot.is_visible()


def test_a_hostile_transcript_is_inert(chromium, served):
    with visit(chromium, served) as page:
        page.goto(page.base + PAGES["trial"])
        page.keyboard.press("t")
        page.locator("details.prompt summary").first.click()
        page.locator(".messages .message").first.wait_for()
        assert PROBE[:30] in page.locator(".said .text:not(.thoughts)").first.inner_text()
        assert page.evaluate("window.pwned") is None
        assert page.locator("xss-probe").count() == 0
        assert page.locator("img[src=x]").count() == 0


def test_thoughts_are_private_until_asked_for(chromium, served):
    with visit(chromium, served) as page:
        page.goto(page.base + PAGES["trial"])
        thoughts = page.locator(".thoughts").first
        assert not thoughts.is_visible()
        page.get_by_label("private thoughts").check()
        assert thoughts.is_visible()
        page.reload()
        assert page.locator(".thoughts").first.is_visible()


def test_filters_and_search_narrow_the_table_and_make_a_deep_link(chromium, served):
    with visit(chromium, served) as page:
        page.goto(page.base + PAGES["trials"])
        page.locator("select[name='f.temperature']").select_option("1.0")
        expected(page, "#results").to_contain_text("12 trials")
        page.keyboard.press("/")
        page.keyboard.type("run_2")
        expected(page, "#results tbody tr").to_have_count(2)
        page.wait_for_url("**?q=run_2&f.temperature=1.0")
        page.reload()
        assert page.locator("#results tbody tr").count() == 2
        page.go_back()


def test_a_heading_sorts(chromium, served):
    with visit(chromium, served) as page:
        page.goto(page.base + PAGES["trials"])
        page.get_by_role("link", name="score", exact=True).click()
        expected(page, "th[aria-sort=ascending]").to_have_text("score")
        values = page.locator("#results tbody tr td:nth-child(6)").all_inner_texts()
        known = [float(v) for v in values if v != "n/a"]
        assert known == sorted(known) and len(known) > 20


def test_keys_move_open_and_go_up(chromium, served):
    with visit(chromium, served) as page:
        page.keyboard.press("?")
        assert page.locator("#help").is_visible()
        page.keyboard.press("Escape")
        page.goto(page.base + PAGES["trials"])
        for key in "jjk":
            page.keyboard.press(key)
        assert page.locator("tr.here").get_attribute("data-href") == f"/trial/1/{KEY}"
        page.keyboard.press("Enter")
        page.wait_for_url("**/trial/1/**")
        page.keyboard.press("n")
        page.wait_for_url("**/trial/2/**")
        page.keyboard.press("u")
        page.wait_for_url("**/trials/**")


def test_the_theme_is_turned_and_kept(chromium, served):
    with visit(chromium, served, color_scheme="light") as page:
        before = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        page.keyboard.press("d")
        after = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert before != after
        page.reload()
        assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == after


def test_the_map_follows_the_chosen_outcome(chromium, served):
    with visit(chromium, served) as page:
        page.goto(page.base + PAGES["run"])
        settle(page)
        page.locator("select[name=outcome]").select_option("won")
        expected(page, "#heat").to_contain_text("Wilson")
        page.locator("select[name=columns]").select_option("")
        expected(page, "#heat tbody tr:first-child td").to_have_count(1)
        page.locator("#heat td a").first.click()
        page.wait_for_url("**/trials/**f.temperature=0.0**")


def in_background(study, folder, **options):
    """A run going on in this process, in a thread of its own."""
    result = {}

    def drive():
        result["report"] = api.run(study, api.Options(run_dir=folder, **options))

    thread = threading.Thread(target=drive)
    thread.start()
    return thread, result


def test_live_progress_moves_while_a_run_goes_on(chromium, tmp_path):
    family = api.ask(talk(replicates=1, gated=True)).family
    gate = type(family).gate
    folder = tmp_path / "runs/live"
    folder.mkdir(parents=True)
    with viewing(tmp_path / "runs") as address:
        thread, result = in_background(talk(replicates=1, gated=True), folder)
        try:
            with visit(chromium, address) as page:
                page.locator("text=running").first.wait_for()
                page.get_by_role("link", name="talk").first.click()
                expected(page, "#progress").to_have_attribute("data-done", "0")
                gate.release()
                expected(page, "#progress").to_have_attribute("data-done", "1")
                gate.release(2)
                expected(page, "#progress").to_have_attribute("data-done", "3")
                assert "running" in page.locator("#progress").inner_text()
                gate.release(3)
                expected(page, "#progress").to_contain_text("last active")
        finally:
            gate.release(10)
            thread.join(30)
    assert result["report"].tally.planned == 6
    assert Talk.name == family.name


def test_a_person_answers_in_the_browser_and_the_run_goes_on(chromium, tmp_path):
    from peira.engine.desk import use_desk
    from peira.store.records import RunView
    from peira.web.desk import BrowserDesk

    folder = tmp_path / "runs/desk"
    folder.mkdir(parents=True)
    study = human_study(tmp_path)
    result = {}

    def drive():
        use_desk(BrowserDesk(folder))
        result["report"] = api.run(study, api.Options(run_dir=folder))

    thread = threading.Thread(target=drive)
    with viewing(tmp_path / "runs") as address:
        thread.start()
        with visit(chromium, address) as page:
            page.goto(f"{page.base}/")
            page.get_by_role("link", name="desk").first.click()
            page.get_by_role("link", name="for a person in a seat").click()
            page.locator("textarea[name=action]").fill(f"I wait {PROBE}".replace("\x1b", ""))
            shoot(page, "desk-asked")
            page.get_by_role("button", name="Answer").click()
            page.locator("text=Nobody waits for you").wait_for()
        thread.join(60)
    assert result["report"].tally.done == 1
    with RunView(folder) as run:
        (record,) = run.records()
        texts = [e["reply"] for e in run.events(record.number) if e.get("model") == "human"]
    assert len(texts) == 1 and "I wait" in texts[0]


def human_study(folder: Path) -> Path:
    """One turn of a small scenario with a person in one seat and simulated ones in the others."""
    import json

    import yaml

    source = EXAMPLES / "planted-negotiation"
    scenario = folder / "seated"
    for path in source.rglob("*.yaml"):
        data = yaml.safe_load(path.read_text())
        if path.name == "scenario.yaml":
            data |= {
                "turns": 1,
                "world_state_model": "sim:world",
                "communication": {"bilateral": False, "coalition": False},
            }
        if path.name == "regulator.yaml":
            data.pop("llm_model", None)
            data["control"] = "human"
        target = scenario / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(yaml.safe_dump(data, sort_keys=False))
    study = folder / "batch.json"
    study.write_text(json.dumps({
        "experiment_name": "desk", "base_scenario": str(scenario), "runs_per_variation": 1,
        "variations": [{"type": "actor_model", "actor": "tech-company", "values": ["sim:actor,lift=1"]}],
    }))  # fmt: skip
    return study


def test_a_run_shown_alongside_tells_its_address_and_takes_it_down(tmp_path):
    import urllib.error
    import urllib.request

    from peira.web.serve import alongside

    said = []
    with alongside(tmp_path / "run", said.append) as address:
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with opener.open(address, timeout=30) as answer:
            assert b"Waiting for the run to begin" in answer.read()
    assert said == [f"view: {address}"]
    with pytest.raises(urllib.error.URLError):
        opener.open(address, timeout=5)
