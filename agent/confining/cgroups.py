"""The control groups of this node's tasks: found, made, emptied and removed.

Each placement has one group in every tree that is of use, named by its allocation (not by its
attempt: a new attempt finds what an older one left), below one group that is named by the agent's
state directory, so that two agents on a machine don't meet. All is within the group that the agent
itself was put in, unless ``cgroup_parent`` says otherwise: whatever limits the agent limits its
tasks too. Groups exist only while there is something to hold: an idle agent has none.

Version 2 where it has the controllers, version 1 for those that it hasn't; a tree of version 2
without any still tells who is left, and kills them at once.
"""

import hashlib
import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from agent.confining.limits import Setting, Version
from telemetry.probes.cgroups import V2, group_of, tree_of

CONTROLLERS = ("cpu", "memory", "pids", "cpuset")
LEAF = "agent"
"""Where the agent's own processes move to: a group of version 2 that hands on controllers may hold
none itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What a shim needs of its task's group: paths, None for what there isn't."""

    procs: tuple[Path, ...] = ()
    kill: Path | None = None
    events: Path | None = None
    memory_events: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hierarchy:
    version: Version
    controllers: frozenset[str]
    folder: Path
    """Ours, above those of the tasks."""
    handed_on: tuple[Path, ...] = ()
    """Version 2: the groups that have to hand the controllers on, the outermost first."""


def name_of(state_dir: Path) -> str:
    """The group of all tasks of one agent."""
    digest = hashlib.sha256(str(state_dir.absolute()).encode()).hexdigest()
    return f"stowplan-{digest[:12]}"


class ControlGroups:
    """The groups of one agent's tasks. ``notes`` say what can't be used, and why."""

    def __init__(
        self,
        hierarchies: Iterable[_Hierarchy] = (),
        notes: Iterable[str] = (),
        found: Iterable[Path] = (),
    ) -> None:
        """``found``: groups of this agent that are there already, wherever that is."""
        self._hierarchies = tuple(hierarchies)
        self.notes = tuple(notes)
        self._folders = tuple(dict.fromkeys((*(one.folder for one in self._hierarchies), *found)))
        """All that may hold groups of tasks."""

    def enforced(self) -> dict[str, Version]:
        """Each controller that works here, and by which version."""
        return {
            controller: hierarchy.version
            for hierarchy in self._hierarchies
            for controller in hierarchy.controllers
        }

    def make(self, name: str, values: Iterable[Setting], whole: Iterable[Setting] = ()) -> Group:
        """A fresh group of this name with these limits; ``whole`` is for all tasks together.

        Raises:
            OSError: it can't be made, something is in it still, or a limit can't be set.
        """
        self.remove(name)
        if self.is_populated(name):
            raise OSError(f"something is left in the control group of {name}")
        values = tuple(values)
        used = [one for one in self._hierarchies if _is_of_use(one, values)]
        for hierarchy in used:
            self._make_in(hierarchy, name, values, whole)
        return _group({hierarchy: hierarchy.folder / name for hierarchy in used})

    def is_populated(self, name: str) -> bool:
        """Whether a process is in this group, or in one below."""
        return any(any(_pids(folder / name)) for folder in self._folders)

    def kill(self, name: str) -> bool:
        """SIGKILL everything in the group; whether there was anything."""
        found = False
        for above in self._folders:
            folder = above / name
            pids = set(_pids(folder))
            found = found or bool(pids)
            if not pids or ((folder / "cgroup.kill").exists() and _wrote(folder / "cgroup.kill")):
                continue
            for pid in pids - {os.getpid()}:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        return found

    def remove(self, name: str) -> bool:
        """Remove the group where it's empty; False when something is in it."""
        gone = True
        for folder in self._folders:
            gone = _removed(folder / name) and gone
            with suppress(OSError):
                folder.rmdir()  # only when it was the last
        return gone

    def names(self) -> set[str]:
        """Of all groups that there are for tasks."""
        found = set()
        for folder in self._folders:
            with suppress(OSError):
                found |= {entry.name for entry in folder.iterdir() if entry.is_dir()}
        return found

    def _make_in(
        self,
        hierarchy: _Hierarchy,
        name: str,
        values: Iterable[Setting],
        whole: Iterable[Setting],
    ) -> None:
        folder = hierarchy.folder / name
        _make(hierarchy.folder)
        for above in hierarchy.handed_on:
            for controller in sorted(hierarchy.controllers):
                _write(above / "cgroup.subtree_control", f"+{controller}")
        if hierarchy.version is Version.V1 and "cpuset" in hierarchy.controllers:
            # An empty set, which is what a new group has there, lets nobody in.
            for path in (hierarchy.folder, folder):
                _make(path)
                for file in ("cpuset.cpus", "cpuset.mems"):
                    _write(path / file, (path.parent / file).read_text().strip())
        _make(folder)
        for target, settings in ((hierarchy.folder, whole), (folder, values)):
            for setting in settings:
                if setting.version is hierarchy.version and (
                    setting.controller in hierarchy.controllers
                ):
                    _set(target, setting)


def _is_of_use(hierarchy: _Hierarchy, values: Iterable[Setting]) -> bool:
    """A tree for sets of processors alone is one thing more that can fail: not without a set."""
    if hierarchy.version is Version.V2 or hierarchy.controllers != {"cpuset"}:
        return True
    return any(setting.controller == "cpuset" for setting in values)


def _group(folders: Mapping[_Hierarchy, Path]) -> Group:
    second = next((f for one, f in folders.items() if one.version is Version.V2), None)
    memory_events = None
    for one, folder in folders.items():
        if "memory" in one.controllers:
            # Both have a line "oom_kill N".
            file = "memory.events" if one.version is Version.V2 else "memory.oom_control"
            memory_events = folder / file
    return Group(
        procs=tuple(folder / "cgroup.procs" for folder in folders.values()),
        kill=second / "cgroup.kill" if second else None,
        events=second / "cgroup.events" if second else None,
        memory_events=memory_events,
    )


def detect(state_dir: Path, *, parent: str | None = None, root: Path = Path("/")) -> ControlGroups:
    """What can be used on this machine, by trying. ``parent``: a group, in place of our own.

    In version 2 this may move the agent to a group of its own (:data:`LEAF`).
    """
    name = name_of(state_dir)
    notes: list[str] = []
    found: list[_Hierarchy] = []
    try:
        if second := _second(root, name, parent, notes):
            found.append(second)
    except OSError as error:
        notes.append(f"{Version.V2} can't be used: {error}")
    for controller in CONTROLLERS:
        if any(controller in hierarchy.controllers for hierarchy in found):
            continue
        try:
            if first := _first(root, name, parent, controller):
                found = _merged(found, first)
        except OSError as error:
            notes.append(f"{Version.V1} for {controller} can't be used: {error}")
    return ControlGroups(found, notes, left_of(state_dir, root=root))


def left_of(state_dir: Path, *, root: Path = Path("/")) -> list[Path]:
    """The groups that agents with this state directory have made, in whatever group they were: one
    that is started by hand is in another each time."""
    name = name_of(state_dir)
    trees = {tree_of(root, controller) for controller in (V2, *CONTROLLERS)}
    found = []
    for mount in sorted({tree.mount for tree in trees if tree is not None}):
        for folder, below, _ in os.walk(mount):
            if name in below:
                found.append(Path(folder) / name)
                below.remove(name)
    return found


def _merged(found: list[_Hierarchy], one: _Hierarchy) -> list[_Hierarchy]:
    """Controllers of version 1 that are mounted together are one tree."""
    for i, other in enumerate(found):
        if other.folder == one.folder:
            both = other.controllers | one.controllers
            merged = replace(one, controllers=both)
            return [*found[:i], merged, *found[i + 1 :]]
    return [*found, one]


def _first(root: Path, name: str, parent: str | None, controller: str) -> _Hierarchy | None:
    tree, own = tree_of(root, controller), group_of(root, "self", controller)
    if tree is None or own is None:
        return None
    base = _base(tree.mount, parent) if parent else _seen(tree.folder(own), own)
    _try(base / name)
    return _Hierarchy(version=Version.V1, controllers=frozenset({controller}), folder=base / name)


def _second(root: Path, name: str, parent: str | None, notes: list[str]) -> _Hierarchy | None:
    tree, own = tree_of(root, V2), group_of(root, "self", V2)
    if tree is None or own is None:
        return None
    above: tuple[Path, ...] = ()
    if parent:
        base = _base(tree.mount, parent)
        above = tuple(path for path in reversed(base.parents) if path.is_relative_to(tree.mount))
        for path in above:
            _enabled(path, _words(path / "cgroup.controllers"))
    else:
        base = _seen(tree.folder(own), own)
        if base.name == LEAF and base != tree.mount:
            base = base.parent
    _try(base / name)
    controllers = frozenset(CONTROLLERS) & _words(base / "cgroup.controllers")
    try:
        if controllers and not parent:
            _move_to_leaf(base)
        controllers = _enabled(base, controllers)
    except OSError as error:
        # Without controllers it still tells who is left, and kills them.
        controllers = frozenset()
        notes.append(f"{Version.V2} can't limit anything: {error}")
    handed_on = (*above, base, base / name) if controllers else ()
    return _Hierarchy(
        version=Version.V2,
        controllers=controllers,
        folder=base / name,
        handed_on=handed_on,
    )


def _base(mount: Path, parent: str) -> Path:
    base = mount / parent.lstrip("/")
    base.mkdir(parents=True, exist_ok=True)
    return base


def _seen(folder: Path, group: PurePosixPath) -> Path:
    if ".." in group.parts:
        raise OSError(f"the agent's group {group} is out of its sight")
    return folder


def _try(folder: Path) -> None:
    """Whether groups can be made there."""
    _make(folder)
    with suppress(OSError):
        folder.rmdir()


def _enabled(folder: Path, controllers: Iterable[str]) -> frozenset[str]:
    """Hand controllers on to the groups below; those with which that worked."""
    return frozenset(
        controller
        for controller in sorted(controllers)
        if controller in CONTROLLERS and _wrote(folder / "cgroup.subtree_control", f"+{controller}")
    )


def _move_to_leaf(base: Path) -> None:
    """Empty the group in which ours are to be made, where that's our right.

    Raises:
        OSError: others are in it, or it can't be done.
    """
    if not (base / "cgroup.type").exists():
        return  # the root of the tree may hold processes and hand controllers on
    pids = _words(base / "cgroup.procs")
    if not pids:
        return
    if not (pids <= {str(os.getpid())} or _is_delegated(base)):
        raise OSError(
            f"the agent shares its control group {base} with others, and it isn't delegated: run it"
            " as a systemd service with Delegate=yes, or give cgroup_parent"
        )
    _make(base / LEAF)
    for pid in pids:
        with suppress(ProcessLookupError):
            _write(base / LEAF / "cgroup.procs", pid)


def _is_delegated(folder: Path) -> bool:
    """By systemd, which says so; or all of the tree that a container was given."""
    for name in ("trusted.delegate", "user.delegate"):
        with suppress(OSError):
            if os.getxattr(folder, name) == b"1":
                return True
    return not (folder.parent / "cgroup.procs").exists()


def _pids(folder: Path) -> Iterator[int]:
    """Of the group and those below."""
    with suppress(OSError):
        for word in (folder / "cgroup.procs").read_text().split():
            if word != "0":
                yield int(word)
        for entry in folder.iterdir():
            if entry.is_dir():
                yield from _pids(entry)


def _removed(folder: Path) -> bool:
    """Remove a group and those that its task made below; False when that can't be."""
    with suppress(OSError):
        for entry in folder.iterdir():
            if entry.is_dir():
                _removed(entry)
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _set(folder: Path, setting: Setting) -> None:
    try:
        _write(folder / setting.file, setting.value)
    except OSError as error:
        if setting.needed:
            raise OSError(f"can't set {setting.file} to {setting.value}: {error}") from error


def _make(folder: Path) -> None:
    folder.mkdir(exist_ok=True)


def _words(path: Path) -> frozenset[str]:
    with suppress(OSError):
        return frozenset(path.read_text().split())
    return frozenset()


def _wrote(path: Path, text: str = "1") -> bool:
    try:
        _write(path, text)
    except OSError:
        return False
    return True


def _write(path: Path, text: str) -> None:
    # One write: the kernel takes each as a whole.
    path.write_text(text)
