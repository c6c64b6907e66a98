"""Waiting for devices: by readings that are newer than the end, and not for ever."""

import asyncio
from collections.abc import Collection, Iterable
from pathlib import Path

from agent.devices.releasing import Releases
from agent.events import DevicesReleased, Event, Key, ReleaseDelayed
from agent.samples.sights import Sight
from agent.spool import Intent, Spool
from protocol.desired import DesiredAllocation, Gang, Launch, Phase
from telemetry.probes.tasks import TaskReading
from telemetry.samples import (
    DeviceInventory,
    DeviceProcess,
    DeviceSample,
    HostInventory,
    Inventory,
)
from tests.unit.agent.looks import device, moment, task
from tests.waiting import DEADLINE_SECONDS

KEY = Key(id="a", generation=1)
GONE = 4_194_304
"""A pid that no process has."""
HOST = HostInventory(
    hostname="h", boot_id="b", kernel="k", cpu_milli=1, memory_mib=1, disk_mib=1, network_mbps=1
)


class Bench:
    """A node whose looks, and whose time, the test makes."""

    def __init__(self, folder: Path, *, milli: int = 1000, has_devices: bool = True) -> None:
        self.spool = Spool(folder)
        self.asked: list[tuple[str, ...]] = []
        self.told: list[Event] = []
        self.has_told = asyncio.Event()
        self.seconds = 100.0
        self.releases = Releases(
            spool=self.spool,
            look_anew=self.look_anew,
            emit=self.take,
            now=lambda: moment(self.seconds),
            has_devices=has_devices,
            give_up_seconds=0.05,
            monotonic=lambda: self.seconds,
        )
        allocation = DesiredAllocation(
            id="a",
            task="t",
            task_name="t",
            generation=1,
            phase=Phase.RUN,
            devices=("GPU-a", "GPU-b"),
            gpu_milli=milli,
            launch=Launch(argv=("x",), grace_seconds=1.0),
            gang=Gang(rank=0, size=1, master_address="127.0.0.1"),
        )
        intent = Intent(
            allocation=allocation,
            port=1,
            argv=("x",),
            env={},
            working_dir="/",
            baseline_memory_mib={"GPU-a": 10, "GPU-b": 10},
        )
        self.spool.keep_intent(KEY, intent)

    def take(self, event: Event) -> None:
        self.told.append(event)
        self.has_told.set()

    def look_anew(self, devices: Iterable[str]) -> None:
        self.asked.append(tuple(devices))

    def see(
        self,
        *samples: DeviceSample,
        asked_at: float | None = None,
        pids: Collection[int] | None = None,
    ) -> None:
        sight = Sight(
            at=moment(self.seconds),
            inventory=Inventory(
                host=HOST,
                devices=tuple(
                    DeviceInventory(uuid=uuid, index=0, model="m", memory_mib=1)
                    for uuid in ("GPU-a", "GPU-b")
                ),
                device_message="NVML is silent",
            ),
            devices={sample.uuid: sample for sample in samples},
            fresh_at={}
            if asked_at is None
            else dict.fromkeys((one.uuid for one in samples), asked_at),
            tasks={} if pids is None else {"a": TaskReading(task("a"), frozenset(pids))},
        )
        self.releases.seen(sight)

    def end(self) -> None:
        self.releases.close()
        self.spool.close()


def empty(uuid: str) -> DeviceSample:
    return device(uuid, processes=(), memory_used_mib=10)


async def test_a_reading_from_before_the_end_does_not_count(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.releases.await_release(KEY, ("GPU-a", "GPU-b"))
    assert bench.asked == [("GPU-a", "GPU-b")]
    bench.see(empty("GPU-a"), empty("GPU-b"))
    bench.see(empty("GPU-a"), empty("GPU-b"), asked_at=99.9)
    assert bench.told == []
    bench.see(empty("GPU-a"), empty("GPU-b"), asked_at=100.0)
    assert bench.told == [DevicesReleased(at=moment(100.0), key=KEY)]
    bench.end()


async def test_devices_become_free_one_by_one(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.releases.await_release(KEY, ("GPU-a", "GPU-b"))
    full = device("GPU-b", processes=(), memory_used_mib=9000)
    bench.see(empty("GPU-a"), full, asked_at=100.0)
    bench.seconds += 5
    # What somebody else's task does on GPU-a by now is no business of this one.
    taken = device("GPU-a", processes=(), memory_used_mib=70_000)
    bench.see(taken, full, asked_at=bench.seconds)
    [delayed] = bench.told
    assert isinstance(delayed, ReleaseDelayed)
    assert delayed.note == (
        "its devices: GPU-b has 9000 MiB in use without a process (before: 10 MiB)"
    )
    bench.see(taken, full, asked_at=bench.seconds)
    assert len(bench.told) == 1, "the same isn't told twice"
    bench.see(taken, empty("GPU-b"), asked_at=bench.seconds)
    assert bench.told[1:] == [DevicesReleased(at=moment(105.0), key=KEY)]
    bench.end()


async def test_silence_is_given_up_and_not_called_free(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.releases.await_release(KEY, ("GPU-a",))
    await asyncio.wait_for(bench.has_told.wait(), DEADLINE_SECONDS)
    [told] = bench.told
    assert isinstance(told, DevicesReleased)
    assert told.held == ("GPU-a",)
    assert told.note.endswith(
        "after its end: GPU-a can't be looked at: no reading since its task ended"
    )
    bench.end()


async def test_a_shares_process_is_known_after_it_has_left_the_machine(tmp_path: Path) -> None:
    bench = Bench(tmp_path, milli=500)
    held = device("GPU-a", processes=(DeviceProcess(pid=GONE, memory_mib=300),))
    bench.see(held, device("GPU-b", processes=()), pids={GONE, 7})
    bench.releases.await_release(KEY, ("GPU-a",))
    bench.seconds += 5
    bench.see(held, device("GPU-b", processes=()), asked_at=bench.seconds)
    [delayed] = bench.told
    assert isinstance(delayed, ReleaseDelayed)
    assert f"held by process {GONE} (not to be seen, 300 MiB) of its last task" in delayed.note
    bench.see(device("GPU-a", processes=()), asked_at=bench.seconds)
    assert bench.told[1:] == [DevicesReleased(at=moment(105.0), key=KEY)]
    bench.end()


def test_where_no_devices_are_looked_for_there_are_none_to_wait_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path, has_devices=False)
    bench.releases.await_release(KEY, ("GPU-a",))
    assert bench.told == [DevicesReleased(at=moment(100.0), key=KEY)]
    assert bench.asked == []
    bench.end()


def test_simulated_devices_are_not_waited_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.releases.await_release(KEY, ("SIM-n1-0",))
    assert bench.told == [DevicesReleased(at=moment(100.0), key=KEY)]
    bench.end()
