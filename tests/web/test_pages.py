"""Every page renders, says what it must, and keeps every hostile text a text."""

import json
import re
import shutil
from urllib.parse import quote

import pytest

from peira.web.app import make_app
from peira.web.guard import Door
from tests.web.conftest import HOSTILE
from tests.web.visitor import TOKEN, ask, read

KEY = quote(HOSTILE)
PAGES = ["/", f"/run/{KEY}", f"/trials/{KEY}", f"/trial/1/{KEY}", f"/figures/{KEY}", f"/study/{KEY}",
         f"/desk/{KEY}", f"/prompt/1/0/{KEY}",
         f"/compare?run={KEY}&run=deep/inside/plain",
         *(f"/part/{part}/{KEY}" for part in ("progress", "cells", "heat", "failures", "time"))]  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_hostile_text_stays_text(app, page):
    """Study, factor levels, seats, labels, replies, thoughts, events, failures, folder names."""
    answer = ask(app, page)
    assert answer.status == 200
    markup = read(answer.text)
    assert "xss-probe" not in markup.tags and "i" not in _foreign(markup)
    assert markup.handlers == [] and markup.styles == []
    assert all(src.startswith("/static/") for src in markup.scripts)
    assert all(re.match(r"[/#?]|data:|$", link) for link in markup.links), markup.links
    assert "\u202e" not in answer.text and "\x1b" not in answer.text
    assert "${49}" not in answer.text and "}49{" not in answer.text


def _foreign(markup):
    """Elements our own templates never make out of nothing: an <i> is ours only inside facts."""
    return [tag for tag in markup.tags if tag in ("xss-probe", "iframe", "object", "embed", "base")]


def test_the_probe_does_reach_the_pages(app):
    """The test above would pass on empty pages: the texts are there, escaped."""
    for page in (f"/run/{KEY}", f"/trial/1/{KEY}", f"/study/{KEY}", f"/prompt/1/0/{KEY}",
                 f"/part/failures/{KEY}", f"/part/heat/{KEY}"):  # fmt: skip
        assert "xss-probe" in "".join(read(ask(app, page).text).words), page


@pytest.mark.parametrize("page", PAGES[:7])
def test_simulated_subjects_are_marked_on_every_page(app, page):
    text = ask(app, page).text.lower()
    assert "simulated" in text
    if page != "/":
        assert "no real model was asked" in text


def test_the_first_page_lists_all_runs_and_the_damaged_one(app):
    text = ask(app, "/").text
    words = " ".join(read(text).words)
    assert HOSTILE in words and "deep/inside/plain" in words
    assert "damaged" in words
    found = " ".join(read(ask(app, "/?q=plain").text).words)
    assert "deep/inside/plain" in found and HOSTILE not in found


def test_a_run_page_counts_every_planned_trial(app):
    words = " ".join(" ".join(read(ask(app, "/run/deep/inside/plain").text).words).split())
    numbers = re.search(
        r"planned (\d+) = done (\d+) \+ failed (\d+) \+ halted (\d+) \+ pending (\d+)", words
    )
    planned, *parts = map(int, numbers.groups())
    assert planned == 18 == sum(parts)


def test_a_trial_page_keeps_prompts_and_thoughts_apart(app):
    text = ask(app, f"/trial/1/{KEY}").text
    assert "thought " in text and "rules " not in text
    assert "rules " in ask(app, f"/prompt/1/0/{KEY}").text
    assert text.count('class="text thoughts private"') == 4


@pytest.mark.parametrize(("page", "status"), [
    ("/run/nope", 404), ("/trial/999/deep/inside/plain", 404), ("/nowhere", 404),
    ("/figure/deep/inside/plain?name=nope", 404), ("/figure/deep/inside/plain?form=exe", 404),
    ("/part/nope/deep/inside/plain", 404), ("/run/broken", 500), ("/compare?run=nope", 404),
    ("/prompt/1/999/deep/inside/plain", 404), ("/trial/99999999999999999999/deep/inside/plain", 404),
])  # fmt: skip
def test_what_is_not_there_says_so_without_a_traceback(app, page, status):
    answer = ask(app, page)
    assert answer.status == status
    assert "Traceback" not in answer.text and "<h1>" in answer.text


def test_a_directory_that_is_a_run_shows_that_run(house):
    app = make_app(house / "deep/inside/plain", Door(TOKEN))
    assert ask(app, "/").headers["location"] == "/run/this"
    assert ask(app, "/run/this").status == 200


def test_a_run_that_has_not_begun_is_waited_for(tmp_path):
    app = make_app(tmp_path, Door(TOKEN))
    assert "Waiting" in ask(app, "/run/this").text


@pytest.mark.parametrize(("key", "words"), [
    ("game", ["round 1", "proposal", "votes", "Payoff of each round", "private plan"]),
    ("scenario", ["turn 0: the beginning", "turn 1", "acts", "The world", "cooperation_level"]),
    ("probe", ["dirichlet energy at N 40", "shuffled", "context length", "class=\"band"]),
    ("prompts", ["accepted:", "control", "treatment", "em ", "flips"]),
])  # fmt: skip
def test_each_family_has_its_own_trial_page(family_app, key, words):
    text = ask(family_app, f"/trial/1/{key}").text
    for word in words:
        assert word in text, word


def test_a_negotiation_page_shows_utilities_as_the_game_counts_them(family_app, families):
    from peira.store.records import RunView

    with RunView(families / "game") as run:
        record = next(r for r in run.records() if r.outcome["consensus"])
    text = ask(family_app, f"/trial/{record.number}/game").text
    won = re.search(r'<tr class="won">(.*?)</tr>', text, re.DOTALL)[1]
    shown = [float(x) for x in re.findall(r'<td class="number">([\d.]+)</td>', won)]
    assert shown == [pytest.approx(u, abs=0.05) for u in record.outcome["raw"]]


def test_flips_of_a_prompt_trial_can_be_shown_alone(family_app):
    everything = ask(family_app, "/trial/1/prompts").text
    flips = ask(family_app, "/trial/1/prompts?show=flips").text
    assert flips.count('<section class="item"') == len(re.findall(r'<b class="flip">', flips))
    assert 0 < flips.count('<section class="item"') < everything.count('<section class="item"')


def test_a_comparison_pairs_the_same_cells_and_seeds(app):
    text = ask(app, f"/compare?run={KEY}&run=deep/inside/plain").text
    assert "Paired differences" in text and "Where the studies differ" in text
    assert "replicates" in text


def test_runs_are_compared_by_what_their_family_compares(family_app, families, tmp_path):
    text = ask(family_app, "/compare?run=game&run=scenario").text
    assert "Where the studies differ" in text and "Outcomes" not in text  # nothing in common
    shutil.copytree(families / "game", tmp_path / "again")
    shutil.copytree(families / "game", tmp_path / "other")
    text = ask(make_app(tmp_path, Door(TOKEN)), "/compare?run=again&run=other").text
    words = " ".join(read(text).words)
    assert "utility of seat 1" in words and "welfare ratio" in words and "spent." not in words
    assert "other − again" in words and "The studies are the same." in words


def test_a_map_opens_on_what_the_family_shows_first(family_app):
    text = ask(family_app, "/run/game").text
    assert re.search(r"<option selected>utility_difference</option>", text)
    assert "less that of the second" in ask(family_app, "/part/heat/game").text
    seat = ask(family_app, "/part/heat/game?outcome=share.2").text
    assert "share.2" in seat and "n/a" not in seat


def test_every_figure_of_every_family_can_be_explored(families):
    app = make_app(families, Door(TOKEN))
    for key in ("game", "scenario", "prompts", "probe"):
        sources = re.findall(r'data-from="([^"]+)"', ask(app, f"/figures/{key}").text)
        assert sources, key
        for source in sources:
            answer = ask(app, source.replace("&amp;", "&"))
            drawn = json.loads(answer.text)
            assert answer.status == 200 and (drawn["data"] or drawn["layout"]["annotations"]), (
                source
            )
            assert re.search(r"n ?=", drawn["caption"]), source
    assert ask(app, "/plotly.js").headers["content-type"].startswith("text/javascript")
