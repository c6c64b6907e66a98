"""Whoever uses more of a device than its share is warned, and then stopped where its task says."""

from collections.abc import Collection

from agent.events import Event, Key, Overused
from agent.samples.sights import Sight
from agent.watches.overuse import Judgement, Overuses, Said
from agent.watches.watching import Notes
from protocol.desired import DesiredAllocation, Gang, Launch, Phase
from protocol.task import Overuse as Policy
from telemetry.probes.tasks import TaskReading
from telemetry.samples import DeviceInventory, DeviceProcess, HostInventory, Inventory
from tests.unit.agent.looks import device, moment, task

STOP_SECONDS = 30.0
KEY = Key(id="a", generation=1)
HOST = HostInventory(
    hostname="h", boot_id="b", kernel="k", cpu_milli=1, memory_mib=1, disk_mib=1, network_mbps=1
)
INVENTORY = Inventory(
    host=HOST,
    devices=tuple(
        DeviceInventory(uuid=uuid, index=i, model="m", memory_mib=80_000)
        for i, uuid in enumerate(("GPU-a", "GPU-b"))
    ),
)
# Half of 80,000 MiB; 5% are let pass.
WHAT = "it uses 50,000 MiB of GPU-a, and its share is 40,000 MiB"
STRANGER = "it uses GPU-b, which it doesn't hold (process 101)"


def wanted(*, milli: int = 500, policy: Policy = Policy.WARN) -> DesiredAllocation:
    return DesiredAllocation(
        id="a",
        task="t",
        task_name="t",
        generation=1,
        phase=Phase.RUN,
        devices=("GPU-a",),
        gpu_milli=milli,
        launch=Launch(argv=("x",), grace_seconds=1.0, gpu_overuse=policy),
        gang=Gang(rank=0, size=1, master_address="127.0.0.1"),
    )


class World:
    """A task's process 101 beside a neighbour's, 202."""

    def __init__(self, allocation: DesiredAllocation) -> None:
        self.overuses = Overuses(stop_seconds=STOP_SECONDS)
        self.running = {KEY: allocation}
        self.seconds = 100.0

    def look(
        self,
        used_mib: int | None,
        *,
        after: float = 1.0,
        fresh: Collection[str] = ("GPU-a", "GPU-b"),
        listed: bool = True,
        pids: frozenset[int] | None = frozenset({101}),
        on_b: tuple[int, ...] = (),
    ) -> Judgement:
        self.seconds += after
        on_a = (DeviceProcess(pid=101, memory_mib=used_mib), DeviceProcess(pid=202, memory_mib=9))
        there = tuple(DeviceProcess(pid=pid, memory_mib=1) for pid in on_b)
        sight = Sight(
            at=moment(self.seconds),
            inventory=INVENTORY,
            devices={
                "GPU-a": device("GPU-a", processes=on_a if listed else None),
                "GPU-b": device("GPU-b", processes=there),
            },
            fresh_at=dict.fromkeys(fresh, 0.0),
            tasks={} if pids is None else {"a": TaskReading(task("a"), pids)},
        )
        return self.overuses.judge(sight, self.running)


def said(*words: str, stop: bool = False) -> tuple[Said, ...]:
    return tuple(Said(key=KEY, what=what, stop=stop) for what in words)


def test_two_readings_in_a_row_make_a_warning_and_it_is_given_once() -> None:
    world = World(wanted())
    assert world.look(50_000).said == ()
    assert world.look(50_000).said == said(WHAT)
    assert world.look(51_000).said == ()
    assert world.look(39_000).said == said("")
    assert world.look(39_000).said == ()


def test_one_reading_that_is_seen_twice_is_one() -> None:
    world = World(wanted())
    assert world.look(50_000, fresh=()) == Judgement()
    second = world.look(50_000, fresh=())
    assert second == Judgement(doubtful=frozenset({"GPU-a"})), "it's looked up"
    assert world.look(50_000, after=0.1).said == said(WHAT)
    world = World(wanted())
    world.look(50_000)
    assert world.look(50_000, after=0.02).said == (), "a moment later isn't in a row"
    assert world.look(50_000, after=6.0, fresh=()).said == said(WHAT), "as old as that it's new"


def test_a_moment_is_no_overuse() -> None:
    world = World(wanted())
    for _ in range(5):
        assert world.look(50_000).said == ()
        assert world.look(40_000).said == ()


def test_what_is_within_the_tolerance_is_let_pass() -> None:
    world = World(wanted())
    for _ in range(3):
        assert world.look(42_000) == Judgement()
    world.look(42_001)
    assert len(world.look(42_001).said) == 1


def test_unknown_neither_accuses_nor_clears() -> None:
    world = World(wanted())
    for unknown in ({"listed": False}, {"pids": None}):
        world = World(wanted())
        world.look(50_000)
        assert world.look(0, **unknown) == Judgement()  # pyright: ignore[reportArgumentType]
        assert world.look(50_000).said == said(WHAT)
        assert world.look(0, **unknown) == Judgement()  # pyright: ignore[reportArgumentType]
    assert world.look(None) == Judgement()
    assert world.look(0).said == said("")


def test_who_has_a_device_whole_cannot_overuse_it() -> None:
    world = World(wanted(milli=1000))
    for _ in range(3):
        assert world.look(79_000) == Judgement()


def test_who_is_to_be_stopped_is_warned_first_and_looked_at_once_more() -> None:
    world = World(wanted(policy=Policy.STOP))
    world.look(50_000)
    threat = f"{WHAT} (it's stopped if that lasts for 30 s)"
    assert world.look(50_000).said == said(threat)
    assert world.look(50_000, after=STOP_SECONDS - 1).said == ()
    late = world.look(50_000, after=2.0, fresh=())
    assert late == Judgement(doubtful=frozenset({"GPU-a"}))
    [stopped] = world.look(50_000, after=0.1).said
    assert stopped == Said(key=KEY, what=f"30 s after it was warned, {WHAT}", stop=True)


def test_who_comes_down_in_time_is_not_stopped() -> None:
    world = World(wanted(policy=Policy.STOP))
    world.look(50_000)
    world.look(50_000)
    assert world.look(50_000, after=STOP_SECONDS - 1).said == ()
    assert world.look(40_000).said == said("")
    assert world.look(50_000, after=STOP_SECONDS).said == ()


def test_with_the_policy_warn_nobody_is_ever_stopped() -> None:
    world = World(wanted())
    told = [one for _ in range(20) for one in world.look(50_000, after=10.0).said]
    assert told == list(said(WHAT))


def test_who_uses_a_device_that_it_does_not_hold_is_told_and_not_stopped() -> None:
    world = World(wanted(milli=1000, policy=Policy.STOP))
    told = [one for _ in range(9) for one in world.look(1, after=10.0, on_b=(101, 202)).said]
    assert told == list(said(STRANGER))
    assert world.look(1, on_b=(202,)).said == said("")


def test_two_faults_are_told_together_and_an_ended_attempt_is_forgotten() -> None:
    world = World(wanted())
    world.look(50_000, on_b=(101,))
    assert world.look(50_000, on_b=(101,)).said == said(f"{WHAT}; {STRANGER}")
    assert world.look(50_000).said == said(WHAT)
    allocation, world.running = world.running, {}
    assert world.look(50_000) == Judgement()
    world.running = allocation
    assert world.look(50_000).said == ()


def test_a_note_has_the_words_of_all_watches() -> None:
    told: list[Event] = []
    notes = Notes(told.append)
    memory, devices = notes.by("memory"), notes.by("devices")

    def overused(what: str, *, stop: bool = False) -> Overused:
        return Overused(at=moment(1.0), key=KEY, what=what, stop=stop)

    memory(overused("much memory"))
    devices(overused("much GPU"))
    memory(overused(""))
    devices(overused("GPU, still", stop=True))
    assert told == [
        overused("much memory"),
        overused("much memory; much GPU"),
        overused("much GPU"),
        overused("GPU, still", stop=True),
    ]
