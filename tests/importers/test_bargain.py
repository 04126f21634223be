"""All 60 recorded games of real models: recomputed outcomes equal the recorded ones; ten replayed."""

from collections import Counter
from pathlib import Path

import orjson
import pytest

from peira import api
from peira.errors import InputError
from peira.families.negotiation.protocol import tabulate
from peira.importers import bargain
from peira.importers.base import Notes, write_run
from peira.store.records import RunView


@pytest.fixture(scope="module")
def games(shared_data):
    return [bargain.read_game(path) for path in bargain.results(shared_data / "bargain")]


def test_every_recorded_outcome_is_recomputed_exactly(games):
    assert len(games) == 60
    for game in games:
        deal, final = game.deal()
        assert (deal is not None) == game.recorded["consensus_reached"], game.name
        assert final == game.recorded["final_round"], game.name
        if deal is not None:
            recorded = [game.recorded["final_utilities"][agent] for agent in game.agents]
            assert game.game.utilities(deal) == pytest.approx(recorded, abs=bargain.TOLERANCE)
        assert bargain.discrepancies(game) == []


def test_vote_counts_from_raw_replies_equal_the_tabulations(games):
    rounds = [played for game in games for played in game.rounds if played.votes is not None]
    assert len(rounds) > 150
    for played in rounds:
        assert tuple(tabulate(played.proposals, played.votes)) == played.counts


def test_a_record_that_contradicts_itself_is_imported_as_failed(games):
    game = next(g for g in games if g.recorded["consensus_reached"])
    wrong = {**game.recorded, "final_round": 99}
    import dataclasses

    trial = bargain.trial_of(dataclasses.replace(game, recorded=wrong), 1)
    assert trial.state == "failed" and "final round: recorded 99" in trial.message


def test_the_ladder_reads_every_vote_and_refuses_offers_for_a_reason(games):
    table = bargain.ladder(games)
    by = Counter()
    for row in table:
        by[row["phase"], row["rung"], row["fault"]] += row["replies"]
    assert by["vote", "strict", ""] == 676 and by["thinking", "strict", ""] == 438
    assert sum(n for (phase, _, _), n in by.items() if phase == "proposal") == 438
    assert by["proposal", "strict", ""] == 347
    assert {f for (p, _, f) in by if p == "proposal"} == {
        "",
        "not given to any agent",
        "unknown agent …",
    }


def test_the_import_is_a_run_that_the_ordinary_analysis_reads(shared_data, tmp_path):
    source = shared_data / "bargain"
    run = write_run(tmp_path / "run", bargain.FAMILY, bargain.read(source, Notes()), "test")
    with RunView(run) as view:
        assert view.tally.done == 60
        from peira.families.negotiation.analysis import analyse

        told = analyse(view)
        names = {table.name for table in told.tables}
    assert {"cells", "normalised", "exploitation", "behaviour"} <= names
    assert "scaling" not in names  # five linked models: no slope is told below six
    assert "over 14 pairs: -2.8 [-5.4, -0.2] points over 57 instances" in told.answer
    assert len(told.files["claims.json"]) > 100
    assert all(claim["quote"] for claim in told.files["claims.json"])


def legal(game):
    """Every offer is one that our rules allow, and votes were recorded."""
    replies = [e for e in game.interactions if e["phase"].startswith("proposal_")]
    made = [bargain.read_offer(e["response"], game.names) for e in replies]
    return all(o.allocation for o in made) and all(r.votes is not None for r in game.rounds)


def test_ten_recorded_games_replay_through_the_engine(games, tmp_path):
    chosen = [game for game in games if legal(game)][:10]
    assert len(chosen) == 10 and sum(len(g.rounds) for g in chosen) > 10
    for game in chosen:
        study = bargain.write_replay(game, tmp_path)
        report = api.run(study, api.Options(run_dir=tmp_path / f"run-{game.name}"))
        assert report.exit_code == 0, report.message
        with RunView(report.path) as view:
            outcome = next(view.done()).outcome
        assert outcome["consensus"] == game.recorded["consensus_reached"]
        assert outcome["final_round"] == game.recorded["final_round"]
        if outcome["consensus"]:
            recorded = [game.recorded["final_utilities"][a] for a in game.agents]
            assert outcome["raw"] == pytest.approx(recorded, abs=bargain.TOLERANCE)


def test_a_folder_without_games_and_a_broken_file_are_named(tmp_path: Path):
    with pytest.raises(InputError, match="no game below"):
        bargain.results(tmp_path)
    (tmp_path / "experiment_results.json").write_bytes(orjson.dumps({"config": {}}))
    (tmp_path / "all_interactions.json").write_bytes(b"[]")
    with pytest.raises(InputError, match="not a recorded game"):
        bargain.read_game(tmp_path / "experiment_results.json")
