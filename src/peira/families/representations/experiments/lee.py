"""lee: does influence change sign as structure is learned?

After Lee et al. 2025 (arXiv:2510.12071): (a) a toy where retraining gives the truth and BIF is held
against it; (b) in context, sensitivity over N; (c) with `--checkpoints`, BIF between token classes
over training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from peira.families.representations import plots
from peira.families.representations.experiments.base import Experiment
from peira.families.representations.experiments.hierarchical import CLASSES, token_classes
from peira.families.representations.fields import Record
from peira.families.representations.loading import Hub, load
from peira.families.representations.sgld import Sampler, Toy, class_influence
from peira.families.representations.summary import Summary, losses_of, plain, potentials
from peira.stats.bootstrap import percentile_limits
from peira.stats.columns import q_values, sensitivity
from peira.stats.permutation import monte_carlo_p
from peira.stats.result import NOT_IDENTIFIED, SINGLE_UNIT, Estimate, undefined

if TYPE_CHECKING:
    from peira.families.representations.trial import Spec

TOY_STEPS = (20, 40, 60, 80, 100)
PERMUTATIONS = 999
RELATIVES = {"sibling": 1, "cousin": 2, "far": 4}  # of item 0 in the toy's tree
BRIEF = Sampler(chains=2, draws=12, epsilon=1e-6, n_beta=30.0, gamma=300.0, burn=4)


class Lee(Experiment):
    """Influence in a toy, in context, and over training."""

    def extend(self, spec: Spec, records: Sequence[Record], summary: Summary) -> None:
        summary.curves["toy"] = toy(spec)
        add_toy(summary)
        add_stages(spec, records, summary)
        if spec.settings.checkpoints:
            summary.curves["training"] = over_training(spec, len(records))
            summary.diagnostics["training"] = summary.curves["training"]


experiment = Lee


def toy(spec: Spec) -> dict[str, Any]:
    """Influence of item 0 on its sibling, cousin and a far item over training, by both ways."""
    model = Toy()
    retrained, weights, values = model.retraining(0), model.train(), model.singular_values()
    found = [model.bif(weights[s], Sampler(), spec.rng(f"toy|{s}")) for s in TOY_STEPS]
    told: dict[str, Any] = plain({
        "singular_values": values, "steps": list(range(len(retrained))),
        "retraining": {name: retrained[:, i] for name, i in RELATIVES.items()},
        "bif": {"steps": TOY_STEPS,
                **{name: [f.correlation[0, i] for f in found] for name, i in RELATIVES.items()},
                "r_hat": [f.r_hat for f in found], "ess": [f.ess for f in found]},
        "mode_times": mode_times(values, model),
    })  # fmt: skip
    return told


def mode_times(values: Any, model: Toy) -> Any:
    """Step at which each mode is half learned: ln(s/a₀)/(2·s·step) for small a₀ (Saxe et al.)."""
    start = model.scale**2 * np.sqrt(model.hidden)
    return np.log(values * model.items / start) / (2 * values * model.rate)


def add_toy(summary: Summary) -> None:
    """The sign change by retraining, as a deterministic result of the toy."""
    sibling = np.array(summary.curves["toy"]["retraining"]["sibling"], float)
    summary.diagnostics["toy"] = {
        "retraining_minimum": plain(sibling[20:71].min()), "at": int(20 + sibling[20:71].argmin()),
        "retraining_maximum": plain(sibling[70:101].max()), "later_at": int(70 + sibling[70:101].argmax()),
        "bif_correlation": summary.curves["toy"]["bif"]["sibling"],
    }  # fmt: skip


def add_stages(spec: Spec, records: Sequence[Mapping[str, Any]], summary: Summary) -> None:
    """CSS over N in the last layer: sign changes and the largest score against permutations of
    contexts between loss and Φ."""
    losses = losses_of(records, spec.length)
    phis = np.stack([potentials(summary.natural, j)["separation"][:, -1]
                     for j in range(len(spec.lengths))], 1)  # fmt: skip
    score = sensitivity(losses, phis)
    told = {name: getattr(score, name) for name in ("css", "low", "high", "r")}
    summary.curves["stages"] = plain(told | {"q": q_values(score.p)})
    rng, observed = spec.rng("permutation"), stage_statistics(score.r)
    draws = np.array([
        stage_statistics(sensitivity(losses, phis[rng.permutation(len(phis))]).r)
        for _ in range(PERMUTATIONS)
    ])  # fmt: skip
    for name, value, null in zip(
        ("sign_changes", "largest_correlation"), observed, draws.T, strict=True
    ):
        summary.find(
            f"css_{name}", f"{spec.keys[-1]}: {name.replace('_', ' ')} of CSS over N and position,"
            " against contexts permuted between loss and Φ", _permuted(name, value, null, len(phis), rng))  # fmt: skip


def _permuted(name: str, value: float, null: Any, n: int, rng: np.random.Generator) -> Estimate:
    """A statistic held against its values under permutation, drawn from `rng`."""
    null = null[np.isfinite(null)]
    if not np.isfinite(value) or not len(null):
        return undefined(NOT_IDENTIFIED, n=n)
    found = monte_carlo_p(int((null >= value - 1e-10).sum()), len(null), rng)
    low, high = percentile_limits(null, 0.95)
    return found.on(Estimate(value, n=n, reason=SINGLE_UNIT, method="permutation of contexts",
                             estimand=f"{name}; null range [{low:.3g}, {high:.3g}]"))  # fmt: skip


def stage_statistics(r: Any) -> tuple[float, float]:
    """(sign changes over N among cells with |r| > .2, largest |r|) of correlations (N, T)."""
    firm = np.where(np.abs(r) > 0.2, np.sign(r), 0)
    changes = 0
    for column in firm.T:
        signs = column[column != 0]
        changes += int((np.diff(signs) != 0).sum())
    return float(changes), float(np.nanmax(np.abs(r))) if np.isfinite(r).any() else float("nan")


def over_training(spec: Spec, count: int) -> dict[str, Any]:
    """BIF between token classes at each checkpoint, with R̂ and ESS."""
    contexts = [spec.draw(i) for i in range(min(count, 16))]
    ids = np.stack([c.natural.ids for c in contexts])
    start = getattr(spec.model, "bos_id", None)
    first = np.full((len(ids), 1), ids[0, 0] if start is None else start)
    rows = np.concatenate([first, ids], 1)
    masks = np.stack([token_classes(c.nodes, c.structure.clusters) for c in contexts], 1)
    out: dict[str, Any] = {"classes": list(CLASSES), "checkpoints": []}
    for path in spec.settings.checkpoints:
        model, _ = load(path, Hub("float32", spec.settings.device))
        found = class_influence(model, rows, masks, BRIEF, spec.seed)
        out["checkpoints"].append(
            plain({"path": path.rstrip("/").rsplit("/", 1)[-1], **vars(found)})
        )
    return out


# -- figures --------------------------------------------------------------------------------------


@plots.figure(7.0, 2.9, 1, 2, n="n = 8 items, 64 chains of 400 draws.")
def toy_influence(outcome: Mapping[str, Any], axes: Any) -> str:
    """Influence over training steps, by retraining and by BIF, with the times of the modes."""
    found = outcome["curves"]["toy"]
    for name, colour, mark in zip(RELATIVES, plots.PALETTE, plots.MARKERS, strict=False):
        look = {"color": colour, "label": name}
        axes[0].plot(found["steps"], found["retraining"][name], **look)
        axes[1].plot(found["bif"]["steps"], found["bif"][name], marker=mark, **look)
    for ax in axes:
        plots.zero(ax)
        for time in sorted({round(t) for t in found["mode_times"] if t < 120}):
            ax.axvline(time, color="#bbbbbb", linestyle="--", linewidth=0.8)
        ax.set_xlabel("training step")
    axes[0].set_ylabel("loss with item 0 − without")
    axes[1].set_ylabel("BIF correlation with item 0")
    axes[0].legend(title="on its")
    worst = max(found["bif"]["r_hat"])
    return (
        "Toy: two-layer linear network on a binary tree of 8 items (not"
        " the model). Negative: item 0 helped. Dashed: times at which modes are"
        f" learned. SGLD: largest R̂ {worst:.2f}."
    )  # fmt: skip


@plots.figure(7.2, 3.8, 2, lambda o: (len(o["lengths"]) + 1) // 2, sharey=True, squeeze=False)
def css_panels(outcome: Mapping[str, Any], axes: Any) -> str:
    """CSS by position at each N, last layer."""
    found, lengths = outcome["curves"]["stages"], outcome["lengths"]
    for j, ax in enumerate(axes.ravel()):
        if j >= len(lengths):
            ax.axis("off")
            continue
        r = plots.numbers(found["r"][j])[: lengths[j]]
        plots.zero(ax)
        ax.bar(range(1, len(r) + 1), r, color=plots.PALETTE[0], width=1.0)
        hit = [i for i in range(len(r)) if (found["q"][j][i] or 1.0) < 0.05]
        ax.plot([i + 1 for i in hit], r[hit], "o", color=plots.PALETTE[1], markersize=3)
        ax.set_title(f"N = {lengths[j]}")
        ax.set_xlabel("position")
    for ax in axes[:, 0]:
        ax.set_ylabel("r of −loss with F")
    return (
        "Sensitivity by position, last layer; dots q < .05 (BH over N × positions). Correlational."
    )
