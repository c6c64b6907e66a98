"""What `stowplan agent doctor` looks at on the machine itself: interpreter, devices, accounts,
control groups, limits, ports, systemd.
"""

import os
import platform
import resource
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from agent.confining.accounts import UnknownAccountError, account_for_tasks, closed_to, refusal
from agent.confining.cgroups import CONTROLLERS
from agent.confining.limits import NOFILE
from agent.ports import FIRST, LAST
from agent.settings import AgentSettings
from agent.upkeep.checkup import Finding, fail, ok, warn
from protocol.task import Enforced
from telemetry.collect import make_collector
from telemetry.probes.cgroups import V2, group_of, tree_of

UNIT = "stowplan-agent.service"
_TORCH_SECONDS = 120.0
_COMMAND_SECONDS = 10.0
_NVIDIA = Path("/proc/driver/nvidia")
_PROC = Path("/proc")
_LISTENS = "0A"
_DEVICE_LOOKS = 4
_PORTS_FREE_MIN = 100
_ASK_TORCH = (
    "import torch; print(torch.__version__, torch.version.cuda or 'cpu', torch.cuda.device_count())"
)


def python() -> Iterator[Finding]:
    yield ok("program", f"stowplan {version('stowplan')} on Python {platform.python_version()}")


def accounts(settings: AgentSettings, state_dir: Path) -> Iterator[Finding]:
    what = "account"
    own_uid = os.geteuid()
    try:
        account = account_for_tasks(settings.task_account, own_uid=own_uid)
    except UnknownAccountError as error:
        mend = "make the account (useradd --system NAME), or name another"
        yield fail(what, str(error), mend)
        return
    if account is not None:
        closed = closed_to(account, state_dir) if state_dir.exists() else None
        if closed is not None:
            mend = "give --state-dir elsewhere, such as /var/lib/stowplan"
            yield fail(what, f"{account.name} can't pass {closed} on the way to its work", mend)
        else:
            yield ok(what, f"tasks run as {account.name} (uid {account.uid})")
        return
    refused = refusal(None, settings.root_tasks, own_uid=own_uid, server=settings.server)
    if refused is not None:
        yield fail(what, "no task may be started", refused)
    elif own_uid == 0:
        mend = "name an account for them: STOWPLAN_AGENT_TASK_ACCOUNT"
        yield warn(what, "tasks run as root", mend)
    else:
        yield ok(what, f"tasks run as the agent itself (uid {own_uid})")


def devices(settings: AgentSettings) -> Iterator[Finding]:
    what = "devices"
    if settings.simulated_devices:
        yield ok(what, f"simulated, as numbers only: {settings.simulated_devices}")
        return
    if not settings.nvml:
        yield ok(what, "not looked for (--no-nvml)")
        return
    collector = make_collector(node="this-node", disk=Path("/"), nvml_library=settings.nvml_library)
    try:
        inventory = collector.collect().inventory
        for _ in range(_DEVICE_LOOKS - 1):
            if inventory.devices or inventory.device_source != "none" or not _NVIDIA.exists():
                break  # opening NVML may take seconds a GPU; each look waits a while
            inventory = collector.collect().inventory
    finally:
        collector.close()
    said = inventory.device_message or ""
    has_driver = _NVIDIA.exists()
    if "mismatch" in said.lower():
        mend = "the driver was upgraded under a loaded module: reboot, or unload and load nvidia"
        yield fail(what, said, mend)
    elif not inventory.devices and has_driver:
        mend = "see dmesg; install the libnvidia-ml of the loaded driver, or --nvml-library"
        yield fail(what, f"a driver is loaded, but NVML shows no GPU: {said}", mend)
    elif not inventory.devices:
        yield ok(what, f"no NVIDIA GPU: {said}" if said else "no NVIDIA GPU")
    else:
        models = sorted({device.model for device in inventory.devices})
        yield ok(
            what,
            f"{len(inventory.devices)} x {', '.join(models)}, driver {inventory.driver_version}",
        )
    for device in inventory.devices:
        if not device.healthy:
            mend = "nvidia-smi -q, dmesg; it takes no task until then"
            yield warn(what, f"GPU {device.index}: {device.fault}", mend)
    if inventory.devices and not settings.nvml_library:
        yield from _persistence()


def _persistence() -> Iterator[Finding]:
    said = _output("nvidia-smi", "--query-gpu=persistence_mode", "--format=csv,noheader")
    if said is not None and "Disabled" in said:
        mend = "enable nvidia-persistenced: else each start of a task waits for the driver"
        yield warn("persistence", "persistence mode is off", mend)


def torch(settings: AgentSettings) -> Iterator[Finding]:
    """In a process of its own, as tasks find it: importing it takes seconds, memory and a GPU."""
    what = "torch"
    interpreter = shutil.which("python", path=settings.task_path) or shutil.which(
        "python3", path=settings.task_path
    )
    if interpreter is None:
        mend = "install python, or give STOWPLAN_AGENT_TASK_PATH"
        yield warn(what, f"no python on the PATH of tasks ({settings.task_path})", mend)
        return
    try:
        asked = subprocess.run(  # noqa: S603  our own words
            [interpreter, "-c", _ASK_TORCH],
            env={"PATH": settings.task_path, "HOME": os.environ.get("HOME", "/")},
            capture_output=True,
            text=True,
            timeout=_TORCH_SECONDS,
            check=False,
        )
    except (subprocess.TimeoutExpired, OSError) as error:
        yield warn(what, f"{interpreter}: {error}", "is its disk, or a driver, hanging?")
        return
    if asked.returncode != 0:
        last = (asked.stderr.strip().splitlines() or ["no reason given"])[-1]
        mend = f"only torch tasks need it: {interpreter} -m pip install torch"
        yield warn(what, f"{interpreter} can't import it: {last}", mend)
        return
    release, cuda, count = asked.stdout.split()[-3:]
    if cuda == "cpu" and _NVIDIA.exists():
        mend = "install a build with CUDA: https://pytorch.org"
        yield warn(what, f"torch {release} of {interpreter} has no CUDA, this machine has", mend)
    else:
        yield ok(what, f"torch {release} ({cuda}, {count} devices) of {interpreter}")


def control_groups() -> Iterator[Finding]:
    """What could be enforced from where this process is: a service of systemd has more."""
    enforced = {name: where for name in CONTROLLERS if (where := _controller(name)) is not None}
    names = [f"{name} by {where}" for name, where in sorted(enforced.items())]
    missing = [one.value for one in Enforced if one.value not in enforced]
    found = f"enforced from here: {', '.join(names)}" if names else "nothing is enforced from here"
    if missing:
        mend = (
            "run the agent as root or as a systemd service with Delegate=yes (stowplan agent unit);"
            " until then these are watched, not enforced"
        )
        yield warn("control groups", f"{found}; not {', '.join(missing)}", mend)
    else:
        yield ok("control groups", found)


def _controller(name: str) -> str | None:
    second, own = tree_of(Path("/"), V2), group_of(Path("/"), "self", V2)
    if second is not None and own is not None:
        folder = second.folder(own)
        controllers = folder / "cgroup.controllers"
        if controllers.exists() and name in controllers.read_text().split():
            return "cgroup2" if os.access(folder, os.W_OK) else None
    first, own = tree_of(Path("/"), name), group_of(Path("/"), "self", name)
    if first is not None and own is not None and os.access(first.folder(own), os.W_OK):
        return "cgroup1"
    return None


def resource_limits() -> Iterator[Finding]:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < NOFILE:
        mend = f"LimitNOFILE={NOFILE} in the unit, or /etc/security/limits.conf"
        yield warn("open files", f"{most} at most: loaders and NCCL may want more", mend)
    else:
        yield ok("open files", "without limit" if most == resource.RLIM_INFINITY else str(most))
    _, locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if locked != resource.RLIM_INFINITY and Path("/sys/class/infiniband").exists():
        mend = "LimitMEMLOCK=infinity in the unit, or /etc/security/limits.conf"
        yield warn("pinned memory", f"{locked >> 20} MiB at most: InfiniBand needs more", mend)


def swap() -> Iterator[Finding]:
    lines = (_PROC / "swaps").read_text().splitlines()[1:]
    if lines:
        mend = "swapoff -a: a task in swap is slow for hours where it should end with a reason"
        yield warn("swap", f"{len(lines)} in use: {lines[0].split()[0]}", mend)
    else:
        yield ok("swap", "none")


def ports() -> Iterator[Finding]:
    """Of the range from which gangs and services get theirs."""
    taken = set()
    for table in ("tcp", "tcp6"):
        path = _PROC / "net" / table
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            fields = line.split()
            if fields[3] == _LISTENS:
                taken.add(int(fields[1].rpartition(":")[2], 16))
    count = LAST - FIRST + 1
    free = count - sum(FIRST <= port <= LAST for port in taken)
    first, last = map(int, (_PROC / "sys/net/ipv4/ip_local_port_range").read_text().split())
    if free < _PORTS_FREE_MIN:
        mend = "end what listens there"
        yield fail("ports", f"{free} of {count} from {FIRST} to {LAST} are free", mend)
    elif first <= LAST and last >= FIRST:
        mend = f"sysctl net.ipv4.ip_local_port_range='{LAST + 1} {max(last, LAST + 2)}'"
        yield warn(
            "ports",
            f"outgoing connections take theirs from {first} to {last}: one may sit on a task's",
            mend,
        )
    else:
        yield ok("ports", f"{free} of {count} from {FIRST} to {LAST} are free")


def systemd(agent_pid: int | None) -> Iterator[Finding]:
    what = "systemd"
    if not Path("/run/systemd/system").exists():
        yield ok(what, "not in charge of this machine")
        return
    unit = _unit_of(agent_pid) or UNIT
    said = _output(
        "systemctl", "show", unit, "--property=LoadState,KillMode,Delegate,ActiveState,Restart"
    )
    values = dict(line.split("=", 1) for line in (said or "").splitlines() if "=" in line)
    if values.get("LoadState") != "loaded":
        mend = f"stowplan agent unit > /etc/systemd/system/{UNIT}; systemctl enable --now {UNIT}"
        yield warn(what, f"no unit {unit}: the agent isn't started at boot", mend)
        return
    faults = []
    if values.get("KillMode") != "process":
        faults.append(f"KillMode={values.get('KillMode')}: a restart of the agent kills its tasks")
    if values.get("Delegate") != "yes":
        faults.append("Delegate is off: limits of tasks can't be enforced")
    if values.get("Restart") not in {"always", "on-failure"}:
        faults.append("Restart is off: an agent that fails isn't started again")
    if faults:
        mend = f"write it anew: stowplan agent unit > /etc/systemd/system/{UNIT}"
        yield warn(what, f"{unit}: {'; '.join(faults)}", mend)
    else:
        yield ok(what, f"{unit} is {values.get('ActiveState')}, KillMode=process, Delegate=yes")


def _unit_of(pid: int | None) -> str | None:
    if pid is None:
        return None
    try:
        text = (_PROC / str(pid) / "cgroup").read_text()
    except OSError:
        return None
    for word in text.replace("\n", "/").split("/"):
        if word.endswith(".service") and not word.startswith("user@"):
            return word
    return None


def _output(*command: str) -> str | None:
    """What a command prints; None where there is no such command, or it fails."""
    try:
        done = subprocess.run(  # noqa: S603  our own words
            command, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
