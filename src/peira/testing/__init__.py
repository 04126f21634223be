"""A model provider that lives on this machine and misbehaves on demand, for tests and demos.

    from peira.testing import Faults, FaultServer

    with FaultServer(Faults(rate=0.3)).running() as server:
        …  # base_url: server.url + "/v1"
        server.log  # every request, in order of arrival

Or `python -m peira.testing --port 8765 --rate 0.3 --latency 0.05`. It speaks the OpenAI (chat and
responses), Anthropic and Google dialects and the batch endpoints of OpenAI, Anthropic and Fireworks.
Its replies are a pure function of the request, so that a run with faults can be compared with one
without. Never a model: nothing it says means anything.
"""

from __future__ import annotations

from peira.testing.asked import Asked, Entry
from peira.testing.faults import KINDS, Faults
from peira.testing.server import FaultServer

__all__ = ["KINDS", "Asked", "Entry", "FaultServer", "Faults"]
