"""The product's own operator on the model: engine, election, and the watches that feed it. The one file that knows how.

A process can crash (its memory is gone, what was on its way may still arrive), be stopped in order, or be frozen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from sidecarpolicy import names
from sidecarpolicy.core.field_conflicts import Limits
from sidecarpolicy.engine.engine import Engine
from sidecarpolicy.engine.port import ObjectRef, Resource
from sidecarpolicy.kube.lease import Election
from tests.simulation.client import Client, Clock
from tests.simulation.faults import Faults
from tests.simulation.loop import VirtualLoop
from tests.simulation.server import Server

NAMESPACE = "sidecarpolicy-system"
LEASE_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Told:
    """One Event."""

    at: float
    about: ObjectRef
    reason: str
    message: str
    warning: bool


@dataclass(slots=True)
class Telling:
    """`engine.port.Events` that keeps what it is told."""

    now: Callable[[], float]
    told: list[Told] = field(default_factory=list)

    def emit(self, regarding: ObjectRef, *, reason: str, message: str, warning: bool = False, action: str = "") -> None:
        """Keep it."""
        self.told.append(Told(self.now(), regarding, reason, message, warning))


@dataclass(slots=True, kw_only=True)
class Process:
    """One operator process from its start to its end."""

    name: str
    client: Client
    lease_client: Client
    election: Election
    events: Telling
    task: asyncio.Task[None] | None = None
    engine: Engine | None = None
    failed: list[BaseException] = field(default_factory=list)

    def thaw(self) -> None:
        """SIGCONT, where it was frozen."""
        if self.client.frozen is not None:
            self.client.frozen.set()
            self.client.frozen = self.lease_client.frozen = None

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.task is not None and not self.task.done()


@dataclass(slots=True, kw_only=True)
class Replica:
    """One of several operators; *skew*: seconds by which its clock is ahead. Its processes come one after the other."""

    name: str
    server: Server
    loop: VirtualLoop
    faults: Faults
    skew: float = 0.0
    page: int = 500
    lands: Callable[[], bool] = lambda: True
    resync_seconds: float = 600.0
    processes: list[Process] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)

    @property
    def process(self) -> Process:
        """The one that runs, or ran last."""
        return self.processes[-1]

    @property
    def leading(self) -> bool:
        """Whether it may write now."""
        return bool(self.processes) and self.process.alive and self.process.election.leading

    def keep_running(self) -> None:
        """Begin another process where none runs: what Kubernetes does."""
        if not self.processes or not self.process.alive:
            self.start()

    @property
    def blind(self) -> bool:
        """Whether it is kept from seeing something."""
        client = self.process.client
        return bool(client.held) or client.deaf or client.frozen is not None

    def start(self) -> None:
        """Begin another process, which knows nothing."""
        name, clock = f"{self.name}-{len(self.processes) + 1}", Clock(self.server, self.skew)

        def a_client() -> Client:
            return Client(
                server=self.server,
                loop=self.loop,
                faults=self.faults,
                process=name,
                clock=clock,
                page=self.page,
                lands=self.lands,
            )

        client, lease_client = a_client(), a_client()
        election = Election(
            lease_client,
            namespace=NAMESPACE,
            name=names.CONTROLLER,
            identity=name,
            lease_duration=LEASE_SECONDS,
            renew_deadline=LEASE_SECONDS * 2 / 3,
            retry_period=LEASE_SECONDS * 4 / 15,  # seconds between renewals, most of what an idle operator asks
            clock=self.loop.time,
        )
        client.leading = lease_client.leading = lambda: election.leading
        events = Telling(self.server.now, self.told)
        process = Process(name=name, client=client, lease_client=lease_client, election=election, events=events)
        process.task = self.loop.create_task(self._run(process))
        self.processes.append(process)

    def crash(self) -> None:
        """End the process at once: nothing of it is written any more but what is on its way."""
        process = self.process
        process.client.dead = process.lease_client.dead = True
        if process.task is not None:
            process.task.cancel()

    def stop(self) -> None:
        """End it in order: the Lease is released."""
        process = self.process
        assert process.task is not None
        process.task.cancel()
        self.loop.create_task(process.election.release())

    def hold(self, resource: Resource) -> asyncio.Event:
        """Hold a watch back until what is returned is set."""
        self.process.client.held[resource] = asyncio.Event()
        return self.process.client.held[resource]

    def freeze(self) -> None:
        """SIGSTOP: nothing it asks is sent, no answer arrives."""
        frozen = asyncio.Event()
        self.process.client.frozen = self.process.lease_client.frozen = frozen

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.thaw()

    async def _run(self, process: Process) -> None:
        engine = Engine(
            api=process.client,
            events=process.events,
            leadership=process.election,
            operator_namespace=NAMESPACE,
            limits=Limits(),
            workers=8,
            sync_period=self.resync_seconds,
        )
        process.engine = engine
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(engine.run())
                tasks.create_task(process.election.run())
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            process.failed.append(error)
            raise
