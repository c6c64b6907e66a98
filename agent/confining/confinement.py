"""What a task of this node is held to, put together: its control group, its processors, its
resource limits and its account. The shim carries it out in the program's process, before the
program begins (:mod:`agent.shim`)."""

import os
import resource
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.confining.accounts import Account
from agent.confining.cgroups import ControlGroups, Group, left_of
from agent.confining.limits import Topology, labels_of, limits_of, whole_of
from protocol.desired import DesiredAllocation

_RESOURCES = {"nofile": resource.RLIMIT_NOFILE, "memlock": resource.RLIMIT_MEMLOCK}
_LEFTOVER_SECONDS = 1.0
_LOOK_AGAIN_SECONDS = 0.01


class NotAllowedError(Exception):
    """No task may be started here as things are; the text says what a person can do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What one attempt is held to. The default holds it to nothing."""

    group: Group = field(default_factory=Group)
    account: Account | None = None
    """None: the agent's own."""
    cpus: tuple[int, ...] | None = None
    resources: dict[str, list[int]] = field(default_factory=dict)

    def form(self) -> dict[str, Any]:
        """As ``intent.json`` holds it."""
        account = self.account
        return {
            "cgroups": [str(path) for path in self.group.procs],
            "kill": _text(self.group.kill),
            "events": _text(self.group.events),
            "memory_events": _text(self.group.memory_events),
            "account": account
            and {
                "name": account.name,
                "uid": account.uid,
                "gid": account.gid,
                "groups": list(account.groups),
            },
            "cpus": None if self.cpus is None else list(self.cpus),
            "limits": self.resources,
        }


class Confining:
    """Holds the tasks of one node. ``refusal`` says why none may be started, None: nothing is
    against it; ``device_numa`` knows a device's NUMA node."""

    def __init__(
        self,
        *,
        groups: ControlGroups,
        topology: Topology,
        account: Account | None = None,
        refusal: str | None = None,
        device_numa: Callable[[str], int | None] = lambda _: None,
    ) -> None:
        self.account = account
        self._groups = groups
        self._topology = topology
        self._refusal = refusal
        self._device_numa = device_numa
        self._enforced = groups.enforced()
        self._whole = whole_of(topology, self._enforced)

    def labels(self) -> dict[str, str]:
        """What the node says of how it holds tasks to what they asked for."""
        return labels_of(self._enforced, affinity=len(self._topology.numa) > 1)

    @property
    def holds_memory(self) -> bool:
        """Whether the kernel does; otherwise somebody has to watch."""
        return "memory" in self._enforced

    def prepare(self, allocation: DesiredAllocation) -> Confinement:
        """Everything that must be there before the program is started.

        Raises:
            NotAllowedError: it mustn't be started here.
            OSError: its group can't be made, or an older attempt is in it still.
        """
        if self._refusal is not None:
            raise NotAllowedError(self._refusal)
        limits = limits_of(
            allocation,
            self._topology,
            self._enforced,
            device_numa=[self._device_numa(device) for device in allocation.devices],
            hard={name: resource.getrlimit(kind)[1] for name, kind in _RESOURCES.items()},
        )
        self._empty(allocation.id)
        return Confinement(
            group=self._groups.make(allocation.id, limits.settings, self._whole),
            account=self.account,
            cpus=limits.cpus,
            resources=limits.resources,
        )

    def kill(self, allocation: str) -> bool:
        """SIGKILL all that is left of an allocation; whether there was anything."""
        return self._groups.kill(allocation)

    def release(self, allocation: str) -> None:
        """Nothing of it is to run here any more."""
        self._groups.remove(allocation)

    def clean(self, keep: Collection[str]) -> list[str]:
        """Kill and remove what belongs to no allocation that is kept; what there was."""
        left = sorted(self._groups.names() - set(keep))
        for name in left:
            self._empty(name)
            self._groups.remove(name)
        return left

    def leave(self, keep: Collection[str]) -> None:
        """The agent ends: remove empty groups, but those that are kept."""
        for name in self._groups.names() - set(keep):
            self._groups.remove(name)

    def _empty(self, name: str) -> None:
        """Blocks for a moment, and only where an older attempt has left something."""
        until = time.monotonic() + _LEFTOVER_SECONDS
        while self._groups.kill(name) and time.monotonic() < until:
            time.sleep(_LOOK_AGAIN_SECONDS)


def sweep(state_dir: Path, *, kill: bool) -> None:
    """Remove what agents with this state directory have left of control groups, for when there is
    no agent; ``kill``: also what is in them, otherwise only those that are empty."""
    confining = Confining(
        groups=ControlGroups(found=left_of(state_dir)), topology=Topology(cpus=())
    )
    if kill:
        confining.clean(keep=())
    else:
        confining.leave(keep=())


def topology_of(root: Path = Path("/")) -> Topology:
    """This machine's, within what the agent may use."""
    numa = {}
    for folder in (root / "sys/devices/system/node").glob("node[0-9]*"):
        try:
            numa[int(folder.name[4:])] = _cpu_list((folder / "cpulist").read_text())
        except (OSError, ValueError):
            continue
    try:
        pids_max = int((root / "proc/sys/kernel/pid_max").read_text())
    except (OSError, ValueError):
        pids_max = Topology.pids_max
    return Topology(cpus=tuple(sorted(os.sched_getaffinity(0))), numa=numa, pids_max=pids_max)


def _cpu_list(text: str) -> tuple[int, ...]:
    """``0-3,8`` as the kernel writes it; a node of memory alone has none."""
    cpus: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return tuple(cpus)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
