"""Memory that nobody but the agent watches."""

from agent.confining.limits import OVERUSE_SECONDS
from agent.events import Key, Moment, Overused
from agent.samples.sights import Sight
from agent.watches.memory_watch import MemoryWatch
from telemetry.probes.tasks import TaskReading
from telemetry.samples import HostInventory, Inventory, TaskSample

A = Key(id="a", generation=1)
NODE = Inventory(
    host=HostInventory(
        hostname="n",
        boot_id="b",
        kernel="k",
        cpu_milli=1000,
        memory_mib=1000,
        disk_mib=1000,
        network_mbps=1000,
    )
)


class Watched:
    """A task that asked for 100 MiB."""

    def __init__(self) -> None:
        self.told: list[Overused] = []
        self._watch = MemoryWatch(emit=self.told.append)  # pyright: ignore[reportArgumentType]

    def look(self, seconds: float, used_mib: float | None) -> list[Overused]:
        self.told.clear()
        sample = TaskSample(allocation="a", taken_at_ms=0, memory_mib=used_mib)
        self._watch.seen(
            Sight(
                at=Moment(boot_seconds=seconds, wall_ms=0),
                inventory=NODE,
                tasks={"a": TaskReading(sample, frozenset())},
            ),
            {A: 100},
        )
        return list(self.told)


def test_a_task_within_its_memory_is_left_alone() -> None:
    assert Watched().look(0, 100) == []


def test_one_that_is_over_is_warned_once_and_stopped_when_it_stays_over() -> None:
    watched = Watched()
    [warning] = watched.look(0, 120)
    assert (warning.key, warning.stop) == (A, False)
    assert warning.what == "it uses 120 MiB of memory and asked for 100 MiB (memory_mib)"
    assert watched.look(1, 125) == []
    [stop] = watched.look(OVERUSE_SECONDS, 125)
    assert stop.stop


def test_one_that_comes_back_is_told_and_begins_anew() -> None:
    watched = Watched()
    watched.look(0, 120)
    [back] = watched.look(5, 90)
    assert (back.what, back.stop) == ("", False)
    assert [one.stop for one in watched.look(OVERUSE_SECONDS + 1, 120)] == [False]


def test_far_over_is_stopped_at_once_and_what_was_not_seen_is_not_judged() -> None:
    watched = Watched()
    assert watched.look(0, None) == []
    assert [one.stop for one in watched.look(1, 151)] == [True]
