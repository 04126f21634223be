"""What an analysis says: tables, findings, an answer. Plain data, rendered elsewhere.

Invariant: a finding carries its estimate with interval, n, missing and method (statistics §0.2); an
undefined number is None with a reason, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from peira.stats.result import Estimate

Role = Literal["confirmatory", "exploratory"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table. `digits` rounds numbers; `kind` steers alignment and rendering."""

    key: str
    label: str
    digits: int | None = None
    unit: str = ""
    kind: Literal["text", "number", "estimate", "percent", "usd"] = "number"

    @classmethod
    def text(cls, key: str, label: str = "") -> Column:
        """A column of words; its label is its key, if none is given."""
        return cls(key, label or key, kind="text")

    @classmethod
    def whole(cls, key: str, label: str = "") -> Column:
        """A column of whole numbers."""
        return cls(key, label or key, 0)

    @classmethod
    def estimate(cls, key: str, label: str = "", digits: int | None = None) -> Column:
        """A column of estimates with their intervals."""
        return cls(key, label or key, digits, kind="estimate")


@dataclass(frozen=True, slots=True)
class Table:
    """A tidy table. A cell may hold a number, a text, None, or an Estimate."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Any], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One claim with its evidence. `claim` says the estimand in words; `unit` is the unit of
    independent sampling; `p_adjusted` belongs to confirmatory findings, `q` to exploratory."""

    name: str
    claim: str
    estimate: Estimate
    role: Role = "exploratory"
    family: str = ""
    unit: str = "trial"
    p_adjusted: float | None = None
    q: float | None = None
    truth: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Strict-JSON form."""
        data: dict[str, Any] = {
            name: getattr(self, name) for name in self.__slots__ if name != "estimate"
        }
        return data | {"estimate": self.estimate.to_dict()}


@dataclass(frozen=True, slots=True)
class Analysis:
    """All that an analysis says of one run. `files` go to analysis/ as JSON."""

    answer: str
    tables: tuple[Table, ...] = ()
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    files: Mapping[str, Any] = field(default_factory=dict)
    sections: Mapping[str, str] = field(default_factory=dict)
