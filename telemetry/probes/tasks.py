"""What each task on this node uses: by the control group that is its own, or by its processes."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from telemetry.probes.processes import Process, ProcessTrees, read_process
from telemetry.probes.task_groups import GroupUse, TaskGroups
from telemetry.probes.task_walk import TaskWalk, WalkUse
from telemetry.samples import TaskSample

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class TaskReading:
    """``pids`` are as /proc shows them here. They are NVML's too, unless the agent has a pid
    namespace of its own.
    """

    sample: TaskSample
    pids: frozenset[int]


@dataclass(slots=True)
class _Task:
    """What is remembered of a task between looks."""

    root: Process
    walk: TaskWalk
    counters: dict[str, float] = field(default_factory=dict)


class TaskReader:
    """Reads tasks, given the process that each began with (the agent's shim). Costs 25 us a
    process where there are no groups. Not for use from several threads.
    """

    def __init__(
        self,
        *,
        root: Path = Path("/"),
        wall_seconds: Callable[[], float] = time.time,
        boot_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._proc = str(root / "proc")
        self._wall_seconds = wall_seconds
        self._boot_seconds = boot_seconds
        self._trees = ProcessTrees(root)
        self._groups = TaskGroups(root)
        self._tasks: dict[str, _Task] = {}

    def read(self, roots: Mapping[str, int]) -> dict[str, TaskReading]:
        """One look at the tasks (allocation -> pid of its root process).

        A task whose root is gone, or is another process than at the first look, is left out. GPU
        fields are None: who knows NVML's processes fills them in, by the pids.
        """
        tasks = self._running(roots)
        folders = self._groups.folders(task.root.pid for task in tasks.values())
        walked = {name: task for name, task in tasks.items() if task.root.pid not in folders}
        trees = self._trees.look(task.root.pid for task in walked.values()) if walked else {}
        readings = {}
        for name, task in tasks.items():
            if task.root.pid in folders:
                readings[name] = self._by_group(name, task, folders[task.root.pid])
            elif processes := trees.get(task.root.pid):
                readings[name] = self._by_walk(name, task, processes)
        return readings

    def _running(self, roots: Mapping[str, int]) -> dict[str, _Task]:
        """The tasks whose root lives; forgets those that aren't asked for any more."""
        known = {name: task for name, task in self._tasks.items() if name in roots}
        running = {}
        for name, pid in roots.items():
            root, task = read_process(self._proc, pid), known.get(name)
            if task is not None and task.root.pid != pid:
                task = None
            if root is None or root.ended or (task is not None and not task.root.is_same(root)):
                continue
            if task is None:
                walk = TaskWalk(proc=self._proc, boot_seconds=self._boot_seconds)
                task = known[name] = _Task(root=root, walk=walk)
            running[name] = task
        self._tasks = known
        return running

    def _by_group(self, name: str, task: _Task, folder: Path) -> TaskReading:
        use = self._groups.read(folder)
        memory_bytes = use.memory_bytes
        if memory_bytes is None or use.read_bytes is None:  # a controller that is switched off
            processes = {pid: found for pid in use.pids if (found := read_process(self._proc, pid))}
            walked = task.walk.read(processes)
            memory_bytes = walked.memory_bytes if memory_bytes is None else memory_bytes
            if use.read_bytes is None:
                use = replace(use, read_bytes=walked.read_bytes, written_bytes=walked.written_bytes)
        return self._reading(name, task, use, memory_bytes, use.pids)

    def _by_walk(self, name: str, task: _Task, processes: Mapping[int, Process]) -> TaskReading:
        use = task.walk.read(processes)
        return self._reading(name, task, use, use.memory_bytes, frozenset(processes))

    def _reading(
        self,
        name: str,
        task: _Task,
        use: GroupUse | WalkUse,
        memory_bytes: int,
        pids: frozenset[int],
    ) -> TaskReading:
        grouped = isinstance(use, GroupUse)
        sample = TaskSample(
            allocation=name,
            taken_at_ms=int(self._wall_seconds() * 1000),
            cpu_seconds=_forward(task, "cpu", use.cpu_seconds),
            cpu_throttled_seconds=use.cpu_throttled_seconds if grouped else None,
            memory_mib=memory_bytes / _MIB,
            read_bytes=_whole(_forward(task, "read", use.read_bytes)),
            written_bytes=_whole(_forward(task, "written", use.written_bytes)),
            # Not pids.current: that counts threads.
            process_count=len(pids),
            oom_kills=use.oom_kills if grouped else None,
        )
        return TaskReading(sample, pids)


def _forward(task: _Task, counter: str, value: float | None) -> float | None:
    """The counter, never less than before, also for a task that was moved to a group of its own
    while it ran: the group's count starts there.
    """
    if value is None:
        return None
    task.counters[counter] = max(value, task.counters.get(counter, value))
    return task.counters[counter]


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
