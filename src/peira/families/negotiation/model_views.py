"""The scaling law seen otherwise, and whose doing an outcome is (statistics §3.2).

Invariant: the headline stays the regression over model scores; the errors over games are shown
because readers know them, with the reason why they are not it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peira.families.negotiation.rows import Games, Row
from peira.families.negotiation.scaling_law import OUTCOMES, Law, dyads
from peira.report.analysis import Column, Table
from peira.stats.dyad_models import SocialRelations, crossed_slope, social_relations
from peira.stats.dyads import capability_permutation
from peira.study.seeds import derive

GAME_ERRORS = (
    ("se_iid", "games taken as independent", "too small: the models recur"),
    ("se_pair", "clustered by pair of models", "too small: pairs share models"),
    ("se_two_way", "clustered by first and by second model", "too small below some 40 models"),
    ("se_dyadic", "dyadic sandwich (Aronow)", "a diagnostic below some 50 models"),
    ("se_jackknife", "models left out one by one", "without a model of the dependence"),
)


def views_table(games: Games, law: Law) -> Table:
    """Slope of one law, which must be defined, with its error by every method."""
    rows: list[dict[str, Any]] = [
        {"view": "model scores, t with M - 2 df", "slope": law.slope.estimate, "se": law.slope.se,
         "p": law.slope.p, "note": "the headline"},
    ]  # fmt: skip
    played = dyads(games)
    first, second = [r.models[0] for r in played], [r.models[1] for r in played]
    outcome = next(function for name, _, function in OUTCOMES if name == law.outcome)
    y = [outcome(row) for row in played]
    capability = {m: games.on_axis(m, law.axis) for row in played for m in row.models}
    mixed = crossed_slope(first, second, y, capability, scenario=[str(row.block) for row in played])
    rows.append({
        "view": "mixed model: models, pairs and instances random", "slope": mixed.estimate,
        "se": mixed.se, "p": mixed.p, "note": (mixed.reason or "").replace("_", " "),
    })  # fmt: skip
    shuffled = capability_permutation(
        first, second, y, capability, seed=derive("permutation", law.axis, law.outcome)
    )
    rows.append({
        "view": "capabilities permuted over models", "slope": law.slope.estimate, "se": None,
        "p": None if isinstance(shuffled, str) else shuffled.p, "note": "no error, only a p",
    })  # fmt: skip
    errors = law.diagnostics
    if not isinstance(errors, str):
        rows += [
            {"view": label, "slope": errors.slope, "se": getattr(errors, name), "p": None, "note": note}
            for name, label, note in GAME_ERRORS
        ]  # fmt: skip
    columns = (
        Column("view", "", kind="text"), Column("slope", "slope", digits=4, kind="estimate"),
        Column("se", "standard error", digits=4), Column("p", "p"), Column("note", "", kind="text"),
    )  # fmt: skip
    return Table(
        "slope_views", "The same slope by other methods", columns, tuple(rows),
        "Games are not independent: each model plays many. Errors over games are diagnostics.",
    )  # fmt: skip


def relations_of(rows: Sequence[Row]) -> SocialRelations:
    """Social relations split of both sides' utilities, all games counted."""
    return social_relations(
        [r.models[0] for r in rows], [r.models[1] for r in rows],
        [r.seat_value("utility", 0) for r in rows], [r.seat_value("utility", 1) for r in rows],
    )  # fmt: skip


def relations_table(games: Games) -> Table | None:
    """Variance of utility by actor, partner and relationship; None without a whole round robin."""
    found = relations_of(dyads(games))
    if found.reason is not None:
        return None
    parts = {
        "actor": "who acts", "partner": "whom they meet", "relationship": "the two together",
    }  # fmt: skip
    rows = [
        {"part": label, "variance": getattr(found, name), "share": found.shares.get(name)}
        for name, label in parts.items()
    ]
    if found.error is not None:
        rows.append(
            {
                "part": "the game (error)",
                "variance": found.error,
                "share": found.shares.get("error"),
            }
        )
    columns = (
        Column("part", "utility depends on", kind="text"),
        Column("variance", "variance", digits=1, kind="estimate"),
        Column("share", "share", kind="percent"),
    )  # fmt: skip
    return Table(
        "social_relations", "Whose doing is the outcome?", columns, tuple(rows),
        "Round-robin variance components (Warner, Kenny & Stoto 1979), jackknife over models; a"
        " negative one is noise about zero. All games count, both roles averaged.",
    )  # fmt: skip
