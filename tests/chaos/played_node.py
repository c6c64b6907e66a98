"""A node of the played world (tests/chaos/world.py): a disk, shims, programs, and an agent whose
core is the real one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TYPE_CHECKING

from agent.events import (
    Acknowledged,
    AwaitRelease,
    DesiredReceived,
    DevicesReleased,
    Event,
    Exited,
    Forget,
    Found,
    Instruction,
    Key,
    Kill,
    LeasePort,
    LeaseRenewed,
    PortLeased,
    Recovered,
    ReportNow,
    Start,
    Started,
    Stop,
    Ticked,
)
from agent.reconcile import State
from protocol.desired import DesiredAllocation
from protocol.report import AllocationState, Exit
from tests.chaos.life import CODES, GRACE_SECONDS, LEASE_SECONDS, SLACK_SECONDS

if TYPE_CHECKING:
    from tests.chaos.world import World


class CrashError(Exception):
    """The agent dies here."""


class Shim(IntEnum):
    """How far the process of an attempt has come."""

    NONE = 0
    SPAWNED = 1
    SPOKEN = 2
    """``running.json`` is there; the program begins with the next step."""
    RUNNING = 3
    ENDED = 4
    """The program is gone, and nobody has said how."""
    GONE = 5


@dataclass(slots=True)
class Files:
    """An attempt's directory, and the process that it's about."""

    allocation: DesiredAllocation
    port: int
    shim: Shim = Shim.NONE
    killed: bool = False
    """The shim was, and its program with it."""
    running: bool = False
    stop_at: float | None = None
    code: int | None = None
    stopped: bool = False
    exit: Exit | None = None

    @property
    def program_is_alive(self) -> bool:
        return self.shim is Shim.RUNNING

    @property
    def shim_is_alive(self) -> bool:
        return Shim.SPAWNED <= self.shim <= Shim.ENDED


@dataclass(slots=True, eq=False)
class Node:
    """A disk, processes, and an agent that comes and goes."""

    world: "World"
    name: str
    disk: dict[Key, Files] = field(default_factory=dict)
    lease_until: float | None = None
    """As it's on disk."""
    agent: State | None = None
    pending: list[Event] = field(default_factory=list)
    """What has happened, and the agent hasn't looked at yet."""
    watched: set[Key] = field(default_factory=set)
    """Shims whose end the agent waits for."""
    releases: set[Key] = field(default_factory=set)
    crash_after: int | None = None
    """So many steps of carrying out from now."""
    first_revision: int = 0
    """Of the sets that the service has made since the agent's start: none comes from before."""

    # The agent.

    def start(self) -> None:
        """Start the agent, unless it's there, on what the disk says."""
        if self.agent is not None:
            return
        self.agent = State()
        found = tuple(one for key in sorted(self.disk) if (one := self._recovered(key)))
        self.first_revision = self.world.service.revision[self.name] if self._joined() else 0
        at = self.world.at
        self.happen(Recovered(at=at, found=found, lease_until_seconds=self.lease_until))

    def _joined(self) -> bool:
        return hasattr(self.world, "service")

    def _recovered(self, key: Key) -> Found | None:
        """As agent/runtime.py does it."""
        files = self.disk[key]
        if files.shim is Shim.SPAWNED:
            self._shim_step(key)  # it's waited for until it has spoken, or is gone
        state = AllocationState.EXITED
        if files.exit is None:
            if files.running and files.shim_is_alive:
                self.watched.add(key)
                stopping = files.stop_at is not None
                state = AllocationState.STOPPING if stopping else AllocationState.RUNNING
            else:
                self._bury(key)
        return Found(
            key=key,
            allocation=files.allocation,
            state=state,
            port=files.port,
            pid=1 if files.running else None,
            exit=files.exit,
        )

    def _bury(self, key: Key) -> None:
        files = self.disk[key]
        files.shim = Shim.GONE
        files.exit = Exit(lost=True, stopped=files.stop_at is not None, at_ms=1)

    def crash(self) -> None:
        """`kill -9` of the agent."""
        if not self.world.calm:
            self.agent = None
            self.crash_after = None
            self.pending.clear()
            self.watched.clear()
            self.releases.clear()

    def crash_soon(self) -> None:
        """In the middle of what it does next."""
        self.crash_after = self.world.rng.randint(0, 5)

    def happen(self, event: Event) -> None:
        if self.agent is None:
            return
        try:
            for instruction in self.agent.handle(event):
                for _ in self._carried_out(instruction):
                    self._may_crash()
        except CrashError:
            self.crash()

    def _may_crash(self) -> None:
        if self.crash_after is None or self.world.calm:
            return
        self.crash_after -= 1
        if self.crash_after < 0:
            raise CrashError

    def _carried_out(self, instruction: Instruction) -> Iterator[None]:
        """Step by step: between two of them the agent may die."""
        yield
        match instruction:
            case LeasePort(key=key):
                self.pending.append(PortLeased(at=self.world.at, key=key, port=20_000))
            case Start(key=key, allocation=allocation, port=port):
                assert self.lease_until is not None, "started without a lease"
                assert self.world.seconds < self.lease_until, "started after the lease"
                assert key not in self.disk, f"{key} started on top of what there is of it"
                self.disk[key] = Files(allocation, port)
                yield
                self.disk[key].shim = Shim.SPAWNED
                yield
                self.watched.add(key)
            case Stop(key=key):
                self._order_stop(key, self.world.seconds + GRACE_SECONDS)
            case Kill(key=key):
                self._order_stop(key, self.world.seconds)
            case AwaitRelease(key=key):
                assert not self.disk[key].shim_is_alive, f"{key} runs, its devices waited for"
                self.releases.add(key)
            case Forget(key=key):
                files = self.disk.pop(key, None)
                assert files is None or not files.shim_is_alive, f"forgot {key} while it runs"
                settled = self.world.life(key).recorded is not None
                assert files is None or settled, f"forgot the exit of {key}"
            case ReportNow():
                pass
        yield

    def _order_stop(self, key: Key, at: float) -> None:
        files = self.disk[key]
        files.stop_at = at if files.stop_at is None else min(at, files.stop_at)

    def work(self, *, all_of_it: bool = False) -> None:
        """The agent looks at what has happened."""
        for key in [key for key in sorted(self.watched) if not self.disk[key].shim_is_alive]:
            self.watched.discard(key)
            if self.disk[key].exit is None:
                self._bury(key)
            exit_ = self.disk[key].exit
            assert exit_ is not None
            self.pending.append(Exited(at=self.world.at, key=key, exit=exit_))
        for key in sorted(self.releases):
            self.releases.discard(key)
            self.pending.append(DevicesReleased(at=self.world.at, key=key))
        while self.pending and self.agent is not None:
            # It's looked at when it's told: what waits is only that nobody has told yet.
            self.happen(replace(self.pending.pop(0), at=self.world.at))
            if not all_of_it:
                break

    def flow(self) -> None:
        """The common course in one step, so that what follows it is tried often."""
        self.report(lost=False)
        self.deliver(newest=True)
        self.work(all_of_it=True)
        self.shims_work(all_of_it=True)
        self.shims_work()

    def tick(self) -> None:
        self.happen(Ticked(at=self.world.at))

    # Speaking with the service.

    def deliver(self, *, newest: bool) -> None:
        """A desired set comes: the newest, or one that was made since the agent's start."""
        history = self.world.service.history[self.name]
        known = [desired for desired in history[-6:] if desired.revision >= self.first_revision]
        desired = known[-1] if newest else self.world.rng.choice(known)
        self.happen(DesiredReceived(at=self.world.at, desired=desired))

    def report(self, *, lost: bool) -> None:
        """``lost``: the service has it, and the answer doesn't come back."""
        if self.agent is None:
            return
        reports = self.agent.reports()
        exits = tuple(Key(id=r.id, generation=r.generation) for r in reports if r.exit is not None)
        settled = self.world.service.take(self, reports)
        if lost:
            return
        self.lease_until = self.world.seconds + LEASE_SECONDS
        self.happen(LeaseRenewed(at=self.world.at, until_seconds=self.lease_until))
        self.happen(
            Acknowledged(
                at=self.world.at,
                reported_exits=exits,
                settled=settled,
                revision=self.world.service.revision[self.name],
            )
        )

    # Shims and programs.

    def shims_work(self, *, all_of_it: bool = False) -> None:
        """Each shim, or one, goes a step further."""
        keys = sorted(key for key, files in self.disk.items() if files.shim_is_alive)
        for key in keys if all_of_it else keys and [self.world.rng.choice(keys)]:
            self._shim_step(key)

    def _shim_step(self, key: Key) -> None:
        files = self.disk[key]
        match files.shim:
            case Shim.SPAWNED:
                locked = any(
                    other.id == key.id and other != key and each.shim_is_alive
                    for other, each in self.disk.items()
                )
                assert not locked, f"{key} was started beside another shim"
                files.running = True
                files.shim = Shim.SPOKEN
                if key in self.watched:
                    started = Started(at=self.world.at, key=key, pid=1, started_at_ms=1)
                    self.pending.append(started)
            case Shim.SPOKEN if files.stop_at is not None:
                files.stopped = True
                files.shim = Shim.ENDED
            case Shim.SPOKEN:
                files.shim = Shim.RUNNING
                self.world.begins(key, self)
            case Shim.RUNNING:
                self._keep_to_the_lease(key)
            case Shim.ENDED:
                stopped = files.stopped or files.stop_at is not None
                files.exit = Exit(code=files.code, stopped=stopped, at_ms=1)
                files.shim = Shim.GONE
            case _:
                pass

    def _keep_to_the_lease(self, key: Key) -> None:
        files, now = self.disk[key], self.world.seconds
        if files.stop_at is None and self.lease_until is not None:
            due = self.lease_until + SLACK_SECONDS
            if now >= due:
                files.stop_at = due + GRACE_SECONDS
        if files.stop_at is not None and now >= files.stop_at:
            self._end(key, code=143)

    def watch_leases(self) -> None:
        """Time has passed: whoever is to be gone by now is."""
        for key in sorted(key for key, files in self.disk.items() if files.program_is_alive):
            self._keep_to_the_lease(key)

    def program_ends(self) -> None:
        alive = sorted(key for key, files in self.disk.items() if files.program_is_alive)
        if alive:
            self._end(self.world.rng.choice(alive), code=self.world.rng.choice(CODES))

    def _end(self, key: Key, *, code: int) -> None:
        files = self.disk[key]
        files.shim, files.code = Shim.ENDED, code
        self.world.life(key).code = code

    def kill_a_shim(self) -> None:
        """Its program dies with it."""
        alive = sorted(key for key, files in self.disk.items() if files.shim_is_alive)
        if alive and not self.world.calm:
            key = self.world.rng.choice(alive)
            self.world.life(key).shim_killed = True
            self.disk[key].shim = Shim.GONE
