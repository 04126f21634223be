"""Reading what callers pass: lists or arrays, with None or NaN for missing values.

Invariant: nothing is dropped without being counted.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
Seed = int | np.random.Generator | np.random.SeedSequence
Labels = Sequence[Hashable] | NDArray[Any]

#: Values are rounded to this many digits of the largest before they are ranked or compared:
#: 0.3 - 0.2 must tie with 0.1.
TIE_DIGITS = 10


def floats(values: ArrayLike | Sequence[float | None], axes: int = 1) -> Floats:
    """A float array; None becomes NaN. Infinite values are refused, and more than `axes` axes:
    replicates must not pass for units.

    Raises:
        ValueError: a value is infinite or not a number, or there are too many axes.
    """
    array = np.asarray(values)
    if array.dtype == object:
        array = np.vectorize(lambda v: np.nan if v is None else float(v), otypes=[float])(array)
    array = array.astype(np.float64, copy=True)
    if np.isinf(array).any():
        raise ValueError("values must be finite or missing (None, NaN); found an infinity")
    if array.ndim > axes:
        raise ValueError(
            f"values must be one number per unit; got {array.ndim} axes: average replicates first"
        )
    return array


def passes(values: ArrayLike | Sequence[float | None], axes: int = 1) -> Floats:
    """`floats` that are all 0 or 1, or missing. Raises ValueError for others."""
    array = floats(values, axes)
    if not np.isin(array[np.isfinite(array)], (0.0, 1.0)).all():
        raise ValueError("needs 0/1 outcomes; scores have methods of their own")
    return array


def unit_means(values: ArrayLike | Sequence[float | None]) -> tuple[Floats, int]:
    """One value per unit, and the number of rows behind them.

    A two-dimensional input is units x replicates: the unit's value is the mean of its observed
    replicates, missing when it has none. Replicates are never units.
    """
    array = floats(values, axes=2)
    if array.ndim == 1:
        return array, int(np.isfinite(array).sum())
    seen = np.isfinite(array)
    counts = seen.sum(axis=1)
    sums = np.where(seen, array, 0.0).sum(axis=1)
    means = np.full(len(array), np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means, int(counts.sum())


def codes(labels: Labels) -> tuple[Ints, list[Any]]:
    """Integer code of each label, in order of first appearance, and the distinct labels."""
    index: dict[Any, int] = {}
    coded = [index.setdefault(label, len(index)) for label in _plain(labels)]
    return np.asarray(coded, dtype=np.int64), list(index)


def _plain(labels: Labels) -> Sequence[Any]:
    return labels.tolist() if isinstance(labels, np.ndarray) else labels


def kept(labels: Labels, keep: NDArray[Any]) -> list[Any]:
    """The labels of the units that are kept."""
    return [label for label, inside in zip(_plain(labels), keep, strict=True) if inside]


def complete(**columns: Any) -> tuple[list[Floats], int]:
    """The columns over the rows in which all are observed, and how many rows were left out."""
    same_length(**columns)
    table = np.column_stack([floats(column) for column in columns.values()])
    seen = np.isfinite(table).all(axis=1)
    return [np.ascontiguousarray(column) for column in table[seen].T], int((~seen).sum())


def generator(seed: Seed) -> np.random.Generator:
    """The generator of a seed. There is no default: every random result names its seed."""
    if seed is None:
        raise ValueError("a resampling method needs an explicit seed (int or numpy Generator)")
    return np.random.default_rng(seed)


def seed_of(seed: Seed | None) -> int | str | None:
    """The number a result was drawn from: the integer given, or the one its generator began with.

    As text beyond 64 bits. None for a generator that began with no single number.
    """
    if isinstance(seed, np.random.Generator):
        seed = getattr(seed.bit_generator, "seed_seq", None)
    if isinstance(seed, np.random.SeedSequence):
        seed = seed.entropy if isinstance(seed.entropy, int) and not seed.spawn_key else None
    if seed is None:
        return None
    return int(seed) if int(seed) < 2**64 else str(seed)


def same_length(**arrays: Any) -> None:
    """Raise ValueError unless all given sequences have one length; None is ignored."""
    lengths = {name: len(a) for name, a in arrays.items() if a is not None}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {n}" for name, n in lengths.items())
        raise ValueError(f"inputs must be aligned unit by unit; {told}")


def check_positive(**values: float) -> None:
    """Raise ValueError unless all are finite and above zero."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name.replace('_', ' ')} must be positive; got {value}")


def check_level(level: float) -> float:
    """The level, if it is a probability strictly between 0 and 1."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie strictly between 0 and 1; got {level}")
    return level


def tie_grid(values: Floats) -> tuple[Ints, float]:
    """Values as whole multiples of a decimal step, ten digits below the largest, and the step.

    Equal quantities computed differently land on the same integer.
    """
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0:
        return np.zeros(values.shape, dtype=np.int64), 1.0
    digits = min(TIE_DIGITS - math.ceil(math.log10(largest)), 300)
    return np.rint(values * 10.0**digits).astype(np.int64), 10.0**-digits
