"""Runs one allocation's program, outlives the agent, and writes down how the program ended.

Started by the agent as ``python -I -S shim.py DIRECTORY`` in a session of its own; standard library
only. It owns the lock of its allocation, gets every orphan of the program (subreaper), and keeps to
this order, so that a crash at any point leaves a directory that tells the truth:

1. ``intent.json`` was written by the agent before the shim was started;
2. the program's process is forked, but waits at a gate;
3. ``running.json`` names that process for good (pid, start time, boot);
4. only then the gate opens, and the program is executed;
5. once the program and everything it started are gone, ``exit.json`` says how it ended.

The node's lease binds the shim too: an agent that died, or was refused, can't stop its tasks when
the service may start them elsewhere, so each shim reads the lease's end and keeps to it by itself.

SIGTERM to the shim stops the program: SIGTERM to the main process only (a data loader's worker that
gets it dies before the checkpoint is written), the grace of ``stop.json``, then SIGKILL to
everything.
"""

# No pathlib here: every running task has a shim, and would pay for it in memory.
# ruff: noqa: PTH105, PTH110, PTH118, PTH123, PTH208

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import signal
import sys
import time

Form = dict  # of JSON; typing itself would cost each shim half a MiB

LOCKED_EXIT_CODE = 75  # EX_TEMPFAIL: another shim holds this allocation

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_WAKING = {signal.SIGCHLD, signal.SIGTERM}
# How long a killed process may take to go before it is looked at again.
_KILL_AGAIN_SECONDS = 0.05
# Behind the lease's end: an agent that is there acts first, and tells why in its own words.
_LEASE_SLACK_SECONDS = 1.0
# A lease may have been renewed, and a machine suspended, since it was last looked at.
_LOOK_AGAIN_SECONDS = 30.0


def main(directory: str) -> int:
    """Run the allocation of this directory to its end."""
    os.chdir(directory)
    if not _lock(os.path.join(directory, os.pardir, "lock")):
        return LOCKED_EXIT_CODE
    if os.path.exists("exit.json"):
        return 0  # settled already: whoever wrote it took us for dead, and must not be wrong
    intent = _read("intent.json")
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAKING)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    pid, gate, errors = _fork(intent)
    identity = _identity(pid)
    _write("running.json", identity)
    _tell_agent()
    early_stop = _read_if_there("stop.json")
    if early_stop is None:
        os.write(gate, b"go")
    os.close(gate)  # a closed gate that was never opened ends the process behind it
    failure = _read_all(errors)
    status, stop = _watch(pid, intent["grace_seconds"], (intent["lease"], identity["boot_id"]))
    if early_stop is not None:
        failure, stop = "stopped before it was started", early_stop
    _kill_all()
    _write("exit.json", _exit_record(status, stop, failure))
    return 0


def _lock(path: str) -> bool:
    lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True  # held, by the open file, until we are gone


def _fork(intent: Form) -> tuple[int, int, int]:
    """The program's process at its gate: (pid, the gate, the pipe that tells a failed exec)."""
    gate_reader, gate = os.pipe()
    errors, errors_writer = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(gate)
        os.close(errors)
        try:
            _become(intent, gate_reader, parent)
        except BaseException as error:  # noqa: BLE001  nothing of the parent may run in the child
            os.write(errors_writer, _words(error, intent).encode(errors="replace"))
        finally:
            os._exit(127)
    os.close(gate_reader)
    os.close(errors_writer)
    return pid, gate, errors


def _become(intent: Form, gate_reader: int, parent: int) -> None:
    """Turn into the program, once the gate is open."""
    # Without a shim nobody could say how the program ended: it must not outlive it.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent or not os.read(gate_reader, 2):
        os._exit(127)
    os.setsid()
    output = os.open("output.log", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and exec would hand that on
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WAKING)
    os.chdir(intent["working_dir"])
    os.execvpe(intent["argv"][0], intent["argv"], intent["env"])  # noqa: S606  argv, never a shell


def _words(error: BaseException, intent: Form) -> str:
    if isinstance(error, OSError):
        if error.filename == intent["working_dir"]:
            return f"can't enter the working directory {error.filename}: {error.strerror}"
        if error.errno == errno.ENOENT:
            path = intent["env"].get("PATH", "")
            return f"no program {intent['argv'][0]!r} on this node (PATH={path})"
        return f"can't run {intent['argv'][0]!r}: {error.strerror}"
    return f"can't run {intent['argv'][0]!r}: {error}"


def _watch(pid: int, default_grace_seconds: float, lease: tuple) -> tuple[int, Form | None]:
    """Reap until the main process is gone: (its wait status, the stop order if it had one)."""
    stop = None
    kill_at = None
    while True:
        status = _reap(pid)
        if status is not None:
            return status, stop
        order = _read_if_there("stop.json")
        if order is not None and order != stop:
            os.kill(pid, signal.SIGTERM)
            # A second order may shorten the grace, never prolong it.
            proposed = time.monotonic() + order["grace_seconds"]
            kill_at = proposed if kill_at is None else min(kill_at, proposed)
            stop = order
        if kill_at is None:
            left = _lease_seconds_left(*lease)
            if left <= 0:
                reason = "lease expired: no agent renewed it, and the task may run elsewhere"
                _write("stop.json", {"grace_seconds": default_grace_seconds, "reason": reason})
                continue
            woken = signal.sigtimedwait(_WAKING, min(left, _LOOK_AGAIN_SECONDS))
        elif time.monotonic() >= kill_at:
            _kill_descendants()
            woken = signal.sigtimedwait(_WAKING, _KILL_AGAIN_SECONDS)
        else:
            woken = signal.sigtimedwait(_WAKING, kill_at - time.monotonic())
        if woken and woken.si_signo == signal.SIGTERM and not os.path.exists("stop.json"):
            reason = "the shim was told to stop by the machine, not by the agent"
            _write("stop.json", {"grace_seconds": default_grace_seconds, "reason": reason})


def _lease_seconds_left(path: str, boot_id: str) -> float:
    """Until the node's lease and the slack are over, on the clock that counts suspended time.

    Without a lease of this boot on disk there is nothing to keep to: look again later.
    """
    form = _read_if_there(path)
    if form is None or form["boot_id"] != boot_id:
        return _LOOK_AGAIN_SECONDS
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    return form["until_seconds"] + _LEASE_SLACK_SECONDS - now


def _reap(pid: int) -> int | None:
    """Collect whoever has ended; the main process's status, None while it runs."""
    status = None
    with contextlib.suppress(ChildProcessError):
        while True:
            ended, how = os.waitpid(-1, os.WNOHANG)
            if ended == 0:
                break
            if ended == pid:
                status = how
    return status


def _kill_all() -> None:
    """Kill what the program left behind until nothing is left."""
    while True:
        _kill_descendants()
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        signal.sigtimedwait(_WAKING, _KILL_AGAIN_SECONDS)


def _kill_descendants() -> None:
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parents[int(name)] = int(_stat(int(name))[1])
    family = {os.getpid()}
    grew = True
    while grew:
        more = {pid for pid, parent in parents.items() if parent in family} - family
        family |= more
        grew = bool(more)
    for pid in family - {os.getpid()}:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _exit_record(status: int, stop: Form | None, failure: str) -> Form:
    code = os.waitstatus_to_exitcode(status)
    ran = not failure
    return {
        "code": code if ran and code >= 0 else None,
        "signal": -code if ran and code < 0 else None,
        "stopped": stop is not None,
        "lost": False,
        "reason": failure or (stop or {}).get("reason", ""),
        "at_ms": int(time.time() * 1000),
    }


def _identity(pid: int) -> Form:
    with open("/proc/sys/kernel/random/boot_id") as file:
        boot_id = file.read().strip()
    return {
        "shim_pid": os.getpid(),
        "shim_start_ticks": int(_stat(os.getpid())[19]),
        "pid": pid,
        "start_ticks": int(_stat(pid)[19]),
        "boot_id": boot_id,
        "started_at_ms": int(time.time() * 1000),
    }


def _stat(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat from the third (state) on; the name before may hold any byte."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()


def _tell_agent() -> None:
    """A line on stdout, for an agent that waits for it; it may be gone by now."""
    with contextlib.suppress(OSError):
        os.write(1, b"running\n")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def _read(name: str) -> Form:
    with open(name) as file:
        return json.load(file)


def _read_if_there(name: str) -> Form | None:
    try:
        return _read(name)
    except FileNotFoundError:
        return None


def _read_all(fd: int) -> str:
    parts = []
    while part := os.read(fd, 4096):
        parts.append(part)
    os.close(fd)
    return b"".join(parts).decode(errors="replace")


def _write(name: str, form: Form) -> None:
    """On disk for good, whole or not at all."""
    with open(name + ".new", "w") as file:
        json.dump(form, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(name + ".new", name)
    directory = os.open(".", os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
