"""Each command as a user types it: what it prints, what it writes, its exit code."""

import json
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from peira import Reply, api
from peira.cli import display
from peira.cli.command import build, parse
from peira.cli.examples import EXAMPLES
from peira.cli.main import COMMANDS, run
from peira.cli.new import FAMILIES
from peira.store.forecast import cost
from peira.store.records import RunView
from peira.study.study import Study
from peira.subjects.scripted import ScriptedWire

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "studies").glob("*/*.yaml"))
TOY = Path(__file__).parents[1] / "engine" / "toy.py"


def commands() -> dict[str, tuple[str, str]]:
    return {name: told for group in COMMANDS.values() for name, told in group.items()}


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Path:
    """An empty working directory with a small study in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.yaml").write_text(
        f"family: {TOY}:Toy\nname: toy\nfactors:\n  level: [0, 1]\nreplicates: 2\n"
    )
    (tmp_path / "other.yaml").write_text(f"family: {TOY}:Tory\n")
    return tmp_path


def test_run_analyses_reports_and_says_where_to_look(desk, capsys):
    assert run(["run", "toy.yaml"]) == 0
    out = capsys.readouterr().out
    assert "planned 4 = done 4 + failed 0 + halted 0 + pending 0" in out
    assert "experiments/toy/report.html" in out
    for name in ("report.md", "report.html", "results.csv", "summary.json", "manifest.json"):
        assert (desk / "experiments" / "toy" / name).is_file(), name
    assert list((desk / "experiments/toy/figures").glob("*.png"))


def test_json_output_is_one_object(desk, capsys):
    assert run(["run", "toy.yaml", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["done"], data["exit_code"]) == (4, 0)
    assert run(["status", "toy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["done"] == 4
    assert run(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "toy"
    assert run(["plan", "toy.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["to_run"] == 0


def test_show_prints_a_trial_without_driving_the_terminal(desk, capsys):
    run(["run", "toy.yaml"])
    assert run(["show", "toy", "0"]) == 0
    out = capsys.readouterr().out
    assert "[roller]" in out and "None" not in out
    assert "\x1b" not in out


def test_status_lists_failures_and_exits_3(desk, capsys):
    (desk / "bad.yaml").write_text(f"family: {TOY}:Toy\nname: bad\nfixed: {{fail: refused}}\n")
    assert run(["run", "bad.yaml"]) == 3
    assert run(["status", "bad", "--failed"]) == 3
    assert "planted failure" in capsys.readouterr().out


def test_a_run_that_halts_says_once_what_to_do(desk, capsys):
    model = "sim:dice,cost=0.01,worst=0.02"
    (desk / "paid.yaml").write_text(f"family: {TOY}:Toy\nname: p\nfixed: {{model: '{model}'}}\n")
    assert run(["run", "paid.yaml", "--budget", "0.01"]) == 4
    told = capsys.readouterr()
    lines = [line for line in (told.out + told.err).splitlines() if "remedy" in line]
    assert lines == ["  remedy: raise the limit and run the same command again; nothing is lost"]


def test_tables_hold_anybodys_words_and_break_no_name(capsys):
    name = "a-run-with-a-long-name-made-of-its-settings"
    display.table("[/b]", ("[i]name", "words"), [(name, "[/red] \x1b[31m"), (None, 1)])
    out = capsys.readouterr().out
    assert "[/b]" in out and "[i]name" in out and "[/red]" in out and name in out
    assert "\x1b" not in out


def test_dry_run_writes_nothing(desk, capsys):
    assert run(["run", "toy.yaml", "--dry-run"]) == 0
    assert "4 trials" in capsys.readouterr().out
    assert not (desk / "experiments").exists()


def test_a_model_on_this_machine_costs_nothing_in_a_plan(desk, capsys):
    assert run(["probe", "css", "--model", "peira/tiny-graph-tracer", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "total free" in told and "unknown price" not in told
    assert "hf:peira/tiny-graph-tracer: runs on this machine: free" in told


@pytest.mark.parametrize(
    ("name", "stated", "note"),
    [
        ("script:replies.jsonl", {}, "runs on this machine: free"),
        ("mine", {"base_url": "http://127.0.0.1:9/v1"}, "runs on this machine: free"),
        ("mine", {"base_url": "http://example.org/v1", "price": "free"}, "free, as the study says"),
        ("mine", {"base_url": "http://example.org/v1"}, None),
    ],
)
def test_a_plan_says_why_a_model_is_free(name, stated, note):
    study = Study.model_validate({"family": "x", "subjects": {name: stated}})
    usd, told = cost(name, study, (1.0, 2.0, 3.0), (1.0, 2.0, 3.0), simulated=False)
    assert (usd, told) == ((0.0, 0.0, 0.0), note) if note else usd is None


ODD = """
family: negotiation
name: odd
fixed: {models: [mine, "sim:skill=0.5"]}
replicates: 1
subjects:
  mine: {base_url: "http://127.0.0.1:9/v1", price: free, api_key_env: NONE_SUCH, lacks: [max_tokens]}
  mime: {price: free}
"""


@pytest.mark.parametrize("words", [["plan"], ["run", "--dry-run"], ["run"]])
def test_what_no_wire_can_carry_is_refused_before_it_is_planned(desk, capsys, monkeypatch, words):
    if words == ["run"]:
        monkeypatch.setenv("NONE_SUCH", "x")  # a plan needs no key
    (desk / "odd.yaml").write_text(ODD)
    assert run([*words, "odd.yaml"]) == 2
    told = capsys.readouterr().err
    assert "cannot carry max_tokens=" in told
    assert "subjects.mime: no trial asks this subject; did you mean `mine`?" in told
    assert not (desk / "experiments").exists()


def test_write_configs_gives_files_that_run(desk, capsys):
    assert run(["plan", "toy.yaml", "--write-configs"]) == 0
    config = desk / "experiments/toy/configs/config_3.json"
    assert config.is_file()
    assert run(["run", str(config)]) == 0


def test_export_and_collect(desk, capsys):
    run(["run", "toy.yaml"])
    assert run(["export", "toy", "--what", "events", "-o", "events.csv"]) == 0
    assert (desk / "events.csv").read_text().count("\n") > 4
    assert run(["collect", "toy"]) == 0


def test_what_was_written_can_be_read_by_a_program(desk, capsys):
    assert run(["new", "study", "mine", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["written"] == ["mine.yaml"] and told["try"].startswith("peira run mine.yaml")
    run(["run", "toy.yaml"])
    capsys.readouterr()
    assert run(["export", "toy", "--what", "events", "-o", "events.jsonl", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"what": "events", "path": "events.jsonl",
                    "rows": len((desk / "events.jsonl").read_text().splitlines())}  # fmt: skip
    assert told["rows"] > 4


def test_every_command_that_tells_something_has_json():
    for name, (module, _) in commands().items():
        function = import_module(f"peira.cli.{module}").command
        assert "json" in {param.name for param in build(name, function).params}, name


def test_a_new_experiment_runs_as_written(desk, capsys):
    assert run(["new", "experiment", "my-idea"]) == 0
    assert run(["run", "my_idea.yaml", "--subjects", "simulated"]) == 0
    assert "planned 60 = done 60" in capsys.readouterr().out


def test_a_new_experiment_scores_no_answer_that_was_cut(desk):
    assert run(["new", "experiment", "my-idea"]) == 0
    cut = ScriptedWire(lambda request: Reply("42", finish="length"))
    report = api.run("my_idea.yaml", api.Options(wires={"gpt-4o-mini": cut}))
    with RunView(report.path) as view:
        assert all(r.outcome == {"correct": None, "error": None} for r in view.records())
        assert view.tally.done == cut.calls == 60


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "nope.yaml"], "no such file"),
        (["run", "toy.yaml", "--parallel", "0"], "--parallel"),
        (["run", "toy.yaml", "--executor", "moon"], "allowed: local"),
        (["run", "toy.yaml", "--subjects", "imaginary"], "allowed: simulated"),
        (["run", "toy.yaml", "--resume"], "nothing to resume"),
        (["run", "toy.yaml", "--only", "77"], "position from 0 to 3"),
        (["run", "toy.yaml", "--bogus"], "--help"),
        (["runn", "toy.yaml"], "did you mean `peira run`"),
        (["status", "nope"], "no run here"),
        (["show", "nope"], "no run here"),
        (["collect", "nope"], "no run here"),
        (["analyse", "nope"], "no run here"),
        (["report", "nope"], "no run here"),
        (["plot", "nope"], "no run here"),
        (["export", "nope"], "no run here"),
        (["plan", "nope.yaml"], "no such file"),
        (["plan", "other.yaml"], "allowed: a Family of the file: Toy"),
        (["new", "castle", "x"], "allowed: study, experiment"),
        (["new", "experiment", "9"], "not a name"),
        (["new", "study", "x", "--family", "castles"], "allowed: negotiation"),
        (["new", "study", "x", "--dir", "/proc/1"], "cannot be written"),
        (["list", "nope"], "no such directory"),
        (["clean", "--config", "nope.yaml"], "no such file"),
        (["run", "toy.yaml", "--budget", "inf"], "--budget"),
        (["power", "toy.yaml", "--effect", "1", "--set", "sd=-1"], "above 0"),
        (["negotiate", "--models", "sim:skill=0.5"], "models"),
        (["negotiate", "--models", "sim:skill=0.5", "sim:bogus"], "unknown kind"),
    ],
)
def test_wrong_input_gets_a_message_and_exit_2(desk, capsys, words, said):
    assert run(words) == 2
    told = capsys.readouterr().err
    assert said in told
    assert 2 <= len(told.splitlines()) <= 3 and ("remedy: " in told or "allowed: " in told)


@pytest.mark.parametrize("words", ["models", "import list", "models gpt-4o", "--help"])
def test_a_reader_that_leaves_early_is_no_bug(words):
    """A long table, a short one, plain lines: each to a pipe that nobody reads any more."""
    line = f"set -o pipefail; {sys.executable} -m peira.cli.main {words} | true"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_missing_key_of_several_models_is_told_once(desk, capsys, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert run(["negotiate", "--models", "gpt-4o", "gpt-4o-mini"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[:2] == ["peira negotiate: subject 'gpt-4o': no API key",
                        "subject 'gpt-4o-mini': no API key"]  # fmt: skip
    assert len(told) == 4 and "OPENAI_API_KEY" in told[3]


@pytest.mark.parametrize("name", commands())
def test_a_flag_there_is_not_is_refused_by_every_command(desk, capsys, name):
    assert run([name, "--nonsense"]) == 2
    told = capsys.readouterr().err
    assert "--nonsense" in told and len(told.splitlines()) <= 3


def test_every_command_has_help(capsys):
    for name in (name for group in COMMANDS.values() for name in group):
        assert run([name, "--help"]) == 0, name
        assert len(capsys.readouterr().out) > 80, name


def test_every_example_in_the_help_is_understood():
    for name, (module, _) in commands().items():
        lines = "\n".join(EXAMPLES[name]).replace("\\\n", " ").splitlines()
        for line in lines:
            words = shlex.split(line, comments=True)
            assert words[:2] == ["peira", name]
            parse(name, import_module(f"peira.cli.{module}").command, words[2:])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_study_of_each_family_can_be_planned(desk, capsys, family):
    assert run(["new", "study", "asked", "--family", family]) == 0
    assert run(["plan", "asked.yaml", "--subjects", "simulated"]) == 0
    assert run(["new", "study", "asked", "--family", family]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_study_that_ships_can_be_planned(monkeypatch, capsys, path):
    monkeypatch.chdir(ROOT)
    assert run(["plan", str(path), "--subjects", "simulated"]) == 0


def test_a_run_never_replaces_the_users_study_file(desk, capsys):
    (desk / "study.yaml").write_text((desk / "toy.yaml").read_text())
    assert run(["run", "study.yaml", "--output-dir", "."]) == 2
    assert "holds a study.yaml" in capsys.readouterr().err
    assert (desk / "study.yaml").read_text() == (desk / "toy.yaml").read_text()


def test_a_bug_is_not_hidden(desk, monkeypatch):
    from peira import api

    def broken(*args, **options):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(api, "ask", broken)
    with pytest.raises(ZeroDivisionError):
        run(["run", "toy.yaml"])
