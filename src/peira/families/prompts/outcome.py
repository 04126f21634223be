"""What one trial leaves: how its rows ended. Scores are derived from the rows, never stored here,
so that a change of the analysis needs no call."""

from __future__ import annotations

from peira.families.family import Outcome


class PromptsOutcome(Outcome):
    """Rows by status, tokens, and the models that served them."""

    items: int
    planned: int
    rows: dict[str, int]
    prompt_tokens: int
    completion_tokens: int
    served_models: list[str]
