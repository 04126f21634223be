"""The analysis recovers what was planted, and finds nothing where nothing was planted."""

import dataclasses

import numpy as np
import pytest

from peira import api
from peira.errors import InputError
from peira.families.negotiation import cell_tables, model_tables, model_views, scaling_law
from peira.families.negotiation.backtest import backtest_table, newer_models
from peira.families.negotiation.planted import Truth, planted
from peira.families.negotiation.rows import Games
from peira.report import rules
from peira.report.analysis import Analysis
from peira.stats.dyads import capability_slope
from peira.stats.effects import gini
from peira.stats.scaling import compare_forms
from peira.store.records import RunView
from peira.study.study import Study


def skills(count):
    return {f"m{k:02d}": k / (count - 1) for k in range(count)}


def slope(games: Games):
    rows = scaling_law.dyads(games)
    first, second = [r.models[0] for r in rows], [r.models[1] for r in rows]
    capability = {m: games.on_axis(m, "skill") for m in games.models}
    return capability_slope(first, second, [scaling_law.antisymmetric(r) for r in rows], capability)


@pytest.mark.parametrize("models", [6, 10, 20])
def test_the_planted_slope_is_covered_95_times_in_100(models):
    truth = Truth(skills(models), slope=30.0, seat=3.0, noise=12.0, model_sd=4.0)
    runs = 240 if models < 20 else 120
    covered = 0
    for root in range(runs):
        found = slope(planted(truth, root=root))
        covered += found.low <= 30.0 <= found.high
    # binomial 95 %: three standard deviations on either side
    assert abs(covered / runs - 0.95) < 3 * (0.95 * 0.05 / runs) ** 0.5


def test_where_nothing_is_planted_slopes_reject_at_their_level():
    truth = Truth(skills(8), noise=12.0, model_sd=4.0)
    rejected = sum(slope(planted(truth, root=root)).p < 0.05 for root in range(300))
    assert 4 <= rejected <= 28  # 15 expected; three standard deviations


def test_a_seat_effect_is_separated_from_skill():
    truth = Truth(skills(4), slope=20.0, seat=5.0, noise=2.0)
    games = planted(truth, seeds=range(30))
    seat = model_tables.seat_effect(games.rows)
    assert seat.low < 5.0 < seat.high and seat.p < 0.001
    law = scaling_law.laws(games)[0]
    assert law.scores.order == pytest.approx(5.0, abs=0.5)
    equal = planted(Truth(skills(4), slope=20.0, noise=2.0), seeds=range(30))
    assert model_tables.seat_effect(equal.rows).low < 0 < model_tables.seat_effect(equal.rows).high


def test_a_game_missing_in_one_order_leaves_its_instance_out_of_the_role_average():
    games = planted(Truth({"a": 0.0, "b": 1.0}, seat=40.0, noise=0.0), seeds=range(4))
    rows = [dataclasses.replace(r, outcome=None) if r.number == 0 else r for r in games.rows]
    found = cell_tables.mean_of(rows, lambda row: row.difference(), "difference")
    assert (found.n, found.missing) == (3, 1)
    assert found.estimate == pytest.approx(0.0)


def test_no_deal_counts_as_the_disagreement_payoff_and_deals_only_stands_beside_it():
    truth = Truth({"a": 0.0, "b": 1.0}, slope=20.0, noise=0.0, no_deal=0.5)
    games = planted(truth, seeds=range(40))
    row = cell_tables.cells(games).rows[0]
    assert {r["games"] for r in cell_tables.exploitation_table(games).rows} == {row["games"]}
    assert row["difference_deals"].estimate == pytest.approx(20.0)
    assert 5.0 < row["difference"].estimate < 15.0
    assert 0.3 < row["consensus"].estimate < 0.7
    e = cell_tables.exploitation_table(games).rows[0]
    assert e["e_strong"].estimate < e["e_strong_deals"].estimate == pytest.approx(0.2)


def test_fewer_than_six_models_get_no_form_and_a_star_says_so():
    five = scaling_law.laws(planted(Truth(skills(5), slope=10.0)))[0]
    assert five.forms is None and five.fit.reason == "too_few_models"
    assert not five.slope.defined and five.slope.reason == "too_few_models"
    games = planted(Truth(skills(7), slope=10.0))
    star = [row for row in games.rows if "m00" in row.models]
    law = scaling_law.laws(Games(tuple(star), games.capability, True))[0]
    assert law.star and "conditional_on_one_baseline" in law.slope.flags


def test_the_headline_slope_stands_beside_other_methods_of_the_same_games():
    games = planted(Truth(skills(8), slope=30.0, noise=12.0, model_sd=4.0), seeds=range(6))
    law = scaling_law.laws(games)[0]
    rows = {row["view"]: row for row in model_views.views_table(games, law).rows}
    headline, mixed = list(rows.values())[:2]
    assert mixed["slope"] == pytest.approx(headline["slope"], rel=0.02)
    assert mixed["se"] == pytest.approx(headline["se"], rel=0.1)
    assert rows["capabilities permuted over models"]["p"] < 0.01
    assert rows["games taken as independent"]["se"] < 0.8 * headline["se"]


def test_a_zero_sum_outcome_is_as_much_the_actors_doing_as_the_partners():
    games = planted(Truth(skills(8), slope=30.0, noise=6.0, model_sd=4.0), seeds=range(6))
    rows = {row["part"]: row for row in model_views.relations_table(games).rows}
    actor, partner = rows["who acts"]["variance"], rows["whom they meet"]["variance"]
    assert actor.estimate == pytest.approx(partner.estimate, rel=0.01)
    assert rows["the two together"]["share"] < 0.2 < rows["who acts"]["share"]
    star = [row for row in games.rows if "m00" in row.models]
    assert model_views.relations_table(Games(tuple(star), games.capability, True)) is None


def test_the_tables_of_a_law_pass_the_reports_own_rules():
    games = planted(Truth(skills(7), slope=10.0, noise=2.0), seeds=range(6))
    laws = scaling_law.laws(games)
    views = model_views.views_table(games, laws[0])
    tables = (scaling_law.slopes(laws), scaling_law.forms_table(laws), views)
    rules.check(Analysis("A planted law.", tables=tables))
    assert {round(row["slope"]) for row in views.rows} == {10}


def test_forms_say_why_none_has_a_weight_where_one_passes_through_every_model():
    law = scaling_law.laws(planted(Truth(skills(7), slope=10.0)))[0]
    x = np.arange(7.0)
    table = scaling_law.forms_table([dataclasses.replace(law, forms=compare_forms(x, 2 * x + 1))])
    assert {row["weight"] for row in table.rows} == {None}
    assert all(
        "passes through every model" in row["note"] or "refused" in row["note"]
        for row in table.rows
    )


def test_forms_are_tried_on_whole_makers_left_out_where_all_makers_are_known():
    names = [
        "gpt-4o",
        "gpt-4.1",
        "o3",
        "claude-3-opus",
        "claude-4-opus",
        "gemma-3-12b",
        "gemma-3-27b",
    ]
    truth = Truth({name: k / 6 for k, name in enumerate(names)}, slope=10.0, model_sd=2.0)
    laws = scaling_law.laws(planted(truth, seeds=range(4)))
    table = scaling_law.forms_table(laws)
    x, y = np.array(laws[0].x), np.array(laws[0].scores.scores)
    maker = np.array([name[:2].replace("o3", "gp") for name in laws[0].scores.models])
    gaps = [
        y[maker == out]
        - np.polyval(np.polyfit(x[maker != out], y[maker != out], 1), x[maker == out])
        for out in ("gp", "cl", "ge")
    ]
    linear = next(row for row in table.rows if row["form"] == "linear")
    assert linear["makers"] == pytest.approx(np.sqrt((np.concatenate(gaps) ** 2).mean()))
    assert "leave-one-maker-out RMSE (3 makers)" in [column.label for column in table.columns]
    nameless = scaling_law.forms_table(scaling_law.laws(planted(Truth(skills(7), slope=10.0))))
    assert "makers" not in [column.key for column in nameless.columns]


def test_models_that_never_met_are_not_put_on_one_scale():
    games = planted(Truth(skills(5), slope=10.0))
    apart = [
        r
        for r in games.rows
        if set(r.models) <= {"m00", "m01", "m02"} or set(r.models) == {"m03", "m04"}
    ]
    law = scaling_law.laws(Games(tuple(apart), games.capability, True))[0]
    assert law.scores.models == ("m00", "m01", "m02")


def test_survival_counts_games_without_a_deal_as_not_yet_agreed():
    games = planted(Truth({"a": 0.0, "b": 1.0}, no_deal=1.0))
    curve = model_tables.survival(games.rows)
    assert [value.estimate for _, value in curve] == [1.0] * 11
    assert model_tables.median_round(games.rows) is None


def test_gini():
    assert gini([10, 10, 10]) == 0.0
    assert gini([0, 0, 30]) == pytest.approx(2 / 3)
    assert gini([0, 0, 0]) is None


STUDY = {
    "family": "negotiation",
    "fixed": {"max_rounds": 4, "num_items": 4},
    "factors": {
        "weak_model": ["sim:skill=0.1", "sim:skill=0.3"],
        "strong_model": ["sim:skill=0.8", "sim:tough"],
        "model_order": ["weak_first", "strong_first"],
        "competition_level": [0.0, 1.0],
    },
    "seeds": [1, 2],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from peira.study.study import Study

    path = tmp_path_factory.mktemp("runs") / "run"
    report = api.run(Study.model_validate(STUDY), api.Options(run_dir=path))
    assert report.exit_code == 0
    return path


def test_a_whole_run_is_analysed_drawn_and_filed(run):
    from peira.families.negotiation import Negotiation
    from peira.report.figures import draw

    with RunView(run) as view:
        told = Negotiation().analyse(view)
        makers = Negotiation().figures(view)
        rules.check(told)
        names = {table.name for table in told.tables}
        assert {"levels", "cells", "normalised", "exploitation", "order_effects", "convergence",
                "behaviour", "tokens", "parsing", "run_counts"} <= names  # fmt: skip
        assert {"mmlu_ordered_utility_difference", "mmlu_ordered_strong_utility", "mmlu_ordered_weak_utility",
                "mmlu_ordered_total_utility", "convergence_rounds", "token_usage", "run_counts",
                "order_effects", "pareto", "behaviour"} <= set(makers)  # fmt: skip
        for name in ("mmlu_ordered_utility_difference", "pareto", "order_effects"):
            assert (
                b"SIMULATED" in draw(makers[name](), "svg")
                or len(draw(makers[name](), "svg")) > 5000
            )
    folder = (
        run / "trials" / "sim-skill=0.1_vs_sim-skill=0.8" / "strong_first" / "comp_1.0" / "run_2"
    )
    assert {p.name for p in folder.iterdir()} == {
        "result.json",
        "all_interactions.json",
        "transcript.md",
    }
    import orjson

    calls = orjson.loads((folder / "all_interactions.json").read_bytes())
    assert {
        "seat",
        "phase",
        "round",
        "messages",
        "reply",
        "usage",
        "served_model",
        "finish",
    } <= set(calls[0])
    assert calls[0]["messages"][0]["role"] == "system"
    assert (run / "logs" / "experiment_0.log").read_text().count("COMPLETED") == 1
    text = (folder / "transcript.md").read_text()
    assert "SIMULATED" in text and "(private)" in text


def test_the_config_of_a_trial_is_the_guides_and_runs_again(tmp_path):
    from peira.families.negotiation import Negotiation
    from peira.families.negotiation.settings import NegotiationSettings
    from peira.study.reader import read_study
    from peira.study.study import TrialPlan

    settings = NegotiationSettings(weak_model="gemini-1-5-pro", strong_model="grok-4-0709",
                                   model_order="strong_first", competition_level=0.5)  # fmt: skip
    family = Negotiation()
    plan = TrialPlan("id", 42, 3, 7, 0, {})
    config = family.config(settings, plan, "out")
    assert {k: config[k] for k in ("experiment_id", "weak_model", "strong_model", "models", "model_order",
                                   "competition_level", "run_number", "num_items", "max_rounds",
                                   "random_seed", "output_dir")} == {
        "experiment_id": 7, "weak_model": "gemini-1-5-pro", "strong_model": "grok-4-0709",
        "models": ["grok-4-0709", "gemini-1-5-pro"], "model_order": "strong_first", "competition_level": 0.5,
        "run_number": 3, "num_items": 5, "max_rounds": 10, "random_seed": 42, "output_dir": "out",
    }  # fmt: skip
    import json

    path = tmp_path / "config_7.json"
    path.write_text(json.dumps(config))
    study, _ = read_study(path)
    again = NegotiationSettings.model_validate(study.fixed)
    assert family.identity(again) == family.identity(settings) and study.trial_seeds == [42]
    assert family.slug(again, TrialPlan("id", 42, 1, 0, 0, {})) == (
        "gemini-1-5-pro_vs_grok-4-0709/strong_first/comp_0.5/run_3"
    )


def test_identity_forgets_the_folder_name_only():
    from peira.families.negotiation import Negotiation
    from peira.families.negotiation.settings import NegotiationSettings

    family, base = Negotiation(), {"models": ["a", "b"]}
    plain = family.identity(NegotiationSettings(**base))
    assert family.identity(NegotiationSettings(**base, run_number=4)) == plain
    assert family.identity(NegotiationSettings(**base, max_rounds=4)) != plain


def test_the_guides_short_names_stand_for_figures_and_factors(run):
    from peira.families.negotiation import Negotiation

    family = Negotiation()
    with RunView(run) as view:
        makers = family.figures(view)
        known = {name for record in view.records() for name in record.cell}
    for group in ("heatmaps", "convergence", "tokens", "counts"):
        assert set(family.figure_groups[group]) <= set(makers)
    assert set(family.factor_aliases["order"]) <= known
    assert known & set(family.factor_aliases["model"])


def test_three_seats_are_told_by_share_and_rule_over_instances(tmp_path):
    from peira.families.negotiation import Negotiation, group_tables
    from peira.families.negotiation.rows import games_of
    from peira.study.study import Study

    three = ["sim:skill=0.2", "sim:skill=0.5", "sim:skill=0.9"]
    study = Study.model_validate({
        "family": "negotiation", "fixed": {"max_rounds": 6, "num_items": 5}, "seeds": [1, 2, 3],
        "factors": {"models": [three, three[::-1]], "acceptance": ["unanimity", "majority"]},
    })  # fmt: skip
    assert api.run(study, api.Options(run_dir=tmp_path / "run")).exit_code == 0
    with RunView(tmp_path / "run") as view:
        told, games = Negotiation().analyse(view), games_of(view)
    rules.check(told)
    found = {f.name: f.estimate for f in told.findings}
    assert found["share_sim:skill=0.9"].n == 3  # instances: neither orders nor rules are new ones
    assert sum(found[f"share_{m}"].estimate for m in three) == pytest.approx(1.0)
    assert found["acceptance_majority"].n == 3
    assert "sim:skill=0.9, the strongest of 3 models" in told.answer
    assert told.tables[0].name == "rules"
    for row in games.rows:
        loud = group_tables.outvoted(row)
        assert len(loud) <= (0 if ("acceptance", "unanimity") in row.extra else 1)


def test_older_models_foretell_newer_ones_and_games_against_newer_do_not_leak():
    models = skills(12)
    newer = sorted(models, key=models.get)[-3:]
    games = planted(Truth(models, slope=30.0, noise=3.0), seeds=range(3))
    law = scaling_law.laws(games)[0]
    table = backtest_table(games, law, newer)
    assert [row["model"] for row in table.rows] == [m for m in law.scores.models if m in newer]
    assert {row["inside"] for row in table.rows} == {"yes"}
    for row in table.rows:
        assert row["foretold"].n == 9
        assert row["foretold"].low < row["score"] < row["foretold"].high
    few = backtest_table(games, law, sorted(models)[:8])
    assert "fewer models" in few.note
    assert all(row["foretold"].reason == "too_few_models" for row in few.rows)
    assert backtest_table(games, law, ()) is None


@pytest.mark.parametrize(
    "asked", [["a"], {"newer": []}, {"newer": ["c"]}, {"newer": ["a"], "x": 1}]
)
def test_a_backtest_of_no_model_of_the_study_is_refused(asked):
    def study(asked):
        return Study(family="negotiation", analysis={"backtest": asked})

    assert newer_models(study({"newer": ["b"]}), {"a", "b"}) == ("b",)
    with pytest.raises(InputError, match="of a, b"):
        newer_models(study(asked), {"a", "b"})
