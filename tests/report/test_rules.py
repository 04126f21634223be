"""The report refuses what its evidence cannot carry (statistics §0, §11.4)."""

import pytest

from peira.errors import ReportRefused
from peira.report.analysis import Analysis, Column, Finding, Table
from peira.report.rules import check
from peira.stats.result import Estimate, undefined

GOOD = Estimate(0.4, 0.3, 0.5, p=0.01, n=40, method="t")


def finding(value=GOOD, claim="The effect of x on y", **fields):
    return Finding("effect", claim, value, **fields)


def with_columns(*keys, value=GOOD, kinds=()):
    columns = tuple(Column(k, k, kind="estimate" if k in kinds else "number") for k in keys)
    return Analysis("a", (Table("t", "T", columns, (dict.fromkeys(keys, value),)),))


BREACHES = {
    "p without an effect": Analysis("a", findings=(finding(undefined("empty", p=0.5)),)),
    "without a method": Analysis("a", findings=(finding(GOOD.with_(method="")),)),
    "no width": Analysis("a", findings=(finding(GOOD.with_(low=0.4, high=0.4)),)),
    "without n": Analysis("a", findings=(finding(GOOD.with_(n=0)),)),
    "prediction band": Analysis("a", findings=(finding(GOOD.with_(flags=("extrapolated",))),)),
    "no claim": Analysis("a", findings=(finding(claim=" "),)),
    "may not be called significant": Analysis(
        "a", findings=(finding(claim="A significant effect"),)
    ),
    "has q, not p_adjusted": Analysis("a", findings=(finding(p_adjusted=0.01),)),
    "nothing here is confirmatory": Analysis("x is significantly better"),
    "add the estimate": with_columns("p", value=0.5),
    "number of models": with_columns("r2", value=0.9),
    "over all games": with_columns("surplus_given_deal"),
}


@pytest.mark.parametrize("words", BREACHES)
def test_a_breach_is_refused_in_words(words):
    with pytest.raises(ReportRefused, match=words):
        check(BREACHES[words])


@pytest.mark.parametrize("analysis", [
    Analysis("fine", findings=(finding(), finding(undefined("empty")))),
    Analysis("x is significantly better", findings=(finding(role="confirmatory", p_adjusted=0.01),)),
    with_columns("value", "p"),
    Analysis("r", (Table("t", "T", (Column("r2", "R²"), Column("n_models", "models")), ({"r2": 0.9, "n_models": 6},)),)),
    with_columns("surplus_given_deal", "surplus"),
    Analysis("b", findings=(finding(GOOD.with_(flags=("extrapolated",), extra={"prediction_low": 0.0, "prediction_high": 1.0})),)),
])  # fmt: skip
def test_what_is_well_told_passes(analysis):
    check(analysis)


def test_all_breaches_are_told_at_once():
    with pytest.raises(ReportRefused) as caught:
        check(Analysis("significant", findings=(finding(GOOD.with_(n=0)), finding(claim=""))))
    assert len(str(caught.value).splitlines()) == 4
