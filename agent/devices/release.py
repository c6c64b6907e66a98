"""Whether devices are free again after an attempt has ended. Pure: readings in, verdicts out.

A device that the next task is given while something is left on it fails that task for lack of
memory, or worse, lets it run beside a process that nobody stops. So it's free when NVML says so,
and never because nothing was heard:

* a *whole* device: no process is on it, and its memory is back at what it was before the start;
* a *share*: none of the attempt's processes is on it. Its memory is the neighbours', too.

Utilisation is no evidence: SIGKILL in the middle of a kernel can latch its counter at 100% with
nothing there.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from telemetry.samples import DeviceProcess, DeviceSample

TOLERANCE_MIB = 256
"""How far above the memory before its start a device may end up. Drivers keep up to some tens of
MiB of their own that come and go (page tables, retired pages, a display); a CUDA context that is
left behind takes more on all current devices, and a leak of a model many times that."""
EMPTY_MIB = 1024
"""The same where the memory before the start isn't known: an empty device shows less."""
UNLISTED_TOLERANCE_MIB = 64
"""The same where the driver lists no processes, so that memory is all there is to go by: less than
the smallest CUDA context."""

_MPS_SERVER = "nvidia-cuda-mps"
"""As the kernel cuts its name: it stays on its device from the first client on, for the next."""


class Verdict(StrEnum):
    FREE = "free"
    HELD = "held"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What an attempt that has ended had."""

    allocation: str
    devices: tuple[str, ...]
    whole: bool
    baseline_memory_mib: Mapping[str, int | None] = field(default_factory=dict)
    """Memory in use before its start; None: nobody could tell."""
    pids: frozenset[int] = frozenset()
    """Processes that are known to be, or to have been, the attempt's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was seen after its processes had ended."""

    samples: Mapping[str, DeviceSample]
    """Of devices that were looked at anew since then, and of no others."""
    unlisted: frozenset[str] = frozenset()
    """Devices whose driver never lists processes."""
    tasks: Mapping[str, frozenset[int]] = field(default_factory=dict)
    """The processes of the allocations that run here now."""
    agent_pid: int
    parent_of: Callable[[int], int | None]
    """A process's parent; None: there's no such process, or none that is to be seen."""
    name_of: Callable[[int], str | None]
    silence: str = "no fresh reading"
    """Why a device may lack one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceVerdict:
    """Whether one device is free; ``why`` not, in words that stand after its name."""

    device: str
    verdict: Verdict
    why: str = ""


def judged(claim: Claim, evidence: Evidence) -> tuple[DeviceVerdict, ...]:
    """A verdict on each of the claim's devices, in their order."""
    return tuple(_judged(device, claim, evidence) for device in claim.devices)


def in_words(verdicts: Iterable[DeviceVerdict]) -> str:
    """Why they aren't all free; empty when they are."""
    return "; ".join(
        f"{one.device} {one.why}" for one in verdicts if one.verdict is not Verdict.FREE
    )


def _judged(device: str, claim: Claim, evidence: Evidence) -> DeviceVerdict:
    sample = evidence.samples.get(device)
    if sample is None:
        return _unknown(device, f"can't be looked at: {evidence.silence}")
    if claim.whole:
        return _judged_whole(device, sample, claim, evidence)
    return _judged_share(device, sample, claim, evidence)


def _judged_whole(
    device: str, sample: DeviceSample, claim: Claim, evidence: Evidence
) -> DeviceVerdict:
    if sample.processes is None and device not in evidence.unlisted:
        return _unknown(device, "doesn't tell its processes")
    there = [process for process in sample.processes or () if _counts(process, evidence)]
    if there:
        who = ", ".join(_named(process, claim, evidence) for process in there)
        return DeviceVerdict(device=device, verdict=Verdict.HELD, why=f"is held by {who}")
    if sample.memory_used_mib is None:
        return _unknown(device, "doesn't tell how much of its memory is in use")
    baseline = claim.baseline_memory_mib.get(device)
    allowed = _allowed_mib(baseline, listed=sample.processes is not None)
    if sample.memory_used_mib > allowed:
        before = "unknown" if baseline is None else f"{baseline} MiB"
        why = f"has {sample.memory_used_mib} MiB in use without a process (before: {before})"
        return DeviceVerdict(device=device, verdict=Verdict.HELD, why=why)
    return DeviceVerdict(device=device, verdict=Verdict.FREE)


def _judged_share(
    device: str, sample: DeviceSample, claim: Claim, evidence: Evidence
) -> DeviceVerdict:
    if sample.processes is None:
        return _unknown(device, "doesn't tell its processes")
    neighbours = {
        pid
        for allocation, pids in evidence.tasks.items()
        if allocation != claim.allocation
        for pid in pids
    }
    there = [
        process
        for process in sample.processes
        if process.pid not in neighbours and _counts(process, evidence)
    ]
    own = [process for process in there if process.pid in claim.pids]
    if own:
        who = ", ".join(_named(process, claim, evidence) for process in own)
        return DeviceVerdict(device=device, verdict=Verdict.HELD, why=f"is held by {who}")
    hidden = [str(process.pid) for process in there if evidence.parent_of(process.pid) is None]
    if hidden:
        # A process that has gone and left its memory looks like that, and so does a neighbour
        # where the agent doesn't see the host's processes.
        return _unknown(device, f"has processes that aren't to be seen: {', '.join(hidden)}")
    return DeviceVerdict(device=device, verdict=Verdict.FREE)


def _counts(process: DeviceProcess, evidence: Evidence) -> bool:
    """Not the agent, nor its NVML process; nor the MPS server, which belongs to the device."""
    if evidence.agent_pid in {process.pid, evidence.parent_of(process.pid)}:
        return False
    return evidence.name_of(process.pid) != _MPS_SERVER


def _named(process: DeviceProcess, claim: Claim, evidence: Evidence) -> str:
    pid, name = process.pid, evidence.name_of(process.pid)
    memory = "" if process.memory_mib is None else f", {process.memory_mib} MiB"
    words = f"process {pid} ({name or 'not to be seen'}{memory})"
    if pid in claim.pids:
        return f"{words} of its last task"
    for allocation, pids in evidence.tasks.items():
        if pid in pids:
            return f"{words} of allocation {allocation}"
    return f"{words} of nobody here" if name else words


def _allowed_mib(baseline: int | None, *, listed: bool) -> int:
    if baseline is None:
        return EMPTY_MIB if listed else UNLISTED_TOLERANCE_MIB
    return baseline + (TOLERANCE_MIB if listed else UNLISTED_TOLERANCE_MIB)


def _unknown(device: str, why: str) -> DeviceVerdict:
    return DeviceVerdict(device=device, verdict=Verdict.UNKNOWN, why=why)
