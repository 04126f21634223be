"""From a subject's name to the way it is reached: wire, price, pace.

Names: `sim:KIND…` (simulated), `script:FILE` (recorded answers), `human:SEAT`, `hf:PATH` (a model
in this process), anything else is looked up in the registry. Invariant: one Route per name and run,
so limits and connections are shared by all trials.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from peira.errors import InputError, TransientError
from peira.subjects.simulated import PREFIX, SimulatedKinds, SimulatedWire
from peira.subjects.subject import Reply, Request, Sampling, Wire


class Price(Protocol):
    """What a call costs, in micro-dollars."""

    def worst(self, request: Request) -> int:
        """An upper bound before the call: prompt tokens plus the most it may answer."""
        ...

    def cost(self, reply: Reply, request: Request | None = None) -> int:
        """The real cost, from the usage the provider reported; without any, from the request."""
        ...


class Pace(Protocol):
    """One provider's limits, shared by all trials of a run."""

    async def admit(self, request: Request) -> Any:
        """Wait for a place: concurrency, requests and tokens per minute, pauses. Returns a ticket."""
        ...

    def done(self, ticket: Any, reply: Reply | None, error: BaseException | None) -> None:
        """Give the ticket's place back and learn from what happened."""
        ...

    def delay(self, attempt: int, error: TransientError) -> float:
        """Seconds before the next try. Raises RunHalted when patience has run out."""
        ...

    async def exhausted(self, error: TransientError) -> None:
        """A call is out of tries. Raises RunHalted where the provider has answered nobody."""
        ...

    def describe(self) -> str:
        """One line for the progress display, e.g. "openai 37/64 in flight"."""
        ...


@dataclass(frozen=True, slots=True)
class FixedPrice:
    """The same price for every call."""

    each: int
    most: int

    def worst(self, request: Request) -> int:
        return self.most

    def cost(self, reply: Reply, request: Request | None = None) -> int:
        return self.each


@dataclass(slots=True)
class Route:
    """How a named subject is reached. `model` is the id sent to the provider; `durable`: replies
    are on disk before the trial sees them; `sampling` holds the study's defaults; `fit` makes a
    sampling what the wire can carry, or raises InputError; `batch`: calls go into batch jobs."""

    name: str
    wire: Wire
    model: str
    provider: str = "simulated"
    simulated: bool = False
    price: Price | None = None
    pace: Pace | None = None
    durable: bool = False
    context_window: int | None = None
    max_output: int | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    fit: Callable[[Sampling], Sampling] | None = None
    batch: Any = None
    _sent: dict[Sampling, Sampling] = field(default_factory=dict)

    @property
    def free(self) -> bool:
        return self.wire.free

    def check(self, sampling: Sampling) -> None:
        """Raise InputError if calls with this sampling cannot be sent, or their cost is unbounded."""
        request = Request(self.model, (), self.sampled(sampling))
        if self.price is not None:
            self.price.worst(request)

    def sampled(self, sampling: Sampling) -> Sampling:
        """What will be sent: the study's defaults where nothing is stated, fitted to the wire.
        Raises InputError for what it cannot carry."""
        sent = self._sent.get(sampling)
        if sent is None:
            defaults = {
                name: value
                for name, value in self.sampling.items()
                if getattr(sampling, name) in (None, ())
            }
            whole = replace(sampling, **defaults) if defaults else sampling
            sent = self._sent[sampling] = whole if self.fit is None else self.fit(whole)
        return sent


RouteMaker = Callable[[str, Mapping[str, Any]], Route]


@dataclass(slots=True)
class Routes:
    """All routes of one run, opened at first use.

    `kinds`: the family's simulated subjects. `overrides`: the study's `subjects` section.
    `stand_ins`: real name -> simulated name under `--subjects simulated`. `offline`: refuse every
    route that would leave this machine. `wires`: ready-made wires by name (scripts, replay, tests).
    """

    kinds: SimulatedKinds = field(default_factory=dict)
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    stand_in: Callable[[str], str] | None = None
    offline: bool = False
    budgeted: bool = False
    wires: Mapping[str, Wire] = field(default_factory=dict)
    _open: dict[str, Route] = field(default_factory=dict)
    _outlets: Any = None

    def open(self, name: str) -> Route:
        """The route of a subject. Raises InputError for an unknown name."""
        if name not in self._open:
            self._open[name] = self._make(name)
        return self._open[name]

    def openable(self, name: str) -> bool:
        """True if `open` gives a route for this name here and now."""
        try:
            self.open(name)
        except InputError:
            return False
        return True

    async def close(self) -> None:
        """Close every wire."""
        for route in self._open.values():
            await route.wire.close()
        self._open.clear()
        if self._outlets is not None:
            await self._outlets.close()
            self._outlets = None

    def all(self) -> list[Route]:
        """The routes opened so far."""
        return list(self._open.values())

    def _make(self, name: str) -> Route:
        if name in self.wires:
            wire = self.wires[name]
            return Route(name, wire, name, "given", durable=not wire.free)
        actual = self.stand_in(name) if self.stand_in is not None else name
        if actual.startswith(PREFIX):
            return _simulated(name, actual, self.kinds)
        from peira.subjects.registry import Outlets, open_model, stays_here

        self._outlets = self._outlets or Outlets()
        overrides = self.overrides.get(name, {})
        if self.offline and not stays_here(actual, overrides):
            raise InputError(
                f"subject {name!r}: it is not on this machine, and --no-network is set\n"
                "  remedy: --subjects simulated, or a local model (hf:PATH, a server on this machine)"
            )
        return open_model(actual, overrides, budgeted=self.budgeted, outlets=self._outlets)


def _simulated(name: str, actual: str, kinds: SimulatedKinds) -> Route:
    wire = SimulatedWire(actual, kinds)
    price = FixedPrice(wire.cost, wire.worst) if wire.cost else None
    return Route(name, wire, actual, simulated=True, price=price, durable=not wire.free)
