"""A state machine of an agent, a clock, and short words for what happens to it."""

from dataclasses import dataclass, field

from agent.events import (
    Acknowledged,
    DesiredReceived,
    Event,
    Exited,
    Instruction,
    Key,
    LeaseRenewed,
    Moment,
    PortLeased,
    ReportNow,
    Started,
    Ticked,
)
from agent.reconcile import State
from protocol.desired import DesiredAllocation, DesiredSet, Gang, Launch, Phase, Stop
from protocol.report import AllocationReport, Exit

A1 = Key(id="a", generation=1)
A2 = Key(id="a", generation=2)
B1 = Key(id="b", generation=1)
GRACE_SECONDS = 30.0


def wanted(
    key: Key = A1,
    phase: Phase = Phase.RUN,
    *,
    rank: int = 0,
    size: int = 1,
    master_port: int | None = None,
    devices: tuple[str, ...] = (),
    stop: Stop | None = None,
    **launch: object,
) -> DesiredAllocation:
    return DesiredAllocation(
        id=key.id,
        task="t",
        task_name="train",
        generation=key.generation,
        phase=phase,
        stop=stop,
        devices=devices,
        launch=Launch.model_validate({"argv": ("true",), "grace_seconds": GRACE_SECONDS, **launch}),
        gang=Gang(rank=rank, size=size, master_address="10.0.0.1", master_port=master_port),
    )


@dataclass
class Node:
    """A state, a clock, and short words for what happens to it."""

    state: State = field(default_factory=State)
    seconds: float = 100.0
    revision: int = 0

    @property
    def at(self) -> Moment:
        return Moment(boot_seconds=self.seconds, wall_ms=int(self.seconds * 1000))

    def handle(self, event: Event) -> list[Instruction]:
        """The instructions, without the one to report."""
        return [i for i in self.state.handle(event) if not isinstance(i, ReportNow)]

    def renew(self, seconds: float = 1000.0) -> list[Instruction]:
        return self.handle(LeaseRenewed(at=self.at, until_seconds=self.seconds + seconds))

    def desire(self, *allocations: DesiredAllocation, revision: int | None = None) -> list:
        self.revision = self.revision + 1 if revision is None else revision
        desired = DesiredSet(node="n", revision=self.revision, allocations=allocations)
        return self.handle(DesiredReceived(at=self.at, desired=desired))

    def leased(self, key: Key = A1, port: int = 20_001) -> list[Instruction]:
        return self.handle(PortLeased(at=self.at, key=key, port=port))

    def started(self, key: Key = A1) -> list[Instruction]:
        return self.handle(Started(at=self.at, key=key, pid=42, started_at_ms=7))

    def exited(self, key: Key = A1, code: int = 0) -> list[Instruction]:
        how = Exit(code=code, at_ms=self.at.wall_ms)
        return self.handle(Exited(at=self.at, key=key, exit=how))

    def settle(self, *keys: Key, revision: int | None = None) -> list[Instruction]:
        event = Acknowledged(
            at=self.at,
            reported_exits=keys,
            settled=tuple(key.id for key in keys),
            revision=self.revision if revision is None else revision,
        )
        return self.handle(event)

    def run(self, allocation: DesiredAllocation) -> None:
        """Bring an attempt to life."""
        self.desire(allocation)
        key = Key(id=allocation.id, generation=allocation.generation)
        self.leased(key)
        self.started(key)

    def report(self) -> AllocationReport:
        """The only one."""
        [report] = self.state.reports()
        return report

    def tick(self, seconds: float) -> list[Instruction]:
        self.seconds += seconds
        return self.handle(Ticked(at=self.at))
