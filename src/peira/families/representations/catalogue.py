"""The experiments by name: what each asks, on what data, at what lengths. Light: no numpy here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from peira.errors import InputError

STEPS = (10, 20, 30, 50, 75, 100, 150, 200)


@dataclass(frozen=True)
class Entry:
    """One experiment. `script` is its name in the guide; `module` its file in `experiments/`."""

    name: str
    script: str
    question: str
    graph: str
    lengths: tuple[int, ...]
    conditions: tuple[str, ...] = ("main",)
    modes: tuple[str, ...] = ()
    window: int | None = 200
    null: tuple[str, ...] = ("shuffled",)
    layers: tuple[int, ...] | None = None
    open_conditions: bool = False  # a condition may be any graph
    only: bool = False  # made for its own graph, and no other
    figures: tuple[str, ...] = field(default=())
    further: dict[str, tuple[str, ...]] = field(default_factory=dict)  # figures of a condition
    sequences: int = 2  # forwarded per context: natural and shuffled, and what the experiment adds

    def rows(self, length: int) -> int:
        """Roughly how many sequences a context of `length` words costs: what a block of contexts is
        sized by, so that long work is saved context by context. Leave-one-out forwards one sequence
        per word, half of each shared."""
        return self.sequences if self.modes[:1] != ("delete",) else self.sequences + length // 2

    @property
    def module(self) -> str:
        return "loo" if self.name == "loo_multilayer" else self.name


ENTRIES: tuple[Entry, ...] = (
    Entry("css", "run_experiment", "At which positions does low loss go with good geometry?",
          "sbm", (50,), figures=("css_by_position", "geometry_by_layer", "graph")),
    Entry("hierarchical", "run_hierarchical_experiment",
          "Do clusters come before nodes, and is it monotonic?", "sbm", STEPS,
          figures=("emergence", "css_map")),
    Entry("deep_hierarchy", "run_deep_hierarchy_experiment",
          "Does coarse or fine structure come first?", "deep", STEPS, only=True,
          figures=("phi_evolution", "representation_evolution")),
    Entry("loo", "leave_one_out_experiment", "Which items, removed, change the geometry?",
          "conflict", (4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 50, 75, 100, 150, 200),
          ("semantic", "unrelated"), ("delete", "mask", "swap"), layers=(-1,),
          figures=("loo_heatmap", "loo_by_position", "bridge_and_anchor", "temporal")),
    Entry("loo_multilayer", "run_multilayer_loo_experiment",
          "Which items, removed, change the geometry, and in which layers?", "conflict",
          (6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 50, 75, 100), ("semantic", "unrelated"),
          ("delete", "mask", "swap"),
          figures=("loo_heatmap", "loo_by_position", "bridge_and_anchor", "temporal")),
    Entry("block_permutation", "run_block_permutation_experiment", "Is it order or content?",
          "sbm", (10, 20, 50, 100, 200), figures=("arms", "dose_response"), sequences=8),
    Entry("incongruous_injection", "run_incongruous_injection_experiment",
          "Is a wrong word washed out early and disruptive late?", "sbm", (20, 50, 100, 200),
          modes=("replace", "insert"),
          figures=("effect_by_position", "effect_map", "early_and_late", "recovery"),
          sequences=60),
    Entry("superposition_collapse", "run_superposition_collapse_experiment",
          "Is the model between two hypotheses before the deciding step?", "dual", (100,), only=True,
          figures=("trajectories", "layer_by_lag"), sequences=22),
    Entry("context_switch", "context_switch_experiment",
          "How many words of graph 2 flip the geometry?", "crossed",
          (2, 5, 10, 20, 50, 100, 150, 200), only=True, figures=("crossover",), sequences=8),
    Entry("park", "reproduce_park_et_al",
          "Do accuracy and graph geometry appear together as context grows?", "grid:4x4",
          (5, 10, 20, 50, 100, 200, 384, 700, 1000, 1400), ("grid:4x4", "ring:10", "hex:3x4", "days"),
          window=50, null=("shuffled", "untrained"), open_conditions=True,
          figures=("accuracy", "energy", "planes", "overlap"), further={"days": ("rings",)}),
    Entry("lee", "run_lee_et_al_experiments",
          "Does influence change sign as structure is learned?", "sbm", (5, 10, 20, 30, 50, 75, 100),
          figures=("toy_influence", "css_panels")),
)  # fmt: skip
BY_NAME = {entry.name: entry for entry in ENTRIES}
BY_SCRIPT = {entry.script: entry for entry in ENTRIES}


def find(name: str) -> Entry:
    """By short name, script name or script path. InputError for an unknown one."""
    stem = Path(name).stem if name.endswith(".py") else name
    entry = BY_NAME.get(stem.replace("-", "_")) or BY_SCRIPT.get(stem.replace("-", "_"))
    if entry is None:
        raise InputError(f"experiment {name!r}: unknown\n  allowed: {', '.join(BY_NAME)},\n"
                         "  or the guide's script names, or your own FILE.py")  # fmt: skip
    return entry
