"""The program's process, from the fork to exec: waits at a gate, is confined, becomes the program.

What only the child imports costs the shim nothing: it is gone with exec.
"""

# ruff: noqa: PTH100, PTH103, PTH110, PTH118, PTH120, PTH123, PLC0415

import errno
import os

from agent.supervision import kernel
from agent.supervision.forms import Form
from agent.supervision.kernel import signal

CONTROL = "control"

_UMASK = 0o027
_OUTPUT = "output.log"
_OPEN = b"go"


class Gate:
    """What keeps the program from running until it's known on disk who it is."""

    def __init__(self, fd: int, faults: int) -> None:
        self._fd = fd
        self._faults = faults
        os.set_blocking(faults, False)
        self.fault = ""
        """Why the program can't run, as far as that's known by now."""

    def open(self) -> None:
        try:
            os.write(self._fd, _OPEN)
        except BrokenPipeError:
            return  # killed meanwhile: its status tells

    def close(self) -> None:
        """A closed gate that was never opened ends the process behind it."""
        os.close(self._fd)

    def is_passed(self) -> bool:
        """Whether the program runs now, or won't ever. There is no waiting for it: a directory of a
        dead file server keeps whoever enters it.
        """
        while True:
            try:
                words = os.read(self._faults, 4096)
            except BlockingIOError:
                return False
            if not words:
                return True  # exec has closed it, or the end of its process
            self.fault += words.decode(errors="replace")


def fork(intent: Form) -> tuple[int, Gate]:
    """The program's process at its gate.

    Raises:
        OSError: no process can be made.
    """
    gate_reader, gate = os.pipe()
    faults, faults_writer = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(gate)
        os.close(faults)
        try:
            _become(intent, gate_reader, parent)
        except BaseException as error:  # noqa: BLE001  nothing of the parent may run in the child
            os.write(faults_writer, _words(error, intent).encode(errors="replace"))
        finally:
            os._exit(127)
    os.close(gate_reader)
    os.close(faults_writer)
    return pid, Gate(gate, faults)


class _RefusedError(Exception):
    """Something that the program needs can't be had; says what."""


def _become(intent: Form, gate_reader: int, parent: int) -> None:
    """Turn into the program, once the gate is open."""
    _die_with(parent)
    if os.read(gate_reader, len(_OPEN)) != _OPEN:
        os._exit(127)
    os.setsid()
    confinement = intent.get("confinement") or {}
    account = confinement.get("account")
    output = os.open(_OUTPUT, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    control = os.path.abspath(CONTROL)
    os.makedirs(control, mode=0o700, exist_ok=True)
    if account:
        # /dev/stderr is opened anew by many a program, under its own account.
        for mine in (output, control):
            os.chown(mine, account["uid"], account["gid"])
    _confine(confinement)
    if account:
        _take_account(account)
        _die_with(parent)  # a change of the account has undone it
        if not os.access(control, os.W_OK | os.X_OK):
            raise _RefusedError(f"account {account['uid']} can't reach {control}")
    os.umask(_UMASK)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    _forget_signals()
    _enter(intent["working_dir"])
    _execute(intent["argv"], intent["env"])


def _die_with(parent: int) -> None:
    """Without a shim nobody could say how the program ended: it must not outlive it."""
    kernel.prctl(kernel.SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(127)


def _confine(confinement: Form) -> None:
    """Join the cgroups and take on what is inherited: all that it starts is bound by it, too."""
    for path in confinement.get("cgroups", ()):
        with _refusal(f"can't join the cgroup {os.path.dirname(path)}"):
            fd = os.open(path, os.O_WRONLY)
            os.write(fd, b"0")
            os.close(fd)
    cpus = confinement.get("cpus")
    if cpus:
        with _refusal(f"can't run on the processors {cpus}"):
            os.sched_setaffinity(0, cpus)
    limits = confinement.get("limits") or {}
    for name, limit in limits.items():
        _limit(name, limit)
    try:
        with open("/proc/self/oom_score_adj", "wb") as file:
            file.write(b"0")  # the agent's is lower: its tasks go first
    except OSError:
        return  # it's no lower than ours then


def _limit(name: str, limit: "int | list[int] | None") -> None:
    """One rlimit: a number for both, soft and hard apart, or none (also: -1)."""
    import resource

    kind = getattr(resource, f"RLIMIT_{name.upper()}", None)
    if kind is None:
        raise _RefusedError(f"no limit is called {name!r}")
    soft, hard = limit if isinstance(limit, list) else (limit, limit)
    values = [resource.RLIM_INFINITY if value is None else value for value in (soft, hard)]
    most = resource.getrlimit(kind)[1]
    with _refusal(f"can't limit {name} to {limit}"):
        try:
            resource.setrlimit(kind, (values[0], values[1]))
        except ValueError:  # above the hard limit, and no right to raise it: it stays as narrow
            kept = [most if value == resource.RLIM_INFINITY else value for value in values]
            resource.setrlimit(kind, (min(kept[0], most), min(kept[1], most)))


def _take_account(account: Form) -> None:
    with _refusal(f"can't become account {account['uid']}:{account['gid']}"):
        os.setgroups(account.get("groups") or [])
        os.setresgid(account["gid"], account["gid"], account["gid"])
        os.setresuid(account["uid"], account["uid"], account["uid"])
        # Else the first setuid program would be the way back.
        kernel.prctl(kernel.SET_NO_NEW_PRIVS, 1)


def _enter(working_dir: str) -> None:
    with _refusal(f"can't enter the working directory {working_dir}"):
        os.chdir(working_dir)


def _forget_signals() -> None:
    """As from a fresh login: exec hands on what is ignored (SIGPIPE by Python, SIGHUP by nohup)
    and what is blocked (by the shim)."""
    for number in range(1, signal.NSIG):
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            continue  # SIGKILL, SIGSTOP and the C library's own
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


class _refusal:  # noqa: N801  to be read as a word after `with`; contextlib is dear
    """Turns an error of the system into the words for what could not be done."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, OSError):
            raise _RefusedError(f"{self._what}: {error.strerror or error}") from error


def _execute(argv: list[str], env: "dict[str, str]") -> None:
    """Never through a shell. Nor by ``os.execvpe``: it imports, and the account may have no way to
    where this Python is."""
    error = FileNotFoundError(errno.ENOENT, "no such program")
    folders = [""] if "/" in argv[0] else env.get("PATH", os.defpath).split(os.pathsep)
    for folder in folders:
        try:
            os.execve(os.path.join(folder, argv[0]), argv, env)  # noqa: S606
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as fault:
            error = fault  # one that may not be run is more to the point than those not there
    raise error


def _words(error: BaseException, intent: Form) -> str:
    if isinstance(error, _RefusedError):
        return str(error)
    name = intent["argv"][0]
    if isinstance(error, OSError):
        if error.errno == errno.ENOENT and "/" in name and os.path.exists(name):
            return f"can't run {name!r}: the interpreter that it names is not on this node"
        if error.errno == errno.ENOENT:
            return f"no program {name!r} on this node (PATH={intent['env'].get('PATH', '')})"
        return f"can't run {name!r}{_as_whom(intent)}: {error.strerror}"
    return f"can't run {name!r}: {error}"


def _as_whom(intent: Form) -> str:
    """What the agent may run, the account of its tasks perhaps may not."""
    account = (intent.get("confinement") or {}).get("account") or {}
    return f" as account {account['name']}" if "name" in account else ""
