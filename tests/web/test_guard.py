"""Nobody gets in without the token, from a foreign page, under a foreign name, or out of the house."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peira.web.app import make_app
from peira.web.guard import POLICY, Door
from peira.web.house import House, NoSuchRun
from tests.web.conftest import HOSTILE
from tests.web.visitor import HOST, TOKEN, ask

PAGES = ["/", "/run/deep/inside/plain", "/trials/deep/inside/plain", "/trial/1/deep/inside/plain",
         "/figures/deep/inside/plain", "/study/deep/inside/plain", "/desk/deep/inside/plain",
         "/compare", "/events", "/static/app.css", "/part/heat/deep/inside/plain",
         "/figure/deep/inside/plain?name=score", "/report/deep/inside/plain"]  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_no_page_opens_without_the_token(app, page):
    assert ask(app, page, known=False).status == 403
    wrong = {"cookie": f"peira-view={TOKEN}x"}
    assert ask(app, page, known=False, headers=wrong).status == 403


def test_the_address_with_the_token_becomes_a_cookie_and_loses_the_token(app):
    answer = ask(app, f"/trials/x%20y?token={TOKEN}&state=done", known=False)
    assert answer.status == 303
    assert TOKEN not in answer.headers["location"]
    assert answer.headers["location"].endswith("?state=done")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert ask(app, "/?token=wrong", known=False).status == 403


def test_the_redirect_never_leaves_this_server(app):
    answer = ask(app, f"/%2fevil.example/?token={TOKEN}", known=False)
    assert answer.headers["location"] == "/evil.example/"


def test_a_foreign_host_name_is_refused(app):
    for host in ("evil.example", "evil.example:8321", "127.0.0.1.evil.example:8321", ""):
        assert ask(app, "/", headers={"host": host}).status == 421
    for host in ("localhost:8321", "[::1]:8321", "127.0.0.1"):
        assert ask(app, "/", headers={"host": host}).status == 200


@pytest.mark.parametrize("headers", [
    {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "sec-fetch-dest": "script"},
    {"origin": "http://evil.example"}, {"origin": "null"},
    {"origin": "http://127.0.0.1:9999", "sec-fetch-site": "same-site"},
])  # fmt: skip
def test_a_foreign_page_reads_nothing(app, headers):
    assert ask(app, "/part/progress/deep/inside/plain", headers=headers).status == 403


def test_a_link_from_elsewhere_may_be_followed(app):
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-dest": "document"}
    assert ask(app, "/", headers=headers).status == 200


@pytest.mark.parametrize("headers", [
    {"sec-fetch-site": "cross-site", "origin": "http://evil.example"},
    {"sec-fetch-site": "same-site", "origin": "http://localhost:9999"},
    {"sec-fetch-site": "cross-site", "sec-fetch-dest": "document"},
    {"origin": "null"}, {"sec-fetch-site": "none"},
])  # fmt: skip
def test_a_foreign_page_changes_nothing(app, headers):
    answer = ask(app, "/desk/deep/inside/plain", method="POST", headers=headers, body=b"question=1")
    assert answer.status == 403


def test_only_the_desk_takes_a_post(app):
    own = {"origin": f"http://{HOST}"}
    for page in PAGES:
        status = ask(app, page, method="POST", headers=own).status
        assert status == (303 if page.startswith("/desk") else 405), page
    assert ask(app, "/", method="DELETE", headers=own).status == 405


@pytest.mark.parametrize("page", [*PAGES[:8], "/static/app.js", "/nowhere", "/run/nope"])
def test_every_answer_forbids_foreign_and_inline_scripts(app, page):
    headers = ask(app, page).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy
    assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"


def test_plots_may_place_their_words_and_no_more(families):
    """plotly sets style attributes: allowed where it draws; sheets and scripts stay our own."""
    policy = ask(make_app(families, Door(TOKEN)), "/figures/game").headers[
        "content-security-policy"
    ]
    assert policy.replace("; style-src-attr 'unsafe-inline'", "") == POLICY


def test_reports_and_figures_of_a_run_are_sealed(app):
    from urllib.parse import quote

    for page in (f"/report/{quote(HOSTILE)}", f"/figure/{quote(HOSTILE)}?name=score&form=svg"):
        answer = ask(app, page)
        assert answer.status == 200
        assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")


CLIMBS = ["../secret", "..%2fsecret", "%2e%2e/secret", "deep/../../secret", "/etc", "//etc/passwd",
          "deep/inside/plain/../../../../secret", "deep/./inside/plain", "link", "%00", "deep//inside/plain",
          "deep\\..\\..\\secret"]  # fmt: skip


@pytest.mark.parametrize("page", ["run", "trials", "figures", "study", "report", "desk", "trial/1"])
@pytest.mark.parametrize("climb", CLIMBS)
def test_no_path_leads_out_of_the_opened_directory(tmp_path, house, page, climb):
    (tmp_path / "secret").symlink_to(house / "deep/inside/plain")
    root = tmp_path / "root"
    if not root.exists():
        root.mkdir()
        (root / "link").symlink_to(house / "deep/inside/plain")
        (root / "deep").symlink_to(house / "deep")
    answer = ask(make_app(root, Door(TOKEN)), f"/{page}/{climb}")
    assert answer.status == 404


def test_a_figure_or_report_that_is_a_link_out_is_not_served(tmp_path, house):
    import shutil

    shutil.copytree(house / "deep/inside/plain", tmp_path / "run")
    secret = tmp_path.parent / f"{tmp_path.name}-secret.svg"
    secret.write_text("<svg>secret</svg>")
    (tmp_path / "run/figures").mkdir(exist_ok=True)
    for name in ("figures/x.svg", "figures/x.png", "report.html"):
        (tmp_path / "run" / name).unlink(missing_ok=True)
        (tmp_path / "run" / name).symlink_to(secret)
    app = make_app(tmp_path, Door(TOKEN))
    assert ask(app, "/figure/run?name=x&form=svg").status == 404
    assert ask(app, "/figure/run?name=../../x&form=svg").status == 404
    assert ask(app, "/report/run").status == 404


@settings(max_examples=200)
@given(
    key=st.text(max_size=40) | st.lists(st.sampled_from(["..", ".", "", "deep", "a"])).map("/".join)
)
def test_a_key_finds_a_run_inside_or_nothing(house, key):
    view = House(house)
    try:
        found = view.find(key)
    except (NoSuchRun, ValueError, OSError) as error:
        assert isinstance(error, NoSuchRun)
    else:
        assert found.path.resolve().is_relative_to(house.resolve())
