"""Seeds come from names, never from the order of execution."""

from peira.study.seeds import derive, generator, replicate_seeds
from peira.study.study import Study, canonical, trial_id


def test_seeds_are_pinned_for_ever():
    assert derive(42, "items") == 14067511510288997186
    assert replicate_seeds(0, 5)[:2] == replicate_seeds(0, 2) == [2390342686, 1370615918]


def test_streams_of_different_purposes_differ_and_repeat():
    first, again = generator(1, "a").random(4), generator(1, "a").random(4)
    assert (first == again).all()
    assert (first != generator(1, "b").random(4)).all()


def test_identity_ignores_spelling_of_numbers_and_order_of_keys():
    one = trial_id("f", 1, canonical({"b": 0.0, "a": 1}), 7)
    assert one == trial_id("f", 1, canonical({"a": 1, "b": 0}), 7)
    assert len(one) == 32


def test_identity_changes_with_family_version_settings_and_seed():
    base = ("f", 1, canonical({"a": 1}), 7)
    others = [
        ("g", *base[1:]),
        ("f", 2, *base[2:]),
        ("f", 1, canonical({"a": 2}), 7),
        (*base[:3], 8),
    ]
    assert len({trial_id(*each) for each in (base, *others)}) == 5


def test_explicit_seeds_are_used_as_they_are():
    assert Study(family="x", seeds=[42, 123]).trial_seeds == [42, 123]
    assert len(set(Study(family="x", replicates=50).trial_seeds)) == 50


def test_many_replicates_all_differ_and_more_of_them_change_none():
    many = replicate_seeds(0, 120_000)
    assert len(set(many)) == 120_000, "32-bit seeds meet from some 50,000 on"
    assert replicate_seeds(0, 1000) == many[:1000]
