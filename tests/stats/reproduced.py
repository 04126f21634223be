"""Our own numbers in the shape of the reference files: one function per file, one tree each.

A leaf that is absent here must be listed, with a reason, in `test_references.py`.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from scipy.stats import multinomial

import peira.stats as ps
from peira.stats.bootstrap import acceleration, bca_levels, percentile_limits
from peira.stats.intervals import t_p_value
from peira.stats.rank import _doubled_midranks, _signed_rank_normal_p

Tree = dict[str, Any]


def limits(found: Any) -> list[float] | None:
    return [found.low, found.high]


# -- 01: paired pass/fail -------------------------------------------------------------------------
def paired_binary(refs: Any) -> Tree:
    return {"tables": [_table(row) for row in refs.rows("01_paired_tables")]}


def _table(row: dict[str, str]) -> Tree:
    a, b, c, d = (int(row[k]) for k in ("both_pass", "b_gain", "c_loss", "both_fail"))
    n = a + b + c + d
    ratios = {
        m: ps.conditional_odds_ratio(b, c, method=m)
        for m in ("exact", "mid-p", "minlike", "blaker", "wilson")
    }
    names = {"exact": "exact_central", "mid-p": "midp"}
    table: Tree = {
        "n": n, "b": b, "c": c, "p_exact": ps.mcnemar_exact_p(b, c), "p_midp": ps.mcnemar_mid_p(b, c),
        "p_asymptotic": ps.mcnemar_asymptotic_p(b, c),
        "p_asymptotic_cc": ps.mcnemar_asymptotic_p(b, c, correction=True),
        "or_cond": ratios["exact"].estimate, "rd": ps.paired_binary(b, c, n).estimate,
    }  # fmt: skip
    if b and not c:
        table["or_cond"] = [table["or_cond"]]  # R boxes what it writes as text
    for method, ratio in ratios.items():
        # An undefined ratio has no limits; R writes the whole line.
        whole = [0.0, math.inf] if ratio.estimate is None else limits(ratio)
        table[f"or_ci_{names.get(method, method)}"] = whole
    if n:
        table |= {
            "rd_ci_newcombe10": ps.newcombe_limits(a, b, c, d),
            "rd_ci_newcombe_nocorr": ps.newcombe_limits(a, b, c, d, corrected=False),
            "rd_ci_tango": ps.tango_limits(b, c, n),
            "rd_ci_bonett_price": ps.bonett_price_limits(b, c, n),
        }
    return table


def power(refs: Any) -> Tree:
    return {
        "cases": [_power(*(float(v) for v in row.values())) for row in refs.rows("01_power_cases")]
    }


def _power(gain: float, loss: float, n: float) -> Tree:
    return {
        "p01": gain, "p10": loss, "n": n,
        "power_exact_test": ps.mcnemar_power(gain, loss, int(n)),
        "power_midp_test": ps.mcnemar_power(gain, loss, int(n), test="mid-p"),
        "n_connor_80": ps.connor_units(gain, loss) if gain != loss else None,
    }  # fmt: skip


def exact_coverage(refs: Any) -> Tree:
    return {name: _coverage(name) for name in refs.expected("01_exact_coverage")}


def _coverage(name: str) -> Tree:
    n, p11, loss, gain = (float(part.split("=")[1]) for part in name.split(","))
    n = int(n)
    cells = [
        (a, b, c, n - a - b - c)
        for a, b, c in itertools.product(range(n + 1), repeat=3)
        if a + b + c <= n
    ]
    chance = multinomial.pmf(np.array(cells), n, [p11, gain, loss, 1 - p11 - gain - loss])
    likely = [(cell, p) for cell, p in zip(cells, chance.tolist(), strict=True) if p > 1e-7]
    coverage = dict.fromkeys(("tango", "bonett_price", "newcombe10"), 0.0)
    size = dict.fromkeys(("exact", "midp", "asym"), 0.0)
    for (a, b, c, d), p in likely:
        for key, interval in (
            ("tango", _tango(b, c, n)),
            ("bonett_price", ps.bonett_price_limits(b, c, n)),
            ("newcombe10", ps.newcombe_limits(a, b, c, d)),
        ):
            coverage[key] += p * (interval[0] - 1e-9 <= gain - loss <= interval[1] + 1e-9)
        for key, found in (
            ("exact", ps.mcnemar_exact_p(b, c)),
            ("midp", ps.mcnemar_mid_p(b, c)),
            ("asym", ps.mcnemar_asymptotic_p(b, c)),
        ):
            size[key] += p * (found is not None and found <= 0.05)
    return {"coverage": coverage, "size": size}


_KNOWN: dict[tuple[int, int, int], tuple[float, float]] = {}


def _tango(b: int, c: int, n: int) -> tuple[float, float]:
    if (b, c, n) not in _KNOWN:
        _KNOWN[b, c, n] = ps.tango_limits(b, c, n)
    return _KNOWN[b, c, n]


# -- 02: paired scores ----------------------------------------------------------------------------
def paired_continuous(refs: Any) -> Tree:
    return {"sets": {name: _set(name, *arms) for name, arms in refs.paired_sets().items()}}


def _set(name: str, t: np.ndarray, c: np.ndarray) -> Tree:
    d = t - c
    hl, mean, against = ps.hodges_lehmann(t, c), ps.t_interval(d), ps.dominance(t, c)
    d_z = ps.standardised_difference(t, c, kind="d_z")
    tree: Tree = {
        "n": hl.n, "mean_diff": mean.estimate, "hodges_lehmann": hl.estimate,
        "hl_ci_walsh_exact": limits(hl), "hl_ci_achieved_conf": hl.extra.get("achieved_level"),
        "signflip_mean_exact_p": ps.sign_flip(t, c, seed=1).p,
        "t_p": mean.p, "t_ci": limits(mean), "t": mean.estimate / mean.se if mean.se else None,
        "sd_diff": mean.se * math.sqrt(mean.n) if mean.se else None,
        "d_z": d_z.estimate, "d_z_ci_nct": limits(d_z),
        "hedges_gz": ps.standardised_difference(t, c).estimate,
        "d_av": ps.standardised_difference(t, c, kind="d_av").estimate,
        "tost": {f"margin_{margin}": _margins(t, c, margin) for margin in (0.01, 0.05)},
        "cliffs_delta_unpaired": ps.cliffs_delta(t, c).estimate,
        "sign_stat_paired": against.estimate,
        "prob_superiority_paired": against.extra["probability_of_superiority"],
        **_signed_ranks(t, c),
    }  # fmt: skip
    tree["rank_biserial_matched"] = ps.wilcoxon(t, c).estimate
    if name.startswith("G_"):
        tree["boot_exhaustive"] = _exhaustive(d)
    if name.startswith("C_"):
        draws = np.random.default_rng(3).integers(0, d.size, (100_000, d.size))
        tree["boot_mean"] = {
            "bca": [*ps.bca_limits(d, None, 0.95, 7, resamples=100_000)],
            "percentile": [*percentile_limits(d[draws].mean(axis=1), 0.95)],
        }
    return tree


def _signed_ranks(t: np.ndarray, c: np.ndarray) -> Tree:
    tree: Tree = {}
    whole = np.rint((t - c) * 1e10).astype(np.int64)
    for zeros, key, short in (
        ("drop", "wilcoxon_zeros_dropped", "wilcoxon"),
        ("pratt", "wilcoxon_pratt", "pratt"),
    ):
        found = ps.wilcoxon(t, c, zeros=zeros)
        tree[key] = {k: found.extra[k] for k in ("W_plus", "W_minus")} | {"p_exact": found.p}
        tree[f"coin_{short}_exact_p"] = found.p
        doubled = _doubled_midranks(whole, zeros)
        if whole.any():
            plus = int(doubled[whole > 0].sum())
            tree[f"coin_{short}_asym_p"] = _signed_rank_normal_p(
                doubled[whole != 0], plus, continuity=False
            )
    for other in ("base_wilcox_p", "exactRankTests_p"):
        tree[other] = tree["wilcoxon_zeros_dropped"]["p_exact"]
    return tree


def _margins(t: np.ndarray, c: np.ndarray, margin: float) -> Tree:
    above, both = ps.noninferiority(t, c, margin=margin), ps.equivalence(t, c, margin=margin)
    upper = above.extra.get("p_below_upper_margin")
    return {"p_noninferiority": above.p, "p_upper": upper, "p_tost": both.p, "ci90": limits(above)}


def _exhaustive(d: np.ndarray) -> Tree:
    """All 7^7 resamples through our BCa levels."""
    d = d.round(10)
    means = np.array([sum(p) for p in itertools.product(d, repeat=7)]).round(9) / 7
    estimate = round(d.sum(), 9) / 7
    below, at_or_below = ((means < estimate - 1e-12).mean(), (means <= estimate + 1e-12).mean())
    skew = acceleration(np.array([np.delete(d, i).mean() for i in range(7)]))
    levels = {
        "bca_midtie": bca_levels(below, at_or_below, skew, 0.95),
        "bca_strict": bca_levels(below, below, skew, 0.95),
    }
    return {
        "n_resamples": means.size, "acceleration": skew, "P_less": below, "P_less_eq": at_or_below,
        **{
            name: {"levels": list(at), "ci": np.quantile(means, at, method="inverted_cdf").tolist()}
            for name, at in levels.items()
        },
    }  # fmt: skip


# -- 04: multiplicity -----------------------------------------------------------------------------
ADJUSTMENTS = {
    "holm": ps.holm, "hochberg": ps.hochberg, "hommel": ps.hommel, "bonferroni": ps.bonferroni,
    "BH": ps.benjamini_hochberg, "BY": ps.benjamini_yekutieli,
}  # fmt: skip


def multiplicity(refs: Any) -> Tree:
    sets: Tree = {}
    for name, want in refs.expected("04_multiplicity_R")["sets"].items():
        if name not in ("with_missing", "dunnett"):
            sets[name] = {key: list(rule(want["p"]).adjusted) for key, rule in ADJUSTMENTS.items()}
            sets[name]["p"] = list(ps.holm(want["p"]).p)
    p = [0.01, None, 0.03, 0.04]
    sets["with_missing"] = {"p": p}
    for name, rule in (("BH", ps.benjamini_hochberg), ("holm", ps.holm)):
        observed = iter(rule([v for v in p if v is not None]).adjusted)
        sets["with_missing"] |= {
            f"{name}_planned_m4": list(rule(p).adjusted),
            f"{name}_observed_m3": [None if v is None else next(observed) for v in p],
        }
    sets["dunnett"] = _dunnett(refs)
    return {"sets": sets}


def _dunnett(refs: Any) -> Tree:
    arms: dict[str, list[float]] = {}
    for row in refs.rows("04_dunnett"):
        arms.setdefault(row["arm"], []).append(float(row["y"]))
    df = sum(len(v) for v in arms.values()) - len(arms)
    found = list(ps.dunnett(arms, arms.pop("control"), seed=1).values())
    plain = [t_p_value(each.extra["t"], df) for each in found]
    return {
        "estimate": [each.estimate for each in found], "t": [each.extra["t"] for each in found],
        "p_dunnett_single_step": [each.p for each in found], "p_unadjusted": plain,
        "p_holm": list(ps.holm(plain).adjusted), "ci_simultaneous": [limits(each) for each in found],
    }  # fmt: skip


# -- 08: rates, averages, ties, pooling -----------------------------------------------------------
def misc(refs: Any) -> Tree:
    cases = refs.expected("08_misc_R")["refs"]
    swept = ps.bradley_terry(["a"] * 5, ["b"] * 5, [1] * 5, reference="b")
    sizes = cases["aggregation"]
    law = [math.comb(5, c) * 0.8**c * 0.2 ** (5 - c) for c in range(6)]
    return {
        "refs": {
            "pass_k": [_pass_k(case["n"], case["c"], case["k"]) for case in cases["pass_k"]],
            "pass_hat_k_bias": {"E_unbiased": sum(p * ps.pass_hat_k(5, c, 5) for c, p in enumerate(law))},
            "aggregation": {
                "micro_se": ps.micro_average([0, 1], sizes["se"], sizes["n"]).se,
                "macro_se": ps.macro_average([0, 1], sizes["se"]).se,
            },
            "davidson_ties": _davidson(cases["davidson_ties"]["table"]),
            "bt_separation": {
                "jeffreys_half_pseudo_logit": swept.ability[0], "elo": swept.elo[0],
            },
            "single_rate": [_rate(case["x"], case["n"]) for case in cases["single_rate"]],
            "meta": _meta(cases["meta"]["y"], cases["meta"]["se"]),
        }
    }  # fmt: skip


def _pass_k(n: int, c: int, k: int) -> Tree:
    return {
        "n": n,
        "c": c,
        "k": k,
        "pass_at_k_unbiased": ps.pass_at_k(n, c, k),
        "pass_hat_k_unbiased": ps.pass_hat_k(n, c, k),
    }


def _rate(x: int, n: int) -> Tree:
    rules = {"wilson": ps.wilson, "clopper_pearson": ps.clopper_pearson, "jeffreys": ps.jeffreys}
    return {"x": x, "n": n, **{name: limits(rule(x, n)) for name, rule in rules.items()}}


def _davidson(table: list[Tree]) -> Tree:
    games = [
        (row["i"], row["j"], outcome)
        for row in table
        for key, outcome in (("wi", 1.0), ("wj", 0.0), ("t", 0.5))
        for _ in range(row[key])
    ]
    found = ps.davidson(*(list(column) for column in zip(*games, strict=True)))
    return {
        "theta": list(found.ability[1:]), "log_nu": found.log_nu, "nu": math.exp(found.log_nu or 0.0),
        "se": [*found.se[1:], found.log_nu_se], "negloglik": -(found.log_likelihood or 0.0),
    }  # fmt: skip


def _meta(y: list[float], se: list[float]) -> Tree:
    found = ps.meta_analysis(y, se)
    return {
        "fixed": found.fixed.estimate, "se_fixed": found.fixed.se, "Q": found.q, "I2": found.i2,
        "tau2_DL": found.tau2, "random": found.random.estimate, "se_random": found.se_random_normal,
        "se_hksj": found.random.se, "ci_hksj_t": limits(found.random),
        "prediction_interval": list(found.prediction or ()),
    }  # fmt: skip


# -- 10: hashes -----------------------------------------------------------------------------------
def spec_hashes(refs: Any) -> Tree:
    vectors = refs.expected("10_spec_hash")["vectors"]
    return {
        "vectors": [
            {
                "canonical_utf8": ps.canonical_json(v["object"]).decode(),
                "sha256": ps.spec_hash(v["object"]),
            }
            for v in vectors
        ]
    }
