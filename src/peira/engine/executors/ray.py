"""`ray`: workers on an existing Ray cluster, or on a local one started for this run.

A worker is one Ray task that holds its resources (CPUs, GPUs) and connects back to the driver, which
therefore runs on a machine of the cluster's network. Ray places workers and notices dead nodes;
everything else is `Pool`'s, the same as for `processes`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from peira.engine.executors.channel import Channel, new_token
from peira.engine.executors.pool import Pool, Post, Worker, lost, shared_out
from peira.errors import InputError, MissingExtra

QUITTING = 5.0  # seconds a worker has to close its connections


class RayOptions(BaseModel):
    """Options of `--executor ray`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str | None = Field(
        None, description="`auto`, or HOST:PORT of a cluster; none starts a local one"
    )
    workers: int | None = Field(None, ge=1, description="workers; default: as many as fit")
    cpus: float = Field(1.0, gt=0, description="CPUs of each worker")
    gpus: float = Field(0.0, ge=0, description="GPUs of each worker")
    trials_per_worker: int | None = Field(
        None, ge=1, description="trials at once in a worker; default 1 with GPUs"
    )


class RayExecutor(Pool):
    """Places workers by Ray."""

    Options = RayOptions

    def __init__(self, post: Post, options: RayOptions) -> None:
        self.ray = _import()
        self.options = options
        self._ours = _connect(self.ray, options.address)
        workers = options.workers or _room(self.ray, options, post.parallel)
        usual = 1 if options.gpus else shared_out(post.parallel, workers)
        super().__init__(post, workers, options.trials_per_worker or usual)
        self._expected: dict[bytes, tuple[Worker, asyncio.Future[None]]] = {}
        self._server: asyncio.Server | None = None

    async def opened(self) -> None:
        """Listen for workers, on the address by which the cluster knows this machine."""
        self._host = self.ray.util.get_node_ip_address()
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Channel(admit=self._let_in), self._host, 0
        )

    async def closed(self) -> None:
        """Stop listening; end the cluster if it was started here."""
        if self._server is not None:
            self._server.close()
        if self._ours:
            await asyncio.to_thread(self.ray.shutdown)

    async def launch(self, worker: Worker) -> None:
        """Ask Ray for a worker and wait until it has connected, however long resources take."""
        assert self._server is not None
        token = new_token()
        connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._expected[token] = (worker, connected)
        port = self._server.sockets[0].getsockname()[1]
        remote = self.ray.remote(
            num_cpus=self.options.cpus, num_gpus=self.options.gpus, max_retries=0, max_calls=1,
            scheduling_strategy="SPREAD", name="peira worker",
        )(_work)  # fmt: skip
        worker.body = remote.remote(self._host, port, token)
        over = asyncio.wrap_future(worker.body.future())
        over.add_done_callback(lambda done: _ended(done, worker, connected))
        try:
            await connected
        finally:
            self._expected.pop(token, None)

    def end(self, worker: Worker, *, now: bool) -> None:
        """Wait for the task, and let Ray kill its process if it does not quit."""
        done, _ = self.ray.wait([worker.body], timeout=0 if now else QUITTING)
        if not done:
            with contextlib.suppress(self.ray.exceptions.RayError):
                self.ray.cancel(worker.body, force=True)

    def _let_in(self, channel: Channel, token: bytes) -> bool:
        worker, connected = self._expected.get(token, (None, None))
        if worker is None or connected is None or connected.done():
            return False
        _keep_alive(channel)
        channel.on_message, channel.on_lost = worker.channel.on_message, worker.channel.on_lost
        worker.channel = channel
        connected.set_result(None)
        return True


def _import() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise MissingExtra("--executor ray", "ray") from None
    return ray


def _connect(ray: Any, address: str | None) -> bool:
    """Join the cluster; True if a local one was started here. Raises InputError if it is not there."""
    if ray.is_initialized():
        return False
    if address is not None and address.startswith("ray://"):
        raise InputError(
            f"--executor-option address={address}: workers could not reach this driver\n"
            "  allowed: auto, HOST:PORT\n  remedy: run peira on a machine of the cluster"
        )
    try:
        ray.init(
            address=address or "local", include_dashboard=False if address is None else None,
            log_to_driver=False, configure_logging=False,
        )  # fmt: skip
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"--executor-option address={address}: no Ray cluster ({str(error).splitlines()[0]})\n"
            "  remedy: ray start --head, or leave the address out"
        ) from error
    return True


def _room(ray: Any, options: RayOptions, parallel: int) -> int:
    """How many workers fit the cluster as it is now. Raises InputError if none does."""
    there = ray.cluster_resources()
    fits = int(there.get("CPU", 0) // options.cpus)
    if options.gpus:
        fits = min(fits, int(there.get("GPU", 0) // options.gpus))
    if fits < 1:
        raise InputError(
            f"--executor ray: a worker of {options.cpus:g} CPUs and {options.gpus:g} GPUs fits"
            f" nowhere (the cluster has {there.get('CPU', 0):g} and {there.get('GPU', 0):g})\n"
            "  remedy: --executor-option cpus=…, gpus=…; or workers=N if nodes are still to come"
        )
    return min(fits, parallel)


def _work(host: str, port: int, token: bytes) -> None:
    """What a Ray task does: work for the driver until it says quit."""
    from peira.engine.executors.worker import from_address
    from peira.engine.loops import loop_factory

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(from_address(host, port, token))


def _ended(done: asyncio.Future[Any], worker: Worker, connected: asyncio.Future[None]) -> None:
    """The task is over, or its node is: sooner than a socket would tell."""
    if not done.cancelled():
        done.exception()
    if not connected.done():
        connected.set_result(None)
    lost(worker)


def _keep_alive(channel: Channel) -> None:
    sock = channel.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
