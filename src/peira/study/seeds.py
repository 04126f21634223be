"""Seeds derived from names, never from the order of execution (specs: statistics §8).

SHA-256 over the parts, joined by `|`, gives an integer; the same parts give the same stream on
every machine, at any parallelism, before or after a resume.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy


def derive(*parts: str | int) -> int:
    """A 64-bit seed from a path of names, e.g. derive(trial_seed, "items")."""
    text = "|".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big")


def generator(*parts: str | int) -> numpy.random.Generator:
    """A numpy Generator seeded by `derive(*parts)` through SeedSequence."""
    from numpy.random import PCG64, Generator, SeedSequence

    return Generator(PCG64(SeedSequence(derive(*parts))))


def replicate_seeds(root: int, count: int) -> list[int]:
    """Seeds of `replicates: count`, all different: the k-th depends on (root, k) and the ones before
    it, so more replicates add trials and never change the old ones. 32-bit, to stay readable and
    JSON-safe; from some 50,000 on two are likely to meet, and the later one is drawn again."""
    seeds: dict[int, None] = {}
    for k in range(1, count + 1):
        seed, again = derive(root, "replicate", k) >> 32, 0
        while seed in seeds:
            again += 1
            seed = derive(root, "replicate", k, again) >> 32
        seeds[seed] = None
    return list(seeds)
