"""What tells comparisons apart, in as few words as the run needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from peira.families.prompts.evaluated import TrialData
from peira.families.prompts.significance import Compared
from peira.families.prompts.slugs import model_label

AXES: tuple[Callable[[TrialData], str], ...] = (
    lambda trial: model_label(trial.settings.model, trial.settings.model_aliases),
    lambda trial: "" if trial.joined else trial.settings.prompt_set,
    lambda trial: f"top_p {trial.settings.top_p}",
    lambda trial: f"top_k {trial.settings.top_k}",
    lambda trial: f"max {trial.settings.max_tokens('closed')}/{trial.settings.max_tokens('open')}",
    lambda trial: trial.settings.id or "",
    lambda trial: f"seed {trial.record.seed}",
)


def distinctions(trials: Iterable[TrialData]) -> dict[int, str]:
    """By `id`, the settings of each trial that differ within the run; empty for one trial. Trials
    that these do not part are told apart by their names."""
    known = {id(trial): trial for trial in trials}
    varied = [axis for axis in AXES if len({axis(t) for t in known.values() if axis(t)}) > 1]
    words = {key: joined(*(axis(trial) for axis in varied)) for key, trial in known.items()}
    own = [words[key] for key, trial in known.items() if not trial.joined]
    if len(set(own)) == len(own):
        return words
    return {key: trial.record.slug for key, trial in known.items()}


def of_each(compared: Sequence[Compared]) -> list[tuple[Compared, str]]:
    """Each comparison with the distinction of its trial."""
    words = distinctions(part.at.trial for part in compared)
    return [(part, words[id(part.at.trial)]) for part in compared]


def labels(compared: Sequence[Compared]) -> list[str]:
    """Each comparison on one line: arms, items, and what sets its trial apart."""
    return [joined(part.short, where) for part, where in of_each(compared)]


def scopes(compared: Sequence[Compared]) -> list[str]:
    """Which items, temperature and trial a comparison is about, as far as needed."""
    return [joined(f"{part.at.kind} items", part.temp, where) for part, where in of_each(compared)]


def joined(*words: str) -> str:
    """The words that there are, with commas."""
    return ", ".join(filter(None, words))
