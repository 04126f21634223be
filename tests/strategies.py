"""What fuzzing draws from: files of every form the reader knows, and replies of every shape."""

import json

from hypothesis import strategies as st

from peira.testing.hostile import TEXTS

FIELDS = {
    "study": (
        "family", "name", "fixed", "factors", "zip", "cells", "exclude", "seeds", "replicates",
        "limits", "subjects", "analysis", "stop", "output_dir", "save_individual_runs",
    ),
    "batch": (
        "experiment_name", "base_scenario", "runs_per_variation", "max_parallel", "timeout_per_run",
        "budget_limit", "cost_per_run_limit", "variations", "output_dir", "save_individual_runs",
        "aggregate_metrics", "subjects",
    ),
    "evaluation": (
        "model_id", "models", "prompt_sets", "temps", "top_k", "max_new_tokens", "data", "stats",
        "sizes", "paths", "limits", "provider", "trials", "simulated", "subjects",
    ),
    "config": (
        "experiment_id", "weak_model", "strong_model", "models", "model_order", "competition_level",
        "run_number", "num_items", "max_rounds", "random_seed", "output_dir",
    ),
}  # fmt: skip
WORDS = st.sampled_from(
    ["negotiation", "prompts", "scenarios", "representations", "sim:skill=0.5", "control", "type",
     "treatment", "actor", "actor_model", "values", "level", "a/b", "..", "", "\0", "null", "${x}",
     "1e999", "2020-01-01", "é", "\ud7ff", "x" * 300, "main", "model", "outcome", "a[0].b", "str", "x.y"]
)  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
SOUND = {
    "study": {"family": "negotiation", "fixed": {"models": ["sim:skill=0.1", "sim:skill=0.2"]}},
    "batch": {"experiment_name": "x", "base_scenario": "scenarios/hello-scenario"},
    "evaluation": {"model_id": "sim:respondent", "prompt_sets": {"a": {"control": "c.txt"}}},
    "config": {"weak_model": "a", "strong_model": "b", "models": ["a", "b"], "random_seed": 1},
}


@st.composite
def files(draw) -> dict:
    """A sound file of one form, some of its fields replaced by anything."""
    form = draw(st.sampled_from(sorted(FIELDS)))
    changes = draw(st.dictionaries(st.sampled_from(FIELDS[form]), VALUES, max_size=3))
    return SOUND[form] | changes


KEYS = st.sampled_from(
    ["allocation", "reasoning", "votes", "vote", "vote_decision", "strategy", "key_priorities",
     "action", "prose", "partners", "message", "messages", "metrics", "goals", "world", "verdict",
     "Agent 1", "Agent 2", "Apple", "0", "1", "proposal", "accept", "²"]
)  # fmt: skip
SAID = st.sampled_from(sorted(TEXTS.values(), key=len)[:-4]) | st.text(max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | KEYS | SAID,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | SAID, inner, max_size=4),
    max_leaves=12,
)


@st.composite
def replies(draw) -> str:
    """A reply: JSON of any shape, whole, cut, fenced, thought about first, or plain text."""
    text = draw(JSON.map(json.dumps) | SAID)
    text = text[: draw(st.integers(0, len(text)))] if draw(st.booleans()) else text
    before, after = draw(
        st.sampled_from(
            [("", ""), ("```json\n", "\n```"), ("<think>x</think>", ""), ("<think>", ""),
             ("## Action\n", "\n## Reasoning:\nx"), ("**ACTION**: ", "\nPARTNERS: a, b"), ("{", "}")]
        )
    )  # fmt: skip
    return before + text + after
