"""A device is free when there is evidence for it, and never for want of any."""

from dataclasses import replace

import pytest

from agent.devices.release import (
    EMPTY_MIB,
    TOLERANCE_MIB,
    UNLISTED_TOLERANCE_MIB,
    Claim,
    DeviceVerdict,
    Evidence,
    Verdict,
    in_words,
    judged,
)
from telemetry.samples import DeviceProcess, DeviceSample
from tests.unit.agent.looks import device

AGENT = 10
PARENTS = {AGENT: 1, 11: AGENT, 100: 1, 200: 1, 900: 1, 50: 1}
NAMES = {AGENT: "stowplan", 11: "python", 100: "python", 200: "train", 900: "Xorg"}
NAMES[50] = "nvidia-cuda-mps"
WHOLE = Claim(
    allocation="a",
    devices=("GPU-a",),
    whole=True,
    baseline_memory_mib={"GPU-a": 500},
    pids=frozenset({100, 4242}),
)
SHARE = replace(WHOLE, whole=False)


def process(pid: int, memory_mib: int | None = 300) -> DeviceProcess:
    return DeviceProcess(pid=pid, memory_mib=memory_mib)


def evidence(*samples: DeviceSample, **more: object) -> Evidence:
    return replace(
        Evidence(
            samples={sample.uuid: sample for sample in samples},
            tasks={"b": frozenset({200})},
            agent_pid=AGENT,
            parent_of=PARENTS.get,
            name_of=NAMES.get,
        ),
        **more,  # pyright: ignore[reportArgumentType]
    )


def verdict(claim: Claim, *samples: DeviceSample, **more: object) -> DeviceVerdict:
    [one] = judged(claim, evidence(*samples, **more))
    return one


@pytest.mark.parametrize(
    ("used_mib", "expected"),
    [
        (500, Verdict.FREE),
        (0, Verdict.FREE),
        (500 + TOLERANCE_MIB, Verdict.FREE),
        (501 + TOLERANCE_MIB, Verdict.HELD),
        (None, Verdict.UNKNOWN),
    ],
)
def test_a_whole_device_is_free_when_its_memory_is_back(
    used_mib: int | None, expected: Verdict
) -> None:
    sample = device("GPU-a", processes=(), memory_used_mib=used_mib)
    assert verdict(WHOLE, sample).verdict is expected


def test_utilization_without_a_process_is_no_use() -> None:
    latched = device("GPU-a", processes=(), memory_used_mib=500, utilization_percent=100)
    assert verdict(WHOLE, latched).verdict is Verdict.FREE


@pytest.mark.parametrize(
    ("pid", "words"),
    [
        (100, "is held by process 100 (python, 300 MiB) of its last task"),
        (4242, "is held by process 4242 (not to be seen, 300 MiB) of its last task"),
        (200, "is held by process 200 (train, 300 MiB) of allocation b"),
        (900, "is held by process 900 (Xorg, 300 MiB) of nobody here"),
        (777, "is held by process 777 (not to be seen, 300 MiB)"),
    ],
)
def test_whoever_is_on_a_whole_device_holds_it_and_is_named(pid: int, words: str) -> None:
    one = verdict(WHOLE, device("GPU-a", processes=(process(pid),), memory_used_mib=0))
    assert (one.verdict, one.why) == (Verdict.HELD, words)


@pytest.mark.parametrize("claim", [WHOLE, SHARE])
def test_the_agent_and_the_mps_server_hold_nothing(claim: Claim) -> None:
    there = (process(AGENT), process(11), process(50))
    sample = device("GPU-a", processes=there, memory_used_mib=510)
    assert verdict(claim, sample).verdict is Verdict.FREE


@pytest.mark.parametrize("claim", [WHOLE, SHARE])
def test_what_nobody_could_look_at_is_unknown(claim: Claim) -> None:
    one = verdict(claim, silence="NVML doesn't answer")
    assert (one.verdict, one.why) == (
        Verdict.UNKNOWN,
        "can't be looked at: NVML doesn't answer",
    )
    silent = device("GPU-a", memory_used_mib=0)
    assert verdict(claim, silent).verdict is Verdict.UNKNOWN


def test_without_a_baseline_an_empty_device_is_free() -> None:
    claim = replace(WHOLE, baseline_memory_mib={"GPU-a": None})
    for used_mib, expected in ((EMPTY_MIB, Verdict.FREE), (EMPTY_MIB + 1, Verdict.HELD)):
        sample = device("GPU-a", processes=(), memory_used_mib=used_mib)
        assert verdict(claim, sample).verdict is expected


def test_memory_alone_is_judged_more_strictly() -> None:
    unlisted = frozenset({"GPU-a"})
    for more, expected in (
        (UNLISTED_TOLERANCE_MIB, Verdict.FREE),
        (UNLISTED_TOLERANCE_MIB + 1, Verdict.HELD),
    ):
        sample = device("GPU-a", memory_used_mib=500 + more)
        assert verdict(WHOLE, sample, unlisted=unlisted).verdict is expected
        assert verdict(SHARE, sample, unlisted=unlisted).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("pids", "expected"),
    [
        ((), Verdict.FREE),
        ((200, 900), Verdict.FREE),
        ((200, 100), Verdict.HELD),
        ((4242,), Verdict.HELD),
        ((777,), Verdict.UNKNOWN),
    ],
)
def test_a_share_is_free_when_none_of_its_own_processes_is_there(
    pids: tuple[int, ...], expected: Verdict
) -> None:
    there = tuple(process(pid) for pid in pids)
    sample = device("GPU-a", processes=there, memory_used_mib=60_000)
    assert verdict(SHARE, sample).verdict is expected


def test_each_device_is_judged_by_itself() -> None:
    claim = replace(WHOLE, devices=("GPU-a", "GPU-b", "GPU-c"))
    verdicts = judged(
        claim,
        evidence(
            device("GPU-a", processes=(), memory_used_mib=0),
            device("GPU-b", processes=(), memory_used_mib=9000),
        ),
    )
    assert [one.verdict for one in verdicts] == [Verdict.FREE, Verdict.HELD, Verdict.UNKNOWN]
    assert in_words(verdicts) == (
        "GPU-b has 9000 MiB in use without a process (before: unknown); "
        "GPU-c can't be looked at: no fresh reading"
    )
