"""What an experiment is: which arms a context has, how it is measured, what is made of it.

Most experiments only name their arms and add to the common summary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peira.families.representations.contexts import Arm, Context, shuffled
from peira.families.representations.fields import Record
from peira.families.representations.summary import Summary, geometry_summary
from peira.families.representations.trial import Spec, record_arms


class Experiment:
    """One experiment. Subclasses change what differs."""

    def draw(self, spec: Spec, index: int) -> Context:
        """Context `index` with its arms."""
        context = spec.draw(index)
        return context.with_arms(shuffled(context)) if "shuffled" in spec.null else context

    def arms(self, context: Context) -> Mapping[str, Arm]:
        """The arms that are measured alike."""
        return context.arms

    def measure(self, spec: Spec, drawn: list[Context]) -> list[dict[str, Any]]:
        """One record per context."""
        records = record_arms(spec, drawn, self.arms)
        if "untrained" in spec.null:
            twins = record_arms(spec, drawn, lambda c: {"untrained": c.natural}, model=spec.twin)
            records = [r | t for r, t in zip(records, twins, strict=True)]
        return [r | self.more(spec, c, r) for r, c in zip(records, drawn, strict=True)]

    def more(self, spec: Spec, context: Context, record: Record) -> dict[str, Any]:
        """What this experiment records of a context beside the common record."""
        return {}

    def summarise(self, spec: Spec, records: Sequence[Record]) -> Summary:
        """Results, findings and curves."""
        summary = geometry_summary(spec, records)
        self.extend(spec, records, summary)
        return summary

    def extend(self, spec: Spec, records: Sequence[Record], summary: Summary) -> None:
        """What this experiment adds to the common summary."""
