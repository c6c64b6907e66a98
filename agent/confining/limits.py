"""What a task is held to, as numbers. Pure: an allocation, a node and what works there, in; values
for control groups, processors and resource limits, out.

*Processors* are shared by weight, not capped: who asked for two cores gets at least those two when
all are busy, and may use what others leave idle, as Kubernetes' requests and Slurm's shares do. A
cap would only slow a data loader down beside idle cores. The weight of a task is its cores; one
that asked for none has a tenth of one, so that it moves.

*Near processors*: a task whose devices sit on known NUMA nodes runs on the processors of those,
where they are enough for what it asked. Memory isn't bound to them: the kernel prefers near memory
by itself, and a task bound to a full node would be killed beside free memory on the next.

*Memory* is a cap, since it can't be taken back: the kernel presses from 95% on and kills all of the
task at 100%, never others, and never into swap. 0 is "none asked for": no cap, the whole machine's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from protocol.desired import DesiredAllocation
from protocol.task import ENFORCE_LABEL, Enforced

PIDS_DEFAULT = 16_384
"""Where nothing is said: enough for the loaders and threads of eight devices, too few to take the
machine's process table away from everybody."""
NOFILE = 65_536
"""Open files: loaders and NCCL want more than the usual 1024."""
OVERUSE_SECONDS = 10.0
"""Over its memory for so long, where nobody but us watches: then it's stopped."""
OVERUSE_AT_ONCE = 1.5
"""Times its memory: then it isn't waited for."""

_MIB = 1 << 20
_UNASKED_CPU_MILLI = 100
_HIGH_PERCENT = 95
_V2_WEIGHT_MAX = 10_000
_V1_SHARES_MIN, _V1_SHARES_MAX = 2, 262_144
_UNLIMITED = -1


class Version(StrEnum):
    """Which kind of tree."""

    V2 = "cgroup2"
    V1 = "cgroup1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A value for one file of a group."""

    controller: str
    version: Version
    file: str
    value: str
    needed: bool = True
    """Without it the limit doesn't hold; False: not every kernel has the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """The processors that tasks may use, and the NUMA nodes that they are on."""

    cpus: tuple[int, ...]
    numa: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    pids_max: int = 32_768
    """Of the whole machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one task is held to."""

    settings: tuple[Setting, ...]
    cpus: tuple[int, ...] | None
    """To run on; None: any."""
    resources: dict[str, list[int]]
    """Resource limits (setrlimit): soft and hard; -1 is unlimited."""


def limits_of(
    allocation: DesiredAllocation,
    topology: Topology,
    enforced: Mapping[str, Version],
    *,
    device_numa: Sequence[int | None],
    hard: Mapping[str, int],
) -> Limits:
    """``device_numa``: of each of its devices, None where that isn't known. ``hard``: how far the
    agent itself may go."""
    cpus = near_cpus(allocation.cpu_milli, topology, device_numa)
    settings: list[Setting] = []
    for controller, version in sorted(enforced.items()):
        match controller:
            case "cpu":
                settings.append(_cpu(allocation.cpu_milli, topology, version))
            case "memory" if allocation.memory_mib > 0:
                settings += _memory(allocation.memory_mib * _MIB, version)
            case "pids":
                pids = allocation.launch.pids_max or default_pids(topology)
                settings.append(
                    Setting(
                        controller=controller, version=version, file="pids.max", value=str(pids)
                    )
                )
            case "cpuset" if cpus is not None:
                settings.append(
                    Setting(
                        controller=controller,
                        version=version,
                        file="cpuset.cpus",
                        value=",".join(map(str, cpus)),
                    )
                )
            case _:
                pass
    return Limits(settings=tuple(settings), cpus=cpus, resources=_resources(hard))


def _resources(hard: Mapping[str, int]) -> dict[str, list[int]]:
    """Never the address space (RLIMIT_AS): CUDA reserves far more of it than it ever uses. Nor the
    number of processes (RLIMIT_NPROC), which counts those of all tasks of an account."""
    found = {"core": [0, 0]}
    if "nofile" in hard:
        most = hard["nofile"]
        found["nofile"] = [NOFILE if most == _UNLIMITED else min(NOFILE, most), most]
    if "memlock" in hard:
        found["memlock"] = [hard["memlock"], hard["memlock"]]  # pinned memory for InfiniBand
    return found


def whole_of(topology: Topology, enforced: Mapping[str, Version]) -> tuple[Setting, ...]:
    """For all tasks of the node together: they weigh as much as its processors, beside the rest of
    the machine."""
    version = enforced.get("cpu")
    return (_cpu(len(topology.cpus) * 1000, topology, version),) if version else ()


def default_pids(topology: Topology) -> int:
    return max(1, min(PIDS_DEFAULT, topology.pids_max // 4))


def near_cpus(
    cpu_milli: int, topology: Topology, device_numa: Sequence[int | None]
) -> tuple[int, ...] | None:
    """The processors near a task's devices; None where that's unknown, all, or too few."""
    if not device_numa or None in device_numa:
        return None
    near = {cpu for numa in device_numa if numa is not None for cpu in topology.numa.get(numa, ())}
    usable = tuple(sorted(near & set(topology.cpus)))
    if not usable or len(usable) == len(topology.cpus) or len(usable) * 1000 < cpu_milli:
        return None
    return usable


def labels_of(enforced: Mapping[str, Version], *, affinity: bool) -> dict[str, str]:
    """How this node holds tasks to what they asked for, in the words that a task may demand."""
    weak = {
        Enforced.CPU: "affinity" if affinity else "none",
        Enforced.MEMORY: "watch",
        Enforced.PIDS: "none",
    }
    return {
        f"{ENFORCE_LABEL}{what}": str(enforced[what]) if what in enforced else weak[what]
        for what in Enforced
    }


def _cpu(cpu_milli: int, topology: Topology, version: Version) -> Setting:
    milli = cpu_milli or _UNASKED_CPU_MILLI
    if version is Version.V2:
        # A hundred for a core, as the default is; less where a node has more cores than fit.
        most_milli = max(100_000, len(topology.cpus) * 1000)
        weight = min(_V2_WEIGHT_MAX, max(1, milli * _V2_WEIGHT_MAX // most_milli))
        return Setting(controller="cpu", version=version, file="cpu.weight", value=str(weight))
    shares = min(_V1_SHARES_MAX, max(_V1_SHARES_MIN, milli * 1024 // 1000))
    return Setting(controller="cpu", version=version, file="cpu.shares", value=str(shares))


def _memory(limit_bytes: int, version: Version) -> list[Setting]:
    if version is Version.V2:
        values = (
            ("memory.high", str(limit_bytes * _HIGH_PERCENT // 100), False),
            ("memory.max", str(limit_bytes), True),
            ("memory.swap.max", "0", False),
            ("memory.oom.group", "1", False),
        )
    else:
        values = (
            ("memory.limit_in_bytes", str(limit_bytes), True),
            ("memory.memsw.limit_in_bytes", str(limit_bytes), False),
            ("memory.swappiness", "0", False),
        )
    return [
        Setting(controller="memory", version=version, file=file, value=value, needed=needed)
        for file, value, needed in values
    ]


# Where only watching is left.


class Verdict(StrEnum):
    """Of a task's use of memory that nothing but us holds it to."""

    FINE = "fine"
    WARN = "warn"
    STOP = "stop"


def judge_memory(used_mib: float, asked_mib: int, *, over_seconds: float) -> Verdict:
    """``over_seconds``: for how long it has been over what it asked for. Asked for none: fine."""
    if asked_mib <= 0 or used_mib <= asked_mib:
        return Verdict.FINE
    far_over = used_mib > asked_mib * OVERUSE_AT_ONCE
    return Verdict.STOP if far_over or over_seconds >= OVERUSE_SECONDS else Verdict.WARN
