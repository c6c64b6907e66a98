"""What the service makes of measurements: devices out of service, tasks that hold for nothing."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.db.samples.looks import Looks
from app.loops.rollups import RollupLoop
from app.loops.watch import WatchLoop
from app.watch.service import Watcher
from tests.integration.test_main_path import desired, start_gang
from tests.integration.test_quarantine import happened, keep_off, listed, release, tell, told
from tests.service import Agent, ManualClock, Service, rows, running, state

ASLEEP = {"watch_interval_seconds": 3_600}
"""The service's own loop looks once, at its start: the test says when to look again."""


@pytest.fixture
async def timed(tmp_path: Path, database_url: str, clock: ManualClock) -> AsyncIterator[Service]:
    async with running(tmp_path / "home", database_url, clock, **ASLEEP) as service:
        yield service


class Watch:
    """Time that passes in steps: each is measured as the test says, and then looked at."""

    def __init__(self, service: Service, clock: ManualClock) -> None:
        self.service = service
        self.clock = clock
        self.restart()

    def restart(self) -> None:
        """A service that has forgotten all that isn't in its rows."""
        app = self.service.app
        telemetry = app.state.telemetry
        watcher = Watcher(
            self.service.context, telemetry.live, Looks(telemetry.store), app.state.findings
        )
        self.loop = WatchLoop(watcher, every_seconds=30)

    async def look(self) -> None:
        await (await self.service.take_over(self.loop)).tick()

    async def roll_up(self) -> None:
        """Make minutes of all rows that are old enough."""
        telemetry = self.service.app.state.telemetry
        loop = await self.service.take_over(RollupLoop(self.service.context, telemetry.roller))
        while await loop.tick() < 1:
            pass

    async def device(
        self, agent: Agent, minutes: float, *, of: str = "SIM-n1-0", **values: float | None
    ) -> None:
        """So many minutes of one device, a row each 30 s, each looked at."""
        for _ in range(round(minutes * 2)):
            self.clock.advance(30)
            await agent.measure(devices=self.now([of], **values))
            await self.look()

    async def task(
        self, agent: Agent, minutes: float, allocation: str, **values: float | None
    ) -> None:
        for _ in range(round(minutes * 2)):
            self.clock.advance(30)
            await agent.measure(tasks=self.now([allocation], **values))
            await self.look()

    def now(self, of: list[str], **values: float | None) -> dict[str, Any]:
        columns = {name: [value] * len(of) for name, value in values.items()}
        return rows([self.service.now_ms()] * len(of), of=of, **columns)


@pytest.fixture
def watch(timed: Service, clock: ManualClock) -> Watch:
    return Watch(timed, clock)


async def codes(service: Service) -> list[str]:
    return sorted(one["code"] for one in await listed(service))


async def findings(service: Service) -> list[dict[str, Any]]:
    answer = await service.user.get("/api/v1/findings")
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


HOT = {"throttle_reasons": 0x40, "utilization_percent": 95.0, "temperature_celsius": 92}
COOL = {"throttle_reasons": 0, "utilization_percent": 95.0, "temperature_celsius": 60}


async def test_a_device_held_down_by_heat_is_taken_out_and_comes_back_when_it_has_cooled(
    timed: Service, watch: Watch
) -> None:
    agent = await timed.join("n1", gpus=2)
    await watch.device(agent, 10, **HOT)
    assert await listed(timed) == []
    await watch.device(agent, 0.5, **HOT)
    [one] = await listed(timed)
    assert (one["code"], one["by_rule"], one["uuid"]) == ("throttled", True, "SIM-n1-0")
    assert "for 10 min while it was busy: hardware thermal slowdown, 92 C" in one["reason"]
    await watch.device(agent, 29, **COOL)
    assert await codes(timed) == ["throttled"]
    await watch.device(agent, 2, **COOL)
    assert await listed(timed) == []
    [ended] = await listed(timed, all=True)
    assert ended["release_reason"] == "its clocks have been free for 30 min"


async def test_silence_neither_takes_a_device_out_nor_brings_it_back(
    timed: Service, watch: Watch, clock: ManualClock
) -> None:
    agent = await timed.join("n1", gpus=1)
    await watch.device(agent, 9, **HOT)
    clock.advance(600)
    await watch.look()
    await watch.device(agent, 9, **HOT)
    assert await listed(timed) == [], "of the time between nothing is known"
    await watch.device(agent, 2, **HOT)
    assert await codes(timed) == ["throttled"]
    for _ in range(4):
        clock.advance(3_600)
        await watch.look()
    await watch.device(agent, 40, temperature_celsius=40)
    assert await codes(timed) == ["throttled"]


async def test_a_restart_neither_loses_nor_doubles_a_quarantine(
    timed: Service, watch: Watch
) -> None:
    agent = await timed.join("n1", gpus=1)
    await watch.device(agent, 8, **HOT)
    watch.restart()
    await watch.device(agent, 2.5, **HOT)
    assert await codes(timed) == ["throttled"], "the time before the restart counts"
    watch.restart()
    await watch.device(agent, 5, **HOT)
    assert len(await listed(timed, all=True)) == 1
    await watch.device(agent, 29, **COOL)
    watch.restart()
    await watch.device(agent, 2, **COOL)
    assert await listed(timed) == []


async def test_evidence_from_before_a_release_does_not_count_again(
    timed: Service, watch: Watch
) -> None:
    agent = await timed.join("n1", gpus=1)
    await watch.device(agent, 12, **HOT, ecc_uncorrected=2, memory_repair_pending=1)
    assert await codes(timed) == ["ecc", "memory_repair", "throttled"]
    for one in await listed(timed):
        await release(timed, one["id"])
    watch.restart()
    await watch.device(agent, 9, **HOT, ecc_uncorrected=2, memory_repair_pending=1)
    assert await listed(timed) == []
    await watch.device(agent, 1.5, **HOT, ecc_uncorrected=3, memory_repair_pending=1)
    assert await codes(timed) == ["ecc", "throttled"]


async def test_an_error_right_after_a_release_is_a_new_one(timed: Service, watch: Watch) -> None:
    agent = await timed.join("n1", gpus=1)
    await watch.device(agent, 1, ecc_uncorrected=2)
    [one] = await listed(timed)
    await release(timed, one["id"])
    await watch.look()
    assert await listed(timed) == [], "nothing has been measured since"
    await watch.device(agent, 0.5, ecc_uncorrected=3)
    assert await codes(timed) == ["ecc"]


async def test_memory_errors_after_a_reset_are_new_ones(timed: Service, watch: Watch) -> None:
    agent = await timed.join("n1", gpus=1)
    await watch.device(agent, 1, ecc_uncorrected=2)
    [one] = await listed(timed)
    assert (one["code"], one["by_rule"]) == ("ecc", False)
    await watch.device(agent, 1, ecc_uncorrected=0)
    assert await codes(timed) == ["ecc"], "a person ends it"
    await release(timed, one["id"])
    await watch.device(agent, 5, ecc_uncorrected=0)
    await watch.roll_up()
    watch.restart()
    await watch.device(agent, 0.5, ecc_uncorrected=1)
    assert await codes(timed) == ["ecc"]


async def test_a_pending_repair_ends_with_the_reset_that_does_it(
    timed: Service, watch: Watch
) -> None:
    agent = await timed.join("n1", gpus=1)
    await watch.device(agent, 0.5, memory_repair_pending=1, memory_repair_failed=0)
    assert await codes(timed) == ["memory_repair"]
    await watch.device(agent, 0.5, memory_repair_pending=None)
    assert await codes(timed) == ["memory_repair"]
    await watch.device(agent, 0.5, memory_repair_pending=0, memory_repair_failed=0)
    assert await listed(timed) == []


async def test_a_strangers_processes_block_a_device_until_they_are_gone(
    timed: Service, watch: Watch
) -> None:
    agent = await timed.join("n1", gpus=2)
    await watch.device(agent, 1, foreign_process_count=1, foreign_memory_mib=700)
    assert await listed(timed) == []
    await watch.device(agent, 0.5, foreign_process_count=1, foreign_memory_mib=700)
    assert await codes(timed) == ["unmanaged"]
    [found] = await findings(timed)
    assert (found["kind"], found["device"]) == ("unmanaged", "SIM-n1-0")
    assert "1 process with 700 MiB of no task holds it" in found["text"]
    task = await timed.submit(request={"gpus": 2})
    await timed.until_waiting(task["id"])
    await watch.device(agent, 2, foreign_process_count=0)
    assert await listed(timed) == []
    assert await findings(timed) == []
    await timed.until_state(task["id"], "starting")


async def test_the_slow_rank_of_a_gang_is_found_by_its_peers(
    timed: Service, watch: Watch, clock: ManualClock
) -> None:
    agents = [await timed.join(f"n{number}", gpus=1) for number in range(1, 5)]
    await start_gang(timed, *agents)

    async def work(minutes: float, *clocks: float) -> None:
        for _ in range(round(minutes * 2)):
            clock.advance(30)
            for agent, mhz in zip(agents, clocks, strict=True):
                of = [f"SIM-{agent.name}-0"]
                part = watch.now(of, utilization_percent=99, clock_sm_mhz=mhz)
                await agent.measure(devices=part)
            await watch.look()

    await work(10, 1980, 1400, 1975, 1900)
    assert await listed(timed) == []
    await work(0.5, 1980, 1400, 1975, 1900)
    [one] = await listed(timed)
    assert (one["node"], one["code"]) == ("n2", "slow")
    assert "1400 MHz, the median of 3 peers under the same load 1975 MHz" in one["reason"]
    await work(11, 1980, 1950, 1975, 1900)
    assert await listed(timed) == []


async def test_the_rules_can_be_switched_off(
    tmp_path: Path, database_url: str, clock: ManualClock
) -> None:
    async with running(
        tmp_path / "home", database_url, clock, quarantine_rules=False, **ASLEEP
    ) as service:
        watch = Watch(service, clock)
        agent = await service.join("n1", gpus=1)
        await watch.device(agent, 1, ecc_uncorrected=2)
        await tell(agent, told(1, "xid", code=79))
        assert await listed(service) == []
        await keep_off(service, "n1", "0")
        assert await codes(service) == ["manual"]


EMPTY = {"gpu_process_count": 0, "gpu_process_peak_count": 0}
STILL = {
    "gpu_process_count": 1,
    "gpu_process_peak_count": 1,
    "gpu_utilization_percent": 0.0,
    "gpu_utilization_peak_percent": 0.0,
}
BUSY = STILL | {"gpu_utilization_percent": 40.0, "gpu_utilization_peak_percent": 90.0}
IDLE_EVENTS = ("task_held_but_idle", "task_gone_idle", "task_works_again")


async def start(service: Service, agent: Agent, **spec: Any) -> tuple[str, str]:
    """A running task and its allocation."""
    task = await service.submit(name="train", request={"gpus": 1} | spec)
    allocation = await desired(service, agent, "run")
    await agent.report(state(allocation, "running", pid=1))
    return task["id"], allocation["id"]


async def test_a_task_without_a_process_on_its_gpu_is_held_but_idle(
    timed: Service, watch: Watch
) -> None:
    agent = await timed.join("n1", gpus=1)
    task, allocation = await start(timed, agent, gpu_milli=500)
    await watch.task(agent, 10, allocation, **EMPTY)
    assert (await timed.task(task))["idle"] is None
    await watch.task(agent, 2.5, allocation, **EMPTY)
    idle = (await timed.task(task))["idle"]
    assert idle["kind"] == "held_but_idle"
    assert idle["gpu_hours"] == pytest.approx(0.5 * 12 / 60)
    assert idle["text"].startswith("no process on its GPUs for 12 min")
    found = next(one for one in await findings(timed) if one["task"] == task)
    assert (found["kind"], found["since"], found["node"]) == (idle["kind"], idle["since"], "n1")
    assert len(await happened(timed, *IDLE_EVENTS)) == 1
    await watch.task(agent, 1, allocation, **BUSY)
    assert (await timed.task(task))["idle"] is None
    said = await happened(timed, *IDLE_EVENTS)
    assert [text.partition(",")[0] for text in said] == [
        "train: no process on its GPUs for 10 min",
        "train: its processes work on its GPUs again",
    ]
    assert (await timed.task(task))["state"] == "running", "nothing is stopped by it"


async def test_a_task_that_has_worked_and_does_no_more_has_gone_idle(
    timed: Service, watch: Watch
) -> None:
    agent = await timed.join("n1", gpus=1)
    task, allocation = await start(timed, agent)
    await watch.task(agent, 2, allocation, **BUSY)
    await watch.task(agent, 30, allocation, **STILL)
    assert (await timed.task(task))["idle"] is None
    await watch.task(agent, 0.5, allocation, **STILL)
    assert (await timed.task(task))["idle"]["kind"] == "gone_idle"


async def test_a_task_that_has_not_worked_yet_has_not_gone_idle(
    timed: Service, watch: Watch
) -> None:
    agent = await timed.join("n1", gpus=1)
    task, allocation = await start(timed, agent)
    await watch.task(agent, 35, allocation, **STILL)
    assert (await timed.task(task))["idle"] is None


async def test_work_between_two_looks_is_seen(
    timed: Service, watch: Watch, clock: ManualClock
) -> None:
    agent = await timed.join("n1", gpus=1)
    task, allocation = await start(timed, agent)
    await watch.task(agent, 1, allocation, **BUSY)
    for _ in range(40):
        now = timed.now_ms()
        part = rows(
            [now + 10_000, now + 20_000, now + 30_000, now + 40_000],
            of=[allocation] * 4,
            gpu_process_count=[1] * 4,
            gpu_process_peak_count=[1] * 4,
            gpu_utilization_peak_percent=[0.0, 80.0, 0.0, 0.0],
        )
        clock.advance(60)
        await agent.measure(tasks=part)
        await watch.look()
    assert (await timed.task(task))["idle"] is None


async def test_a_restart_learns_idleness_from_rows_and_tells_it_once(
    timed: Service, watch: Watch
) -> None:
    agent = await timed.join("n1", gpus=1)
    task, allocation = await start(timed, agent)
    await watch.task(agent, 2, allocation, **BUSY)
    await watch.task(agent, 31, allocation, **STILL)
    before = (await timed.task(task))["idle"]
    assert before["kind"] == "gone_idle"
    await watch.roll_up()
    watch.restart()
    await watch.look()
    after = (await timed.task(task))["idle"]
    assert (after["kind"], after["since"]) == (before["kind"], before["since"])
    assert len(await happened(timed, *IDLE_EVENTS)) == 1


@pytest.mark.parametrize("values", [{"cpu_seconds": 5.0}, {"gpu_process_count": None}])
async def test_what_is_not_measured_is_never_idle(
    timed: Service, watch: Watch, values: dict[str, float | None]
) -> None:
    agent = await timed.join("n1", gpus=1)
    task, allocation = await start(timed, agent)
    await watch.task(agent, 45, allocation, **values)
    assert (await timed.task(task))["idle"] is None


async def test_silence_ends_the_finding_and_is_told_as_unknown(
    timed: Service, watch: Watch, clock: ManualClock
) -> None:
    agent = await timed.join("n1", gpus=1)
    task, allocation = await start(timed, agent)
    await watch.task(agent, 12, allocation, **EMPTY)
    assert (await timed.task(task))["idle"] is not None
    clock.advance(200)
    await agent.report()
    await watch.look()
    assert (await timed.task(task))["idle"] is None
    [found] = await findings(timed)
    assert (found["kind"], found["node"]) == ("unknown", "n1")
    assert found["text"] == "runs 1 task and sends no measurements: what they use is unknown"
    await watch.task(agent, 12, allocation, **EMPTY)
    assert (await timed.task(task))["idle"]["kind"] == "held_but_idle"
    assert len(await happened(timed, *IDLE_EVENTS)) == 1, "it hadn't worked in between"


async def test_one_idle_replica_of_a_gang_is_told_apart(
    timed: Service, watch: Watch, clock: ManualClock
) -> None:
    agents = [await timed.join(f"n{number}", gpus=1) for number in (1, 2)]
    task, allocations = await start_gang(timed, *agents)
    for _ in range(24):
        clock.advance(30)
        for agent, allocation, values in zip(agents, allocations, (BUSY, EMPTY), strict=True):
            await agent.measure(tasks=watch.now([allocation["id"]], **values))
        await watch.look()
    idle = (await timed.task(task["id"]))["idle"]
    assert idle["kind"] == "held_but_idle"
    assert idle["text"].startswith("1 of 2 replicas: no process")
