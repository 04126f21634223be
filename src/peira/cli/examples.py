"""Command lines to copy, under each command's help. A test holds each to the real parser."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "run": (
        "peira run studies/negotiation/quickstart.yaml",
        "peira run study.yaml --parallel 8 --budget 5    # go on with it, within $5",
        "peira run study.yaml --subjects simulated       # the same study, free",
        "peira run study.yaml --only 0 --view            # its first trial, in the browser",
    ),
    "plan": (
        "peira plan studies/negotiation/scaling.yaml",
        "peira plan study.yaml --write-configs",
    ),
    "power": (
        "peira power study.yaml --effect 0.05 --set sd=0.3",
        "peira power study.yaml --effect 0.05 --pilot my-pilot --outcome score",
    ),
    "negotiate": (
        "peira negotiate --models sim:skill=0.2 sim:skill=0.9",
        "peira negotiate --models claude-3-5-sonnet gpt-4o --competition-level 0.95 \\",
        "    --num-runs 5 --batch --budget 2",
    ),
    "evaluate": (
        "peira evaluate --offline --run-id first-try",
        "peira evaluate --config my_config.yaml --limit-items 20 --budget 1",
    ),
    "simulate": (
        "peira simulate scenarios/hello-scenario --offline",
        "peira simulate scenarios/hello-scenario --check  # every prompt, no call",
    ),
    "probe": (
        "peira probe css --model sim:mixer --n-contexts 10",
        "peira probe css --model gpt2 --n-contexts 10 --layers 0,5,11",
    ),
    "status": ("peira status quickstart", "peira status quickstart --failed --watch"),
    "list": ("peira list", "peira list experiments -v"),
    "show": (
        "peira show quickstart --limit 5                  # the trials",
        "peira show quickstart 0                          # one of them, word for word",
    ),
    "analyse": ("peira analyse quickstart", "peira analyse quickstart --by competition_level"),
    "report": ("peira report quickstart", "peira report quickstart --summary"),
    "plot": ("peira plot quickstart --list", "peira plot quickstart scaling --output scaling.svg"),
    "view": ("peira view", "peira view experiments/quickstart --no-browser"),
    "compare": ("peira compare run_a run_b",),
    "collect": ("peira collect quickstart",),
    "export": (
        "peira export quickstart -o trials.csv",
        "peira export quickstart --what replies -o replies.jsonl",
    ),
    "archive": (
        "peira archive quickstart",
        "peira archive --verify experiments/archive_quickstart",
    ),
    "clean": ("peira clean --dry-run",),
    "fork": (
        "peira fork quickstart --trial 4 --turn 2 --seat 'Agent 2=sim:skill=0.1'",
        "peira fork experiments/my-run/runs/var-001-run-001 --turn 2 --samples 5 --control",
    ),
    "replay": ("peira replay quickstart", "peira replay quickstart 0"),
    "import": ("peira import list", "peira import bargain results/"),
    "models": ("peira models", "peira models claude --sort price"),
    "doctor": ("peira doctor", "peira doctor --no-network", "peira doctor gpt-4o-mini"),
    "new": (
        "peira new study my-question --family negotiation",
        "peira new experiment my_idea",
        "peira new scenario my-scenario",
    ),
}
