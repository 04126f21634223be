"""analysis-report.md: what was run, the sections, the limits, how to do it again.

Invariant: it says what report.md says, in the words of the batch guide, and needs no other file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from peira.families.scenarios.batch import Batch
from peira.families.scenarios.report import SIMULATED, Story
from peira.report.analysis import Table
from peira.report.tables import markdown_text, to_markdown

COMMANDS = """In the directory of this batch:

```text
peira run study.yaml{flag} --output-dir again   # the same batch, afresh
peira replay .                                  # offline, from this batch's ledger
peira analyse .                                 # the same numbers again
```"""


def markdown(batch: Batch, story: Story) -> str:
    """analysis-report.md: what was run, the sections, limits, how to do it again."""
    parts = [f"# {markdown_text(batch.name)}"]
    if batch.simulated:
        parts.append(SIMULATED)
    parts += [f"**{markdown_text(story.answer)}**", "## What was run", *_what(batch)]
    for title, body in story.sections.items():
        parts.append(f"## {title}")
        parts.append(_filled(body, story.tables))
    parts += ["## Limits of this evidence"]
    parts.append("\n".join(f"- {markdown_text(line)}" for line in story.limits))
    flag = " --subjects simulated" if batch.simulated else ""
    parts += ["## Reproduce", COMMANDS.format(flag=flag)]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _what(batch: Batch) -> Iterator[str]:
    if batch.description:
        yield markdown_text(batch.description)
    lines = [
        f"Scenario: {batch.scenario_name} (folder {batch.base})"
        + (f", by {batch.author}" if batch.author else ""),
        f"{len(batch.variations)} variations, {batch.replicates} runs each,"
        f" {batch.length} turns" + (f" of {batch.turn_duration}" if batch.turn_duration else ""),
    ]
    lines += [f"Factor {name}: {', '.join(levels)}" for name, levels in batch.factors.items()]
    lines.append(f"Spent: {batch.spent:.4f} USD" + (
        f" and {batch.unsettled:.4f} unsettled" if batch.unsettled else ""
    ))  # fmt: skip
    yield "\n".join(f"- {markdown_text(line)}" for line in lines)


def _filled(body: str, tables: Mapping[str, Table]) -> str:
    lines = []
    for line in body.split("\n\n"):
        kind, _, name = line.strip("[]").partition(": ")
        if kind == "table" and name in tables:
            lines.append(to_markdown(tables[name]))
        elif kind == "figure":
            lines.append(f"![{name}](../figures/{name}.png)")
        else:
            lines.append(line)
    return "\n\n".join(lines)
