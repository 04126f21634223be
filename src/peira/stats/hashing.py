"""The hash of a frozen specification, and seeds that follow from it.

Invariant: key order and whitespace do not change the hash (RFC 8785), NaN and infinities are
refused, and a seed depends on what a draw is for, never on when it is made.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np


def canonical_json(value: Any) -> bytes:
    """RFC 8785 canonical JSON as UTF-8.

    Raises:
        ValueError: NaN, an infinity, an integer beyond 2^53, or a type JSON does not have.
    """
    import rfc8785

    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as error:
        raise ValueError(f"cannot be written as canonical JSON: {error}") from error


def spec_hash(value: Any) -> str:
    """SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def seed_sequence(spec: str, *purpose: str | int) -> np.random.SeedSequence:
    """The SeedSequence of a purpose (stage, item, arm, role, replicate …) under a spec hash.

    From SHA-256 of the canonical JSON list, so ("a", "bc") and ("ab", "c") differ.
    """
    digest = hashlib.sha256(canonical_json([spec, *purpose])).digest()
    return np.random.SeedSequence(np.frombuffer(digest, dtype=">u4").astype(np.uint32).tolist())


def derived_generator(spec: str, *purpose: str | int) -> np.random.Generator:
    """A numpy Generator of its own for a purpose. Store the numpy version with results."""
    return np.random.default_rng(seed_sequence(spec, *purpose))
