"""Graphs, walks and words: what is drawn, and what is refused."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peira.errors import InputError
from peira.families.representations import contexts, graphs, walks, words
from peira.families.representations.settings import RepresentationSettings
from peira.families.representations.trial import resolve


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 100_000), spec=st.sampled_from(["sbm", "deep", "conflict", "dual"]))
def test_drawn_graphs_are_simple_connected_and_repeatable(seed: int, spec: str) -> None:
    g = graphs.draw(spec, seed)
    assert np.array_equal(g.adjacency, g.adjacency.T)
    assert not np.diag(g.adjacency).any()
    assert graphs.components(g.adjacency).max() == 0
    assert np.array_equal(g.adjacency, graphs.draw(spec, seed).adjacency)


def test_dual_shares_enough_and_differs_enough() -> None:
    g = graphs.draw("dual", 7)
    shared, second = g.extra["shared"], g.extra["second"]
    assert np.bincount(graphs.components(shared)).max() >= 12
    assert min((g.adjacency - shared).sum(), (second - shared).sum()) / 2 >= 5


def test_crossed_partitions_share_one_node_and_stay_nine_times_of_ten() -> None:
    one, two = graphs.crossed()
    for a in range(4):
        for b in range(4):
            assert ((one.clusters == a) & (two.clusters == b)).sum() == 1
    law = one.steps()
    assert (law * one.adjacency).sum(1) == pytest.approx(np.full(16, 0.9))


def test_the_guides_graph_has_the_guides_face() -> None:
    g = graphs.HierarchicalGraph(graphs.HierarchicalGraphConfig(seed=1))
    text, nodes = g.generate_random_walk(30, return_nodes=True)
    assert [g.token_to_node[word] for word in text.split()] == nodes
    assert all(b in g.get_neighbors(a) for a, b in pairwise(nodes))
    assert len(g.generate_random_walk().split()) == 50
    batch = g.generate_batch(3, 10)
    assert [len(b["nodes"]) for b in batch] == [10] * 3
    assert g.num_nodes == 15 and g.get_cluster(14) == 2
    again = graphs.HierarchicalGraph(graphs.HierarchicalGraphConfig(seed=1))
    assert again.generate_random_walk(30) == text


def test_lazy_and_pair_walks() -> None:
    g = graphs.draw("ring:8", 0)
    rng = np.random.default_rng(0)
    lazy = walks.Walk.parse("lazy:0.5")
    stays = walks.walk_nodes(g.steps(lazy), 4000, rng)
    assert np.mean(np.diff(stays) == 0) == pytest.approx(0.5, abs=0.03)
    pairs = walks.pair_nodes(g.adjacency, 40, rng)
    assert all(g.adjacency[a, b] for a, b in zip(pairs[::2], pairs[1::2], strict=True))


@pytest.mark.parametrize("spec", ["rng:10", "ring:2", "grid:4", "sbm:3", "none.csv", ""])
def test_unknown_graphs_are_refused_with_what_is_allowed(spec: str) -> None:
    with pytest.raises(InputError, match="allowed"):
        graphs.draw(spec, 0)


@pytest.mark.parametrize("text", ["lazy", "lazy:1", "lazy:x", "random", "uniform:2"])
def test_unknown_walks_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="allowed"):
        walks.Walk.parse(text)


def test_edge_lists_are_read(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    path.write_text("from,to,weight\na,b,1\nb,c,2\nc,d,1\nd,a,1\n")
    g = graphs.draw(str(path), 0)
    assert g.num_nodes == 4 and g.adjacency.sum() == 8
    assert g.steps()[1].max() == pytest.approx(2 / 3)


@pytest.mark.parametrize("weight", ["x", "0", "-1", "nan", "inf"])
def test_a_weight_that_is_no_weight_is_named(tmp_path: Path, weight: str) -> None:
    path = tmp_path / "g.csv"
    path.write_text(f"a,b,1\nb,c,{weight}\n")
    with pytest.raises(InputError, match=r"b,c[^$]*above 0"):
        graphs.draw(str(path), 0)


def test_the_vocabulary_is_large_and_without_duplicates() -> None:
    every = words.all_words()
    assert len(set(every)) == len(every) >= 400
    assert len(words.tiny_words()) == 163
    assert set(words.groups()["park"]) >= {"apple", "bird", "math", "sand"}


def test_too_few_words_is_an_error_not_a_repetition() -> None:
    with pytest.raises(InputError, match="remedy"):
        words.vocabulary("words", None).draw(5000, np.random.default_rng(0))


def test_a_context_depends_on_its_index_alone() -> None:
    g = graphs.draw("sbm", 0)
    plan = contexts.Plan(42, g, words.vocabulary("words", None), walks.Walk(), 60)
    first = [contexts.draw_context(plan, i) for i in range(3)]
    again = contexts.draw_context(plan, 2)
    assert np.array_equal(first[2].natural.ids, again.natural.ids)
    assert first[1].words != again.words
    longer = contexts.draw_context(contexts.Plan(42, g, plan.vocabulary, walks.Walk(), 90), 2)
    assert longer.words == again.words


def test_words_that_split_into_pieces_are_dropped() -> None:
    def encode(text: str) -> list[int]:
        ids = {"cat": [1], "dog": [2], "sun": [3], "tiger": [4, 5]}
        return [i for word in text.split() for i in ids.get(word, [9, 9])]

    found = words.vocabulary("words", encode, 12)
    assert set(found.words) == {"cat", "dog", "sun"} and "tiger" in found.dropped
    assert not {1, 2, 3} & set(found.outside)


def test_conflict_words_take_one_of_each_group_per_cluster() -> None:
    g = graphs.draw("conflict", 3)
    chosen = graphs.conflict_words(g, words.groups(), np.random.default_rng(0))
    kinds = [words.group_of(w) for w in chosen]
    for cluster in range(3):
        assert len({kinds[i] for i in np.flatnonzero(g.clusters == cluster)}) == 4


class _Swallowing:
    """A tokenizer that reads one token as another."""

    def __init__(self, broken: int) -> None:
        self.broken = broken

    def decode(self, ids: list[int]) -> str:
        return " ".join(map(str, ids))

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return [int(i) + 9_999 * (int(i) == self.broken) for i in text.split()]


def test_a_context_is_the_same_whatever_words_others_had_to_drop() -> None:
    settings = RepresentationSettings(experiment="css", model="sim:mixer")
    alone, later = (resolve(settings, 7, "sim:mixer") for _ in range(2))
    plain = alone.draw(3)
    broken = int(later.draw(0).natural.ids[0])
    for spec in (alone, later):
        spec.model.tokenizer = _Swallowing(broken)
    assert later.draw(0).natural.ids.tolist() != alone.draw(3).natural.ids.tolist()
    assert later.dropped and broken not in later.draw(0).node_ids
    assert later.draw(3).natural.ids.tolist() == alone.draw(3).natural.ids.tolist()
    assert broken in plain.node_ids or later.draw(3).words == plain.words
