"""Paired comparisons: spec prompts §7, acceptance 1 to 3 and 10."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peira import api
from peira.families.prompts import loaders
from peira.families.prompts.analysis import answer, detectable
from peira.families.prompts.costs import Price, stated_price
from peira.families.prompts.evaluated import Evaluated
from peira.families.prompts.extras import quadrant
from peira.families.prompts.omnibus import several_arms
from peira.families.prompts.scoring import exact_match
from peira.families.prompts.selective import curve
from peira.families.prompts.settings import Pricing
from peira.families.prompts.significance import RunSignificance, run_significance
from peira.families.prompts.simulated import (
    Effect,
    Observation,
    Parameters,
    Respondent,
    expected,
    uniform,
)
from peira.stats.clustered import cluster_mean
from peira.stats.effects import dominance
from peira.stats.mcnemar import conditional_odds_ratio, mcnemar_exact_p, paired_outcomes
from peira.stats.rank import wilcoxon
from peira.subjects.simulated import SimSpec
from peira.subjects.subject import Request, Sampling, user
from tests.prompts.conftest import CountingWire

RunStudy = Callable[..., api.RunReport]
Read = Callable[[Path], Evaluated]


# -- acceptance 1, 2, 3 ---------------------------------------------------------------------------
def test_the_published_large_comparison() -> None:
    delta = np.repeat([1.0, -1.0, 0.0], [1186, 326, 23892])
    assert delta.mean() == pytest.approx(0.03385293654542592)
    assert delta.mean() / delta.std(ddof=1) == pytest.approx(0.140115, abs=1e-6)
    assert dominance(delta).estimate == pytest.approx(0.033853, abs=1e-6)
    assert conditional_odds_ratio(1186, 326).estimate == pytest.approx(3.638037, abs=1e-6)
    signed = wilcoxon(delta, zeros="drop", continuity=False)
    assert signed.extra["W_minus"] == 246619
    assert signed.p == pytest.approx(2.177782156104665e-108, rel=1e-9)


@pytest.mark.parametrize(
    ("b", "c", "p", "low", "high"),
    [
        (15, 5, 0.04138946533203125, 1.0364696, 10.5511497),
        (9, 4, 0.266845703125, 0.6279707, 9.9986326),
    ],
)
def test_mcnemar_with_its_odds_ratio(b: int, c: int, p: float, low: float, high: float) -> None:
    ratio = conditional_odds_ratio(b, c, method="exact")
    assert mcnemar_exact_p(b, c) == pytest.approx(p)
    assert (ratio.low, ratio.high) == (pytest.approx(low), pytest.approx(high))
    assert mcnemar_exact_p(4, 8) == pytest.approx(0.3876953125)


def test_dominance_keeps_the_ties_in_the_denominator() -> None:
    assert dominance(np.repeat([1.0, 0.0], [3, 997])).estimate == pytest.approx(0.003)


def test_costs_at_batch_price() -> None:
    pricing = Pricing(input_per_million=0.15, output_per_million=0.60)
    batch = stated_price(pricing, "m", "m", batch=True)
    assert batch is not None
    assert batch.usd(44_800_000, 8_300_000) == pytest.approx(5.85)
    rates = {"input_per_mtok": 1.25, "output_per_mtok": 5.0}
    listed = Pricing.model_validate({"providers": {"p": {"m": rates}}})
    found = stated_price(listed, "maker/m", "m", batch=True)
    assert found is not None and found.usd(3000, 1500) == pytest.approx(0.005625)
    rates = {**rates, "input_per_mtok_batch": 2.0}
    listed = Pricing.model_validate({"providers": {"p": {"m": rates}}})
    explicit = stated_price(listed, "m", "m", batch=True)
    assert explicit is not None and explicit.input_rate_per_mtok == 2.0
    assert isinstance(explicit, Price) and explicit.output_rate_per_mtok == 2.5


# -- acceptance 10 --------------------------------------------------------------------------------
def outcomes(seed: int, effect: Effect, arm: str, items: Any) -> list[float]:
    respondent = Respondent(SimSpec("respondent"))
    found = []
    for item in items:
        seen = Observation(item, f"{seed}|{arm}|{item.key}", seed, Parameters(), effect)
        request = Request("sim", (user("q"),), Sampling(), seen)
        reply = respondent.answer(request)
        text = reply if isinstance(reply, str) else reply.text
        found.append(exact_match(text, item.answers))
    return found


def test_the_planted_truth_is_what_the_formula_says() -> None:
    items = loaders.simulated(400, 0).items
    control = expected(items, Parameters(), Effect())["em"]
    treated = expected(items, Parameters(), Effect(accuracy=0.8))["em"]
    assert control == pytest.approx(0.556229, abs=1e-6)
    assert treated == pytest.approx(0.684246, abs=1e-6)
    assert treated - control == pytest.approx(0.128017, abs=1e-6)  # type: ignore[operator]


def test_the_estimate_recovers_the_planted_effect() -> None:
    items = loaders.simulated(100, 0).items
    truth = [expected(items, Parameters(), Effect(accuracy=a))["em"] for a in (0.0, 0.8)]
    planted = truth[1] - truth[0]  # type: ignore[operator]
    estimates, covered, rejected = [], 0, 0
    for seed in range(60):
        control = outcomes(seed, Effect(), "control", items)
        found = paired_outcomes(outcomes(seed, Effect(accuracy=0.8), "a", items), control)
        nothing = paired_outcomes(outcomes(seed, Effect(), "b", items), control)
        estimates.append(found.estimate)
        covered += found.low <= planted <= found.high  # type: ignore[operator]
        rejected += nothing.p is not None and nothing.p < 0.05
    error = np.std(estimates, ddof=1) / math.sqrt(len(estimates))
    assert abs(np.mean(estimates) - planted) < 3 * error
    assert covered >= 52
    assert rejected <= 9


def test_arms_share_the_items_part_of_the_draw() -> None:
    items = loaders.simulated(150, 0).items
    alike = [outcomes(1, Effect(), arm, items) for arm in ("a", "b")]
    apart = [outcomes(1, Effect(), "a", items), outcomes(2, Effect(), "b", items)]
    assert np.corrcoef(alike)[0, 1] > np.corrcoef(apart)[0, 1] + 0.05


def test_uniform_draws_lie_strictly_inside_the_unit_interval() -> None:
    draws = [uniform("x", k) for k in range(2000)]
    assert min(draws) > 0 and max(draws) < 1
    assert abs(np.mean(draws) - 0.5) < 0.03


# -- a run's significance.json ----------------------------------------------------------------------
def significance(report: api.RunReport, read: Read) -> RunSignificance:
    return run_significance(read(report.path))


def nulls(node: Any, pointer: str = "") -> list[str]:
    if isinstance(node, dict):
        return [p for k, v in node.items()
                for p in nulls(v, f"{pointer}/{str(k).replace('~', '~0').replace('/', '~1')}")]  # fmt: skip
    if isinstance(node, list):
        return [p for k, v in enumerate(node) for p in nulls(v, f"{pointer}/{k}")]
    return [pointer] if node is None else []


def test_every_null_has_a_reason_and_every_p_lies_in_its_range(
    run_study: RunStudy, read: Read
) -> None:
    report = run_study(sizes={"closed_book_max_items": 20, "open_book_max_items": 30})
    (document,) = significance(report, read).documents.values()
    assert document["schema_version"] == 3
    for pointer in nulls(document["results"], "/results"):
        assert pointer in document["reasons"], pointer
    closed = document["results"]["0.0"]["closed"]["arms"]["treatment"]
    false_answer = closed["metrics"]["false_answer_rate"]
    assert (false_answer["n_items"], false_answer["delta_mean"]) == (0, None)
    assert 0 < closed["metrics"]["em"]["p_value"] <= 1


def test_the_primary_family_is_the_runs_and_the_gate_holds_the_secondary(
    run_study: RunStudy, read: Read
) -> None:
    found = significance(
        run_study(
            prompt_sets={
                "plain": {"control": "c.txt", "treatment": "t.txt", "other": "u.txt"},
                "more": {"control": "c.txt", "third": "v.txt"},
            },
            sweep={"prompt_sets": "all"},
            simulated={"effects": {"plain.treatment": {"accuracy": 3.0, "abstain": -3.0}}},
        ),
        read,
    )
    assert found.family_size == 3
    primary = [part.primary for part in found.compared]
    assert all(entry["p_adjusted"] >= entry["p_value"] for entry in primary)
    gate = max(entry["p_adjusted"] for entry in primary)
    for part in found.compared:
        for entry in part.block["metrics"].values():
            if entry["role"] == "secondary" and entry["p_adjusted"] is not None:
                assert entry["p_adjusted"] >= gate
            if entry["role"] == "exploratory" and entry["p_value"] is not None:
                assert entry["q_value"] >= entry["p_value"] and "p_adjusted" not in entry
    assert "omnibus" in found.compared[0].cell
    assert found.compared[0].block["verdict"] == "arm higher"
    assert "treatment (plain) raises exact match" in answer(found.compared, found)


def test_compare_all_adds_every_pair_to_the_family(run_study: RunStudy, read: Read) -> None:
    arms = {"control": "c.txt", "a": "t.txt", "b": "u.txt"}
    found = significance(run_study(prompt_sets={"plain": arms}, stats={"compare": "all"}), read)
    assert [part.short for part in found.compared] == [
        "a (closed)", "b (closed)", "b vs a (closed)",
    ]  # fmt: skip
    assert found.family_size == 3


def test_sets_that_share_a_control_are_compared_with_each_other(
    run_study: RunStudy, read: Read
) -> None:
    report = run_study(
        prompt_sets={
            "plain": {"control": "c.txt", "a": "t.txt"},
            "more": {"control": "c.txt", "b": "u.txt"},
            "apart": {"control": "v.txt", "d": "u.txt"},
        },
        sweep={"prompt_sets": "all"}, stats={"compare": "all"},
    )  # fmt: skip
    evaluated = read(report.path)
    found = run_significance(evaluated)
    assert found.family_size == 4
    (across,) = [part for part in found.compared if part.at.trial.joined]
    assert across.short == "more.b vs plain.a (closed)"
    scores = {t.settings.prompt_set: t.values("em")[:, 0, 1] for t in evaluated.trials}
    delta = (scores["more"] - scores["plain"]).mean()
    assert across.primary["delta_mean"] == pytest.approx(delta)
    assert across.primary["p_adjusted"] >= across.primary["p_value"]
    first, second, third = found.documents.values()
    cell = first["across_sets"]["results"]["0.0"]["closed"]
    assert first["across_sets"]["prompt_sets"] == ["plain", "more"]
    assert list(cell["arms"]) == ["more.b vs plain.a"] and cell["omnibus"]["arms"] == 3
    assert "across_sets" not in second and "across_sets" not in third


def wire_with_losses(lost: str, every: int) -> CountingWire:
    """Treatment is always right but loses every n-th row; control is wrong half the time."""
    calls = {"treatment": 0, "control": 0}

    def reply(request: Any) -> str:
        question = request.messages[-1].content
        number = int(question.rsplit("register ", 1)[1].split()[0])
        code = f"code {number * 7919 % 1_000_003}"
        treated = "prompt t" in request.messages[0].content
        calls["treatment" if treated else "control"] += 1
        if treated and number % every == 0:
            return lost
        return code if treated or number % 2 else "wrong"

    return CountingWire(reply)


def test_lost_rows_are_left_out_bounded_and_forbid_a_winner(
    run_study: RunStudy, read: Read
) -> None:
    wire = wire_with_losses("<cut>", every=4)
    report = run_study(api.Options(wires={"stub": wire}), model_id="stub")
    found = significance(report, read)
    (part,) = found.compared
    entry = part.primary
    assert entry["n_missing"] == 10
    assert entry["delta_mean"] == pytest.approx(10 / 30)
    assert entry["delta_itt"] == pytest.approx(0.25)
    low, high = entry["bounds"]
    assert low <= entry["delta_itt"] <= high
    assert part.cell["unscored"]["treatment"] == {"truncated": 10}
    assert "unreliable" in part.cell["flags"]
    assert part.block["verdict"] == "no winner named"
    assert part.block["loss_test"]["p_value"] < 0.01
    assert "No winner is named" in answer(found.compared, found)


def test_several_samples_are_averaged_never_voted(run_study: RunStudy, read: Read) -> None:
    found = significance(run_study(samples_per_item=3, temps=[0.7]), read)
    (part,) = found.compared
    assert "mcnemar" not in part.block
    assert "sign-flip" in part.primary["p_method"]
    trial = part.at.trial
    per_item = trial.values("em")[:, :, 0].mean(axis=1)
    assert part.primary["control_mean"] == pytest.approx(per_item.mean())


def test_changed_analysis_settings_are_labelled_post_hoc(
    run_study: RunStudy, read: Read, folder: Path
) -> None:
    first = run_study()
    assert first.ran == 1
    again = run_study(stats={"alpha": 0.1})
    assert again.ran == 0
    (part,) = significance(again, read).compared
    assert "post_hoc" in part.cell["flags"]


def test_prices_do_not_make_an_analysis_post_hoc(run_study: RunStudy, read: Read) -> None:
    run_study()
    again = run_study(pricing={"input_per_million": 1.0, "output_per_million": 1.0})
    (part,) = significance(again, read).compared
    assert "post_hoc" not in part.cell["flags"]


@pytest.mark.parametrize(
    ("cost", "gain", "where"),
    [(-1, 1, "dominates"), (1, -1, "dominated"), (1, 1, "trade-off"), (-1, -1, "trade-off"),
     (0, 0, "same"), (0, 1, "dominates"), (1, 0, "dominated"), (1, None, None)],
)  # fmt: skip
def test_the_quadrant_of_cost_and_effect(cost: float, gain: float | None, where: Any) -> None:
    assert quadrant(cost, gain) == where


def test_no_difference_above_one_is_promised() -> None:
    assert detectable([0.4], 0.8) == "with 80% power the design finds differences of 0.400"
    assert detectable([0.5, 0.4], 0.8).endswith("differences of 0.400 to 0.500")
    assert detectable([0.4, 1.2], 0.8).endswith("differences of 0.400, or none at all")
    assert detectable([1.4], 0.8) == "so few items find no difference with 80% power, however large"


def test_three_arms_alike_are_not_told_apart() -> None:
    rng = np.random.default_rng(3)
    alike, alone = rng.integers(0, 2, size=(60, 3)).astype(float), np.arange(60)
    assert several_arms(alike, alone, True, 999, 1)["p_value"] > 0.01
    shifted = alike.copy()
    shifted[:, 2] = 1.0
    assert several_arms(shifted, alone, True, 999, 1)["p_value"] < 0.01
    means = np.where(shifted == 1, 0.75, 0.25)
    assert several_arms(means, alone, False, 999, 1)["p_value"] == pytest.approx(0.001)


def test_all_arms_at_once_count_a_passage_once_however_many_questions_it_has() -> None:
    rng = np.random.default_rng(5)
    passages = rng.integers(0, 2, size=(12, 3)).astype(float)
    passages[:6] = (0.0, 0.0, 1.0)
    once = several_arms(passages, np.arange(12), False, 999, 1)
    often = several_arms(
        np.repeat(passages, 10, axis=0), np.repeat(np.arange(12), 10), True, 999, 1
    )
    assert often["p_value"] == once["p_value"] > 0.01
    assert (often["n_items"], often["n_clusters"]) == (120, 12)
    assert "within clusters" in often["method"]
    apart = several_arms(np.repeat(passages, 10, axis=0), np.arange(120), True, 999, 1)
    assert apart["method"] == "Cochran's Q" and apart["p_value"] < 1e-4


def test_a_risk_curve_needs_confidence_and_covers_less_as_it_asks_for_more() -> None:
    found = curve(np.array([1.0, 0, 1, 1]), np.array([0.9, 0.2, 0.6, 0.6]), (0.0, 0.5, 0.8, 1.0))
    coverages = [point["coverage"] for point in found["curve"]]
    assert coverages == [1.0, 0.75, 0.25, 0.0]
    assert found["curve"][-1]["risk"] is None
    assert found["aurc"] < 0.25


@pytest.mark.parametrize("clusters", [8, 30])
def test_gains_and_losses_that_cancel_in_every_passage_have_no_error(clusters: int) -> None:
    found = cluster_mean([1.0, -1.0] * clusters, np.repeat(np.arange(clusters), 2))
    assert (found.estimate, found.low, found.p) == (0.0, None, None)
    assert found.reason == "zero_variance"


def test_a_respondent_may_have_a_price_as_every_simulated_subject() -> None:
    spec = SimSpec("respondent", options={"skill": "0.5", "cost": "0.001", "worst": "0.002"})
    assert Respondent(spec).dials == {"skill": 0.5}
