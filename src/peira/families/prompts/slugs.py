"""A trial's folder name: `<model>-<prompt_set>[-tp<p>][-tk<k>]-mx<closed>-<open>`.

Invariant: `decimal_label` is injective on [0, 10), so settings that differ in a named axis differ
in the slug.
"""

from __future__ import annotations

import re
from decimal import Decimal

from peira.families.prompts.settings import PromptsSettings

LONGEST = 100


def decimal_label(value: float) -> str:
    """Shortest decimal, dot removed: 1.0 -> 1, 0.9 -> 09, 0.999 -> 0999, 0 -> 0."""
    text = format(Decimal(repr(float(value))), "f")
    return text.removesuffix(".0").replace(".", "")


def model_label(model: str, aliases: dict[str, str]) -> str:
    """The alias, else the id's last path segment; other characters than letters, digits, `_` and
    `-` become one `-` a run."""
    name = model if model in aliases else model.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "model"


def trial_slug(settings: PromptsSettings, seed: int, identity: str) -> str:
    """The trial's name, at most 100 characters; a cut one ends in `-x` and its identity."""
    parts = [model_label(settings.model, settings.model_aliases), settings.prompt_set]
    if settings.top_p is not None:
        parts.append(f"tp{decimal_label(settings.top_p)}")
    if settings.top_k is not None:
        parts.append(f"tk{settings.top_k}")
    parts.append(f"mx{settings.max_tokens('closed')}-{settings.max_tokens('open')}")
    if settings.id is not None:
        parts.append(settings.id)
    if settings.several_seeds:
        parts.append(f"s{seed}")
    slug = "-".join(parts)
    return slug if len(slug) <= LONGEST else f"{slug[: LONGEST - 10]}-x{identity[:8]}"
