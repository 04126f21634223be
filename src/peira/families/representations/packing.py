"""Records of contexts as bytes: what checkpoints hold and new metrics are computed from.

Invariant: packing and unpacking give the same arrays; nothing is pickled.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

BLOCKS = "contexts/"  # beginning of the names of checkpoints that hold contexts


def pack(records: Mapping[int, Mapping[str, Any]]) -> bytes:
    """Records as one uncompressed npz; keys are `<context>|<name>`."""
    out = io.BytesIO()
    flat = {f"{i}|{name}": np.asarray(value) for i, record in records.items()
            for name, value in record.items() if name != "structure"}  # fmt: skip
    np.savez(out, allow_pickle=False, **flat)
    return out.getvalue()


def unpack(data: bytes) -> dict[int, dict[str, Any]]:
    """The inverse of `pack`."""
    found: dict[int, dict[str, Any]] = {}
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        for key in archive.files:
            index, _, name = key.partition("|")
            found.setdefault(int(index), {})[name] = archive[key]
    return found
