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


# -- what other tools recorded ------------------------------------------------------------------
GAME = {
    "experiment_id": "e", "consensus_reached": False, "final_round": 2, "timestamp": 1.0,
    "config": {"t_rounds": 2, "gamma_discount": 0.9, "competition_level": 0.5, "random_seed": 1,
               "agents": ["a_1", "b_2"], "items": [{"name": "Apple"}, {"name": "Jewel"}]},
    "final_utilities": {"a_1": 0.0, "b_2": 0.0},
    "agent_performance": {"a_1": {"model": "a"}, "b_2": {"model": "b"}},
    "conversation_logs": [
        {"phase": "proposal", "round": 1, "from": "a_1", "content": "x", "agent_id": "a_1",
         "proposal": {"allocation": {"a_1": [0], "b_2": [1]}}},
    ],
}  # fmt: skip
SAYS = "0: Apple → 5.00/10\n1: Jewel → 3.00/10\n  0: Apple (your value: 5.0)\n  1: Jewel (your value: 3.0)"
CALLS = [
    {"timestamp": 1.0, "experiment_id": "e", "agent_id": agent, "phase": phase, "round": number,
     "prompt": SAYS, "response": '{"allocation": {"a_1": [0], "b_2": [1]}}'}
    for agent in ("a_1", "b_2")
    for phase, number in (("preference_assignment", 0), ("proposal_round_1", 1))
]  # fmt: skip
STATE = {
    "scenario_name": "s",
    "current_turn": 2,
    "turns": 2,
    "status": "completed",
    "actors": {"regulator": {"short_name": "regulator", "llm_model": "m"}},
    "world_state": {"turns": [{"turn": 1, "content": "w"}]},
    "actor_decisions": [{"turn": 1, "actor": "regulator", "action": "x", "reasoning": "y"}],
    "execution_metadata": {"seed": 1, "start_time": "2026-01-01T00:00:00", "end_time": None},
}
ROW = ("custom_id,dataset,item_id,condition,temp,sample_index,type,request_id,finish_reason,"
       "response_text,prompt_tokens,completion_tokens,total_tokens\n"
       "nq|1|control,nq,q1,control,0.0,0,closed,r,stop,Rome,9,3,12\n"
       "nq|1|treatment,nq,q1,treatment,0.0,0,closed,r,stop,Paris,9,3,12\n")  # fmt: skip
SLUG = "run_r1/gpt-operational_only-tp1-tk50-mx1024-1024"
RECORDED = {  # importer -> the files of a sound recording; text stays text
    "bargain": {"game/experiment_results.json": GAME, "game/all_interactions.json": CALLS},
    "scenario-lab": {
        "batch-config.yaml": {
            "experiment_name": "x", "base_scenario": "scenarios/test-regulation-negotiation",
            "variations": [{"type": "actor_model", "actor": "regulator", "values": ["m", "n"]}],
        },
        "batch-state.json": {
            "variations": [{"variation_id": 1, "description": "d",
                            "modifications": {"actor_models": {"regulator": "m"}}}],
            "failed_runs": [{"run_id": "var-001-run-002", "error": "e"}],
        },
        "batch-costs.json": {"run_costs": [{"run_id": "var-001-run-001", "cost": 0.1}]},
        "runs/var-001-run-001/scenario-state.json": STATE,
        "runs/var-001-run-001/metrics.json": {
            "metrics_by_turn": {"1": {"level": 2}}, "definitions": {"level": {"type": "int"}},
        },
        "runs/var-001-run-001/costs.json": {
            "total_cost": 0.1, "costs_by_actor": {"regulator": 0.1}, "by_turn": [0.1],
        },
    },
    "excellence": {
        f"{SLUG}/results/predictions.csv": ROW,
        f"{SLUG}/results/costs.json": {"usd": 0.5},
        "run_r1/multi_trial_manifest.json": {
            "trials": [{"slug": SLUG.partition("/")[2], "model_id": "m", "prompt_set": "p"}]},
        f"{SLUG}/effective_config.yaml": {
            "model_id": "m", "paths": {"prepared_dir": "data/prepared"}, "temps": [0.0],
            "prompt_sets": {"p": {"control": "c.txt"}}},
        "data/prepared/closed_book.jsonl": {
            "dataset": "nq", "id": "q1", "question": "?", "answers": ["Paris"], "context": None,
            "is_unanswerable": False},
    },
    "icl-influence": {
        "run/results.json": {
            "model": "gpt2", "experiment": "css", "config": {"n_contexts": 2, "layers": [0]},
            "results": {"layer_0": {"css_per_token": [0.1, 0.2], "dirichlet_energy": 0.4,
                                    "cluster_separation": 2.0}}},
        "run/config.json": {"model": "gpt2", "seed": 1, "n_contexts": 2},
    },
    "iclr-induction": {"sequence.json": ["a", "b"], "pca.npz": "x", "accuracies.npz": "x"},
}  # fmt: skip


@st.composite
def recordings(draw) -> tuple[str, dict[str, str]]:
    """(importer, file -> text): a sound recording, one place in up to two files replaced by anything."""
    kind = draw(st.sampled_from(sorted(RECORDED)))
    files = dict(RECORDED[kind])
    for name in draw(st.lists(st.sampled_from(sorted(files)), max_size=2, unique=True)):
        picks = draw(st.lists(st.integers(0, 20), max_size=5))
        files[name] = _replaced(files[name], picks, draw(VALUES))
    return kind, {n: v if isinstance(v, str) else json.dumps(v) for n, v in files.items()}


def _replaced(tree, picks: list[int], value):
    """The tree with `value` where the picks lead: the n-th child of each level."""
    if not picks or not isinstance(tree, dict | list) or not tree:
        return value
    keys = list(tree) if isinstance(tree, dict) else range(len(tree))
    key = keys[picks[0] % len(keys)]
    changed = tree.copy()
    changed[key] = _replaced(tree[key], picks[1:], value)
    return changed
