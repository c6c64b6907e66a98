"""Whatever order things happen in, an agent never doubles, loses or leaks an attempt.

The machine plays the service, the node's processes and the disk; the agent may be killed at any
point and comes back with what the disk says.
"""

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

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
    Moment,
    PortLeased,
    Recovered,
    Start,
    Started,
    Stop,
    Ticked,
)
from agent.reconcile import State
from protocol.desired import DesiredAllocation, DesiredSet, Gang, Launch, Phase
from protocol.report import AllocationState, Exit
from protocol.task import LeasePolicy

POLICIES = st.sampled_from(list(LeasePolicy))
DEVICES = st.sampled_from([(), ("GPU-0",)])
IDS = st.sampled_from(["a", "b"])
LEASE_SECONDS = 20.0


@dataclass
class Process:
    """An attempt as the disk and the process table know it."""

    allocation: DesiredAllocation
    port: int
    alive: bool = True
    ordered_to_stop: bool = False
    exit: Exit | None = None


class AgentMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self.lease_until = 0.0
        self.state = State()
        self.generation: dict[str, int] = {}
        self.desired: dict[str, DesiredAllocation] = {}
        self.revision = 0
        self.history: list[DesiredSet] = []
        self.leasing: list[Key] = []
        self.starting: list[Key] = []
        self.releasing: list[Key] = []
        self.disk: dict[Key, Process] = {}
        self.starts: dict[Key, int] = {}
        self.settled: set[Key] = set()
        self.unwanted: set[Key] = set()
        """Attempts that some desired set has ordered to stop, or has left out."""
        self.exited: set[Key] = set()
        self._publish()
        self.deliver_newest()
        self.report(settle=True)

    # The world.

    @property
    def at(self) -> Moment:
        return Moment(boot_seconds=self.seconds, wall_ms=int(self.seconds * 1000))

    def happen(self, event: Event) -> None:
        for instruction in self.state.handle(event):
            self.carry_out(instruction)

    def carry_out(self, instruction: Instruction) -> None:
        match instruction:
            case LeasePort(key=key):
                self.leasing.append(key)
            case Start(key=key, allocation=allocation, port=port):
                assert self.seconds < self.lease_until, "started without a lease"
                running = [k for k, p in self.disk.items() if k.id == key.id and p.alive]
                assert not running, f"{key} started beside {running}"
                held = [k for k in self.releasing if k.id == key.id]
                assert not held, f"{key} started while the devices of {held} aren't free"
                newer = [k for k in self.starts if k.id == key.id and k.generation > key.generation]
                assert not newer, f"{key} started after {newer}"
                self.starts[key] = self.starts.get(key, 0) + 1
                self.disk[key] = Process(allocation, port)
                self.starting.append(key)
            case Stop(key=key) | Kill(key=key):
                self.disk[key].ordered_to_stop = True
            case AwaitRelease(key=key):
                self.releasing.append(key)
            case Forget(key=key):
                process = self.disk.pop(key, None)
                assert process is None or not process.alive, f"forgot {key} while it runs"
                assert process is None or key in self.settled, f"forgot the exit of {key}"
            case _:
                pass

    def _publish(self) -> None:
        self.revision += 1
        stays = {(a.id, a.generation) for a in self.desired.values() if a.phase is not Phase.STOP}
        ever = {
            Key(id=i, generation=g) for i, n in self.generation.items() for g in range(1, n + 1)
        }
        self.unwanted |= {key for key in ever if (key.id, key.generation) not in stays}
        allocations = tuple(self.desired.values())
        self.history.append(DesiredSet(node="n", revision=self.revision, allocations=allocations))

    # The service.

    @rule(
        id_=IDS,
        phase=st.sampled_from([Phase.PREPARE, Phase.RUN, Phase.RUN]),
        policy=POLICIES,
        devices=DEVICES,
    )
    def assign(self, id_: str, phase: Phase, policy: LeasePolicy, devices: tuple[str, ...]) -> None:
        """A first attempt, or the next one."""
        generation = self.generation[id_] = self.generation.get(id_, 0) + 1
        self.desired[id_] = DesiredAllocation(
            id=id_,
            task="t",
            task_name="t",
            generation=generation,
            phase=phase,
            devices=devices,
            launch=Launch(argv=("true",), grace_seconds=5.0, on_lease_lost=policy),
            gang=Gang(rank=0, size=1, master_address="h"),
        )
        self._publish()

    @rule(id_=IDS, policy=POLICIES, devices=DEVICES)
    def assign_and_run(self, id_: str, policy: LeasePolicy, devices: tuple[str, ...]) -> None:
        """The common case in one step, so that what follows it is tried often."""
        self.assign(id_, Phase.RUN, policy, devices)
        self.report(settle=False)
        self.deliver_newest()
        self.node_works(steps=4)

    @precondition(lambda self: self.desired)
    @rule(id_=IDS, phase=st.sampled_from([Phase.RUN, Phase.RUN, Phase.STOP]))
    def change_phase(self, id_: str, phase: Phase) -> None:
        wanted = self.desired.get(id_)
        if wanted is not None and wanted.phase is not Phase.STOP:
            self.desired[id_] = self.desired[id_].model_copy(update={"phase": phase})
            self._publish()

    @precondition(lambda self: self.desired)
    @rule(id_=IDS)
    def withdraw(self, id_: str) -> None:
        if self.desired.pop(id_, None) is not None:
            self._publish()

    @rule()
    def deliver_newest(self) -> None:
        self.happen(DesiredReceived(at=self.at, desired=self.history[-1]))

    @precondition(lambda self: self.state.revision is not None)
    @rule(data=st.data())
    def deliver_some(self, data: st.DataObject) -> None:
        """Answers may be late, doubled or out of order, but not from before the agent's start."""
        desired = data.draw(st.sampled_from(self.history[-4:]))
        self.happen(DesiredReceived(at=self.at, desired=desired))

    @rule(settle=st.sampled_from([True, True, False]))
    def report(self, settle: bool) -> None:
        exits = [r for r in self.state.reports() if r.state is AllocationState.EXITED]
        keys = tuple(Key(id=r.id, generation=r.generation) for r in exits)
        if settle:
            # As the service does: what has ended for good leaves the desired set in the same step.
            for key in keys:
                wanted = self.desired.get(key.id)
                if wanted is not None and wanted.generation == key.generation:
                    del self.desired[key.id]
            if keys:
                self._publish()
            self.settled |= set(keys)
        self.lease_until = self.seconds + LEASE_SECONDS
        self.happen(LeaseRenewed(at=self.at, until_seconds=self.lease_until))
        event = Acknowledged(
            at=self.at,
            reported_exits=keys,
            settled=tuple(key.id for key in keys) if settle else (),
            revision=self.revision,
        )
        self.happen(event)

    # The node.

    @rule(steps=st.integers(1, 4))
    def node_works(self, steps: int) -> None:
        for _ in range(steps):
            if self.leasing:
                self.happen(PortLeased(at=self.at, key=self.leasing.pop(0), port=20_000))
            elif self.starting:
                key = self.starting.pop(0)
                self.happen(Started(at=self.at, key=key, pid=1, started_at_ms=1))

    @precondition(lambda self: any(process.alive for process in self.disk.values()))
    @rule(data=st.data())
    def process_ends(self, data: st.DataObject) -> None:
        alive = sorted(key for key, process in self.disk.items() if process.alive)
        key = data.draw(st.sampled_from(alive))
        process = self.disk[key]
        process.alive = False
        process.exit = Exit(code=0, stopped=process.ordered_to_stop, at_ms=1)
        self.exited.add(key)
        self.happen(Exited(at=self.at, key=key, exit=process.exit))

    @precondition(lambda self: self.releasing)
    @rule(held=st.booleans())
    def devices_are_judged(self, held: bool) -> None:
        key = self.releasing.pop(0)
        devices = self.disk[key].allocation.devices if held else ()
        self.happen(DevicesReleased(at=self.at, key=key, held=devices))

    @rule(seconds=st.sampled_from([1.0, 1.0, 6.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        self.seconds += seconds
        self.happen(Ticked(at=self.at))

    @precondition(lambda self: self.disk)
    @rule()
    def agent_is_killed_and_comes_back(self) -> None:
        self.state = State()
        self.leasing.clear()
        self.starting.clear()
        self.releasing.clear()
        found = tuple(_found(key, process) for key, process in sorted(self.disk.items(), key=_key))
        until = self.lease_until
        self.happen(Recovered(at=self.at, found=found, lease_until_seconds=until))

    # What always holds.

    @invariant()
    def nothing_is_started_twice(self) -> None:
        assert all(count == 1 for count in self.starts.values()), self.starts

    @invariant()
    def nothing_runs_on_after_the_lease(self) -> None:
        self.happen(Ticked(at=self.at))
        if self.seconds >= self.lease_until:
            for process in self.disk.values():
                fenced = process.allocation.launch.on_lease_lost is LeasePolicy.FENCE
                assert not process.alive or not fenced or process.ordered_to_stop

    @invariant()
    def what_is_to_be_kept_is_stopped_by_the_service_alone(self) -> None:
        for key, process in self.disk.items():
            if process.allocation.launch.on_lease_lost is LeasePolicy.KEEP:
                assert not process.ordered_to_stop or key in self.unwanted

    @invariant()
    def what_runs_is_known(self) -> None:
        for key, process in self.disk.items():
            assert not process.alive or key in self.state.attempts

    @invariant()
    def every_exit_is_reported_until_it_is_settled(self) -> None:
        reported = {
            Key(id=r.id, generation=r.generation)
            for r in self.state.reports()
            if r.state is AllocationState.EXITED
        }
        assert self.exited - self.settled <= reported | set(self.releasing)
        assert not reported & set(self.releasing)

    @invariant()
    def what_is_wanted_no_more_is_stopped(self) -> None:
        if self.state.revision == self.revision:
            wanted = {(a.id, a.generation) for a in self.desired.values()}
            for key, process in self.disk.items():
                if process.alive and (key.id, key.generation) not in wanted:
                    assert process.ordered_to_stop


def _key(item: tuple[Key, Process]) -> Key:
    return item[0]


def _found(key: Key, process: Process) -> Found:
    state = AllocationState.EXITED
    if process.alive:
        stopping = process.ordered_to_stop
        state = AllocationState.STOPPING if stopping else AllocationState.RUNNING
    return Found(
        key=key,
        allocation=process.allocation,
        state=state,
        port=process.port,
        pid=1,
        exit=process.exit,
    )


TestAgentMachine = AgentMachine.TestCase
TestAgentMachine.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
