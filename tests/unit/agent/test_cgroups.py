"""Control groups of version 2 on a directory that looks like a tree of them, and real ones where
this machine has any."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.confining.cgroups import LEAF, ControlGroups, detect, name_of
from agent.confining.confinement import sweep
from agent.confining.limits import Setting, Version
from tests.waiting import wait_for

CONTROLLERS = "cpuset cpu io memory pids"
STATE = Path("/var/lib/stowplan/n1")
OURS = name_of(STATE)
MEMORY = Setting(controller="memory", version=Version.V2, file="memory.max", value="1048576")
WEIGHT = Setting(controller="cpu", version=Version.V2, file="cpu.weight", value="800")


class Machine:
    """A root directory whose /proc says that the agent is in ``group`` of a tree of version 2."""

    def __init__(self, root: Path, group: str, *, controllers: str = CONTROLLERS) -> None:
        self.root = root
        self.mount = root / "sys/fs/cgroup"
        self.own = self.mount / group.lstrip("/")
        self.own.mkdir(parents=True)
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/mountinfo").write_text(
            "29 23 0:26 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n"
        )
        (root / "proc/self/cgroup").write_text(f"0::{group}\n")
        for folder in (self.mount, self.own):
            (folder / "cgroup.controllers").write_text(controllers + "\n")
            (folder / "cgroup.procs").write_text("")
            (folder / "cgroup.subtree_control").write_text("")
        if self.own != self.mount:
            (self.own / "cgroup.type").write_text("domain\n")

    def holds(self, *pids: int) -> None:
        """Processes in the agent's own group."""
        (self.own / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))

    def detect(self, parent: str | None = None) -> ControlGroups:
        return detect(STATE, parent=parent, root=self.root)


@pytest.fixture
def unit(tmp_path: Path) -> Machine:
    """An agent that has a group to itself, as systemd gives one to a service."""
    machine = Machine(tmp_path, "/system.slice/stowplan-agent.service")
    machine.holds(os.getpid())
    return machine


def test_a_group_of_version_2_gets_its_values_and_the_paths_that_a_shim_needs(
    unit: Machine,
) -> None:
    groups = unit.detect()
    assert groups.enforced() == dict.fromkeys(("cpu", "memory", "pids", "cpuset"), Version.V2)
    assert groups.notes == ()
    group = groups.make("a1", [MEMORY], [WEIGHT])
    folder = unit.own / OURS / "a1"
    assert (folder / "memory.max").read_text() == "1048576"
    assert (folder.parent / "cpu.weight").read_text() == "800"
    assert group.procs == (folder / "cgroup.procs",)
    assert group.kill == folder / "cgroup.kill"
    assert group.events == folder / "cgroup.events"
    assert group.memory_events == folder / "memory.events"
    assert groups.names() == {"a1"}


def test_the_agent_moves_to_a_leaf_before_its_group_hands_controllers_on(unit: Machine) -> None:
    unit.detect()
    assert (unit.own / LEAF / "cgroup.procs").read_text() == str(os.getpid())
    assert (unit.own / "cgroup.subtree_control").read_text().startswith("+")


def test_an_agent_that_is_in_its_leaf_already_makes_groups_beside_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path, f"/system.slice/stowplan-agent.service/{LEAF}")
    above = machine.own.parent
    for file in ("cgroup.controllers", "cgroup.procs", "cgroup.subtree_control", "cgroup.type"):
        (above / file).write_text(CONTROLLERS if file == "cgroup.controllers" else "")
    groups = machine.detect()
    assert groups.make("a1", []).procs == (above / OURS / "a1/cgroup.procs",)


def test_a_group_that_others_are_in_is_not_emptied_and_limits_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "/user.slice/session-1.scope")
    (machine.own.parent / "cgroup.procs").write_text("")
    machine.holds(os.getpid(), 1)
    groups = machine.detect()
    assert groups.enforced() == {}
    [note] = groups.notes
    assert "Delegate=yes" in note
    assert "cgroup_parent" in note
    assert not (machine.own / LEAF).exists()
    # Who is left, and how to kill them, is known all the same.
    assert groups.make("a1", [MEMORY]).kill == machine.own / OURS / "a1/cgroup.kill"


def test_a_group_can_be_named_and_need_not_be_the_agent_s_own(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "/user.slice/session-1.scope")
    machine.holds(os.getpid(), 1)
    (machine.mount / "stowplan").mkdir()
    (machine.mount / "stowplan/cgroup.controllers").write_text("memory pids")
    groups = machine.detect("/stowplan")
    assert set(groups.enforced()) == {"memory", "pids"}
    assert groups.make("a1", []).procs == (machine.mount / "stowplan" / OURS / "a1/cgroup.procs",)
    assert (machine.mount / "cgroup.subtree_control").read_text().startswith("+")


def test_nothing_can_be_made_on_a_read_only_tree(unit: Machine) -> None:
    # A file where the agent's group should be: for root, too, nothing can be made below it.
    (unit.root / "proc/self/cgroup").write_text("0::/system.slice/gone.service\n")
    (unit.mount / "system.slice/gone.service").write_text("")
    groups = unit.detect()
    assert groups.enforced() == {}
    assert "cgroup2 can't be used" in groups.notes[0]
    assert groups.make("a1", [MEMORY]).procs == ()


def test_a_machine_without_control_groups_has_none(tmp_path: Path) -> None:
    groups = detect(STATE, root=tmp_path)
    assert groups.enforced() == {}
    assert groups.make("a1", [MEMORY]).procs == ()
    assert not groups.is_populated("a1")
    assert not groups.kill("a1")
    assert groups.remove("a1")


def test_a_limit_that_does_not_hold_is_a_fault_and_one_that_is_a_nicety_is_not(
    unit: Machine,
) -> None:
    groups = unit.detect()
    needed = Setting(controller="memory", version=Version.V2, file="no/such", value="1")
    nicety = Setting(
        controller="memory", version=Version.V2, file="no/such", value="1", needed=False
    )
    groups.make("a1", [nicety])
    with pytest.raises(OSError, match="can't set no/such to 1"):
        groups.make("a2", [needed])


def test_groups_of_two_state_directories_do_not_meet() -> None:
    assert name_of(Path("/a")) != name_of(Path("/b"))


# Real groups: version 2 with or without controllers, version 1, whatever there is.


@pytest.fixture
def real(tmp_path: Path) -> Iterator[ControlGroups]:
    groups = detect(tmp_path)
    if not groups.make("try", []).procs:
        pytest.skip("no control groups can be made on this machine")
    groups.remove("try")
    yield groups
    sweep(tmp_path, kill=True)


def run_in(groups: ControlGroups, name: str, script: str) -> subprocess.Popen[bytes]:
    """A shell that joins a fresh group and runs a script."""
    group = groups.make(name, [])
    join = "".join(f"echo 0 > {path};" for path in group.procs)
    process = subprocess.Popen(["sh", "-c", join + script], start_new_session=True)
    wait_for(lambda: groups.is_populated(name), "it has joined")
    return process


def test_everything_in_a_group_is_killed_also_what_left_its_session(real: ControlGroups) -> None:
    process = run_in(real, "a1", "trap '' TERM; setsid sleep 1000 & exec sleep 1000")
    assert real.kill("a1")
    assert process.wait(30) == -signal.SIGKILL
    wait_for(lambda: not real.is_populated("a1"), "nothing is left")
    assert real.remove("a1")
    assert real.names() == set()


def test_a_group_with_something_in_it_is_neither_removed_nor_made_anew(
    real: ControlGroups,
) -> None:
    process = run_in(real, "a1", "exec sleep 1000")
    try:
        assert not real.remove("a1")
        with pytest.raises(OSError, match="something is left"):
            real.make("a1", [])
    finally:
        process.kill()
        process.wait(30)


def test_groups_below_that_a_task_has_made_go_with_it(real: ControlGroups) -> None:
    [first, *_] = real.make("a1", []).procs
    (first.parent / "below/further").mkdir(parents=True)
    assert real.remove("a1")
    assert not first.parent.exists()


def test_groups_are_found_again_by_their_state_directory_alone(
    real: ControlGroups, tmp_path: Path
) -> None:
    process = run_in(real, "a1", "exec sleep 1000")
    sweep(tmp_path, kill=False)
    assert real.is_populated("a1")
    sweep(tmp_path, kill=True)
    assert process.wait(30) == -signal.SIGKILL
    wait_for(lambda: sweep(tmp_path, kill=False) or not real.names(), "the group is gone")
