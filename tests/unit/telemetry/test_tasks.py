"""What tasks use, by real processes and by control groups made of files."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from telemetry.probes.task_walk import PSS_SECONDS
from telemetry.probes.tasks import TaskReader
from tests.machine import V2_MOUNT, machine
from tests.waiting import wait_for

MIB = 1 << 20
TICKS = os.sysconf("SC_CLK_TCK")
PROGRAM = """
import os, signal, sys, time

def work(seconds):
    while time.process_time() < seconds:
        pass

children = []
print("ready", flush=True)
for line in sys.stdin:
    command, *words = line.split()
    if command == "fork":  # children that hold what we hold, for as long as they live
        for _ in range(int(words[0])):
            pid = os.fork()
            if pid == 0:
                signal.pause()
            children.append(pid)
    elif command == "work":  # a child that works
        pid = os.fork()
        if pid == 0:
            work(float(words[0]))
            signal.pause()
        children.append(pid)
    elif command == "hold":
        held = b"x" * (int(words[0]) << 20)
    elif command == "write":
        with open(words[0], "wb") as file:
            file.write(b"x" * (int(words[1]) << 20))
            os.fsync(file.fileno())
    elif command == "kill":
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children if words[0] == "wait" else ():
            os.waitpid(pid, 0)
    elif command == "forget":  # nobody waits for children: the kernel drops what they used
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("done", flush=True)
"""


class Tree:
    """A process that does as it is told, in a session of its own as a shim is."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.pid = self.process.pid
        self._answer()

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n".encode())
        self.process.stdin.flush()
        self._answer()

    def end(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
        self.process.communicate()

    def _answer(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline()


@pytest.fixture
def trees() -> Iterator[Callable[[], Tree]]:
    made: list[Tree] = []

    def make() -> Tree:
        made.append(Tree())
        return made[-1]

    yield make
    for tree in made:
        tree.end()


class Boot:
    """Seconds since boot, as a test says."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def cpu_seconds(reader: TaskReader, tree: Tree) -> float:
    value = reader.read({"a": tree.pid})["a"].sample.cpu_seconds
    assert value is not None
    return value


def memory_mib(reader: TaskReader, tree: Tree) -> float:
    value = reader.read({"a": tree.pid})["a"].sample.memory_mib
    assert value is not None
    return value


def test_each_task_has_its_own_processes_and_no_others(trees: Callable[[], Tree]) -> None:
    first, second = trees(), trees()
    reader = TaskReader(wall_seconds=lambda: 1234.5)
    reader.read({"a": first.pid, "b": second.pid})
    first.tell("fork 3")
    found = reader.read({"a": first.pid, "b": second.pid})
    assert found["b"].pids == {second.pid}
    assert first.pid in found["a"].pids
    assert found["a"].sample.process_count == len(found["a"].pids) == 4
    assert found["a"].sample.allocation == "a"
    assert found["a"].sample.taken_at_ms == 1234500
    assert found["a"].sample.gpu_process_count is None


def test_processes_that_are_there_before_the_first_look_are_found(
    trees: Callable[[], Tree],
) -> None:
    tree, other, reader = trees(), trees(), TaskReader()
    reader.read({"b": other.pid})
    tree.tell("fork 2")
    reader.read({"b": other.pid})
    assert reader.read({"a": tree.pid})["a"].sample.process_count == 3


@pytest.mark.parametrize("reaped", ["wait", "forget"])
def test_cpu_time_of_a_child_that_ended_stays_counted(
    trees: Callable[[], Tree], reaped: str
) -> None:
    tree, reader = trees(), TaskReader()
    if reaped == "forget":
        tree.tell("forget")
    tree.tell("work 0.5")
    wait_for(lambda: cpu_seconds(reader, tree) > 0.45, "the child to have worked")
    before = cpu_seconds(reader, tree)
    tree.tell(f"kill {reaped}")
    wait_for(
        lambda: reader.read({"a": tree.pid})["a"].sample.process_count == 1, "the child to be gone"
    )
    after = cpu_seconds(reader, tree)
    assert before <= after < before + 0.3, "neither lost nor counted twice"
    tree.tell("work 0.5")
    wait_for(lambda: cpu_seconds(reader, tree) > before + 0.45, "more work to come on top of it")


def test_child_of_which_no_look_was_had_is_counted_by_its_parent(
    trees: Callable[[], Tree],
) -> None:
    tree, watched, reader = trees(), trees(), TaskReader()
    before = cpu_seconds(reader, tree)
    tree.tell("work 0.3")
    wait_for(lambda: cpu_seconds(TaskReader(), tree) > before + 0.25, "the child to have worked")
    tree.tell("kill wait")
    assert cpu_seconds(reader, tree) > before + 0.25
    assert cpu_seconds(TaskReader(), watched) < before + 0.25


def test_root_that_is_gone_has_no_reading(trees: Callable[[], Tree]) -> None:
    tree, other, reader = trees(), trees(), TaskReader()
    roots = {"a": tree.pid, "b": other.pid, "never": 2**22 + 1}
    assert set(reader.read(roots)) == {"a", "b"}
    os.kill(tree.pid, signal.SIGKILL)
    wait_for(lambda: set(reader.read(roots)) == {"b"}, "the zombie to count as gone")
    tree.process.wait()
    assert set(reader.read(roots)) == {"b"}


def test_memory_that_forked_processes_share_counts_once(trees: Callable[[], Tree]) -> None:
    tree, boot = trees(), Boot()
    tree.tell("hold 64")
    reader = TaskReader(boot_seconds=boot)
    alone = memory_mib(reader, tree)
    assert alone > 64
    tree.tell("fork 8")
    boot.now += PSS_SECONDS
    assert memory_mib(reader, tree) < alone * 2.5


def test_shared_memory_is_looked_at_once_a_minute(trees: Callable[[], Tree]) -> None:
    tree, boot = trees(), Boot()
    tree.tell("hold 64")
    reader = TaskReader(boot_seconds=boot)
    alone = memory_mib(reader, tree)
    tree.tell("fork 8")
    boot.now += PSS_SECONDS - 1
    assert memory_mib(reader, tree) > alone * 4


def test_bytes_written_are_counted(trees: Callable[[], Tree], tmp_path: Path) -> None:
    tree, reader = trees(), TaskReader()
    tree.tell(f"write {tmp_path / 'file'} 4")
    written = reader.read({"a": tree.pid})["a"].sample.written_bytes
    if not written:
        pytest.skip("no /proc/PID/io here, or the file system is in memory")
    assert written >= 4 * MIB


# Control groups.


def stat(
    pid: int, *, parent: int = 1, started: int = 100, state: str = "S", pages: int = 256
) -> str:
    times = "50 25 10 5"  # ticks of user and system time, of the process and of waited for children
    return (
        f"{pid} (a) b) {state} {parent} 0 0 0 0 0 0 0 0 0 {times} 20 0 1 0 {started} 0 {pages} 0\n"
    )


IO = "rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: {}\nwrite_bytes: {}\n"
GROUP = "sys/fs/cgroup/tasks/a"


def grouped(root: Path, **group: str) -> Path:
    """The agent in a unit of its own; a task with a group in which it is the oldest."""
    files = {
        "proc/self/mountinfo": V2_MOUNT,
        "proc/self/cgroup": "0::/system/agent\n",
        "proc/10/stat": stat(10, started=100),
        "proc/11/stat": stat(11, parent=10, started=101),
        "proc/12/stat": stat(12, parent=1, started=102),
        "proc/10/cgroup": "0::/tasks/a\n",
        f"{GROUP}/cgroup.procs": "10\n0\n",
        f"{GROUP}/inner/cgroup.procs": "11\n12\n",
        f"{GROUP}/cpu.stat": "usage_usec 7500000\nthrottled_usec 250000\n",
        f"{GROUP}/memory.current": f"{300 * MIB}\n",
        f"{GROUP}/memory.stat": f"anon 1\ninactive_file {100 * MIB}\n",
        f"{GROUP}/memory.events": "low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\n",
        f"{GROUP}/io.stat": (
            "259:0 rbytes=1000 wbytes=200 rios=1 wios=1 dbytes=0 dios=0\n"
            "8:0 rbytes=50 wbytes=5 rios=1 wios=1\n"
            "253:0 rbytes=1000 wbytes=200 rios=1 wios=1\n"
        ),
        "sys/dev/block/253:0/slaves/nvme0n1/dev": "259:0\n",
    }
    replaced = {f"{GROUP}/{name.replace('_', '.', 1)}": text for name, text in group.items()}
    return machine(root, files | replaced)


def test_group_of_its_own_tells_what_a_task_uses(tmp_path: Path) -> None:
    reading = TaskReader(root=grouped(tmp_path)).read({"a": 10})["a"]
    found = reading.sample
    assert reading.pids == {10, 11, 12}, "what left the tree of processes is in the group"
    assert (found.cpu_seconds, found.cpu_throttled_seconds) == (7.5, 0.25)
    assert (found.memory_mib, found.process_count, found.oom_kills) == (200, 3, 2)
    assert (found.read_bytes, found.written_bytes) == (1050, 205), "a logical volume counts once"


def test_group_without_controllers_leaves_the_rest_to_its_processes(tmp_path: Path) -> None:
    grouped(tmp_path)
    machine(tmp_path, {"proc/12/io": IO.format(30, 40)})
    for name in ("memory.current", "memory.stat", "memory.events", "io.stat"):
        (tmp_path / GROUP / name).unlink()
    found = TaskReader(root=tmp_path).read({"a": 10})["a"].sample
    assert found.memory_mib == pytest.approx(3 * 256 * os.sysconf("SC_PAGE_SIZE") / MIB)
    assert (found.oom_kills, found.cpu_seconds) == (None, 7.5)
    assert (found.read_bytes, found.written_bytes) == (30, 40)


def by_processes(root: Path) -> bool:
    """True when the task was walked: 10 and its child, each with 90 ticks; 12 isn't in its tree."""
    reading = TaskReader(root=root).read({"a": 10})["a"]
    if reading.sample.cpu_seconds == 7.5:
        return False
    assert reading.pids == {10, 11}
    assert reading.sample.cpu_seconds == 180 / TICKS
    assert reading.sample.cpu_throttled_seconds is None
    return True


@pytest.mark.parametrize(
    ("files", "walked"),
    [
        pytest.param({}, False, id="its own"),
        pytest.param({"proc/self/cgroup": "0::/tasks/a\n"}, True, id="the agent's"),
        pytest.param({"proc/self/cgroup": "0::/tasks/a/x\n"}, True, id="one above the agent's"),
        pytest.param({"proc/self/cgroup": "0::/tasks\n"}, False, id="one below the agent's"),
        pytest.param({"proc/10/cgroup": "0::/\n"}, True, id="the root"),
        pytest.param({"proc/10/cgroup": "0::/../x\n"}, True, id="one outside of our namespace"),
        pytest.param({"proc/11/stat": stat(11, parent=10, started=99)}, True, id="with older ones"),
        pytest.param({"proc/self/mountinfo": ""}, True, id="no version 2 mounted"),
        pytest.param({"proc/self/cgroup": "4:memory:/x\n"}, True, id="version 1 alone"),
    ],
)
def test_only_a_group_of_its_own_speaks_for_a_task(
    tmp_path: Path, files: dict[str, str], walked: bool
) -> None:
    assert by_processes(machine(grouped(tmp_path), files)) is walked


def test_group_that_two_tasks_are_in_speaks_for_neither(tmp_path: Path) -> None:
    more = {"proc/20/stat": stat(20, started=200), "proc/20/cgroup": "0::/tasks/a\n"}
    found = TaskReader(root=machine(grouped(tmp_path), more)).read({"a": 10, "b": 20})
    assert [found[name].pids for name in "ab"] == [{10, 11}, {20}]


def test_task_that_is_moved_to_a_group_keeps_its_counter(tmp_path: Path) -> None:
    grouped(tmp_path, cpu_stat="usage_usec 1000000\n")
    machine(tmp_path, {"proc/10/cgroup": "0::/system/agent\n"})
    reader = TaskReader(root=tmp_path)
    walked = reader.read({"a": 10})["a"].sample.cpu_seconds
    machine(tmp_path, {"proc/10/cgroup": "0::/tasks/a\n"})
    assert reader.read({"a": 10})["a"].sample.cpu_seconds == walked == 180 / TICKS


@pytest.mark.parametrize(
    "later",
    [
        pytest.param(stat(10, started=999), id="the pid is another process's"),
        pytest.param(stat(10, state="Z"), id="the root is a zombie"),
        pytest.param("", id="the root is gone"),
    ],
)
def test_root_that_is_no_more_the_first_one_has_no_reading(tmp_path: Path, later: str) -> None:
    reader = TaskReader(root=grouped(tmp_path))
    assert set(reader.read({"a": 10})) == {"a"}
    machine(tmp_path, {"proc/10/stat": later})
    assert reader.read({"a": 10}) == {}


def test_orphan_stays_with_its_task_and_its_time_too(tmp_path: Path) -> None:
    """10 -> 11 -> 12; then 11 ends and 12 is given to init, as where no subreaper is."""
    root = grouped(tmp_path)
    files = {
        "proc/10/cgroup": "0::/\n",
        "proc/12/stat": stat(12, parent=11),
        "proc/1/stat": stat(1),
    }
    reader = TaskReader(root=machine(root, files))
    before = reader.read({"a": 10})["a"]
    assert before.pids == {10, 11, 12}
    (root / "proc/11/stat").unlink()
    (root / "proc/11").rmdir()
    machine(root, {"proc/12/stat": stat(12, parent=1)})
    after = reader.read({"a": 10})["a"]
    assert after.pids == {10, 12}
    assert after.sample.cpu_seconds == before.sample.cpu_seconds == 270 / TICKS


def test_process_that_hides_its_bytes_later_keeps_those_it_had(tmp_path: Path) -> None:
    root = machine(grouped(tmp_path), {"proc/10/cgroup": "0::/\n"})
    machine(root, {"proc/10/io": IO.format(10, 20), "proc/11/io": IO.format(100, 200)})
    reader = TaskReader(root=root)
    assert reader.read({"a": 10})["a"].sample.read_bytes == 110
    machine(root, {"proc/10/io": IO.format(15, 25)})
    (root / "proc/11/io").unlink()
    found = reader.read({"a": 10})["a"].sample
    assert (found.read_bytes, found.written_bytes) == (115, 225)
