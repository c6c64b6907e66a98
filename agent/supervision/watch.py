"""A shim's course, from the lock to ``exit.json`` (:mod:`agent.shim` says why in this order)."""

# ruff: noqa: PTH110, PTH118, PTH208, SIM105

import fcntl
import os
import time

from agent.supervision import control, forms, kernel, program
from agent.supervision.family import WAKING, Family, stat_fields
from agent.supervision.forms import Form
from agent.supervision.kernel import signal
from agent.supervision.program import Gate
from agent.supervision.stopping import ASK, END, KILL, Stop

_FIRST_FOR_PROCESSOR = -20
_LAST_FOR_MEMORY = -900
# How often the answers of a program that was asked for a checkpoint are looked for.
_LISTEN_SECONDS = 0.05
# Behind the lease's end: an agent that is there acts first, and tells why in its own words.
_LEASE_SLACK_SECONDS = 1.0
# A lease may have been renewed, and a machine suspended, since it was last looked at.
_LOOK_AGAIN_SECONDS = 30.0
# How often a program is looked at that has yet to come to run.
_LOOK_SECONDS = 0.002
_LOOK_MAX_SECONDS = 1.0
_FULL_DISK_SECONDS = 0.1
_FULL_DISK_MAX_SECONDS = 5.0

_LEASE_REASON = "lease expired: no agent renewed it, and the task may run elsewhere"
_LEFT_REASON = "the shim was told to stop by the machine, not by the agent"


def run(directory: str) -> bool:
    """Run the allocation of this directory to its end; False when another attempt is there."""
    _close_inherited()
    os.chdir(directory)
    if not _lock(os.path.join(directory, os.pardir, "lock")):
        return False
    if os.path.exists("exit.json"):
        return True  # settled already: whoever wrote it took us for dead, and must not be wrong
    intent = forms.read("intent.json")
    family = Family(intent.get("confinement") or {})
    if family.is_confined_alive():
        return False  # workers outlive a shim's lock when it was killed; their cgroup knows
    signal.pthread_sigmask(signal.SIG_BLOCK, WAKING)
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    kernel.prctl(kernel.SET_CHILD_SUBREAPER, 1)
    exit_form = _attend(intent, family)
    _keep("exit.json", exit_form, directory)
    return True


def _attend(intent: Form, family: Family) -> Form:
    """Start the program and see it to its end: the form of its exit."""
    orders = _Orders(intent)
    try:
        forms.reserve("exit.json")
        family.main, gate = program.fork(intent)
    except OSError as error:
        return _exit_form(family, None, f"can't start it on this node: {error.strerror}")
    intent.clear()  # its environment may be large
    _be_there_when_needed()
    early_stop, failure = None, _keep_identity(family.main, orders.boot_id)
    if not failure:
        early_stop = orders.new(machine=False)
        if early_stop is not None:
            failure = "stopped before it was started"
        else:
            gate.open()
    gate.close()  # one that was never opened ends the process behind it
    stop = _watch(family, orders, gate)
    if early_stop is not None:
        stop = Stop(early_stop, orders.sequence, _now())
    family.end()
    return _exit_form(family, stop, failure or gate.fault)


class _Orders:
    """Whence the orders to stop come: the agent, the lease's end, the machine."""

    def __init__(self, intent: Form) -> None:
        self.boot_id = forms.read_bytes("/proc/sys/kernel/random/boot_id").decode().strip()
        # An agent that was upgraded finds intents of the one before, which lack what is new.
        self.sequence: Form = intent.get("stop") or {"grace_seconds": intent["grace_seconds"]}
        keeps = intent.get("on_lease_lost") == "keep"
        self._lease: str | None = None if keeps else intent["lease"]
        self._last: Form | None = None

    def new(self, *, machine: bool) -> Form | None:
        """An order that wasn't there the last time. ``machine``: whether a SIGTERM has come."""
        order = forms.read_if_there("stop.json")
        if order is not None:
            fresh = order if order != self._last else None
            self._last = order
            return fresh
        if self._last is not None:
            return None
        if machine:
            return self._own("left", _LEFT_REASON)
        if self.lease_seconds_left() <= 0:
            return self._own("lease", _LEASE_REASON)
        return None

    def lease_seconds_left(self) -> float:
        """Until the node's lease and the slack are over, on the clock that counts suspended time.

        Without a lease of this boot on disk there is nothing to keep to: look again later.
        """
        form = forms.read_if_there(self._lease) if self._lease else None
        if form is None or form.get("boot_id") != self.boot_id:
            return _LOOK_AGAIN_SECONDS
        return form["until_seconds"] + _LEASE_SLACK_SECONDS - _now()

    def _own(self, cause: str, reason: str) -> Form:
        """An order of the shim's own, on disk for the agent to know. It stands without."""
        order = {"cause": cause, "reason": reason, "grace_seconds": None}
        try:
            forms.write_if_none("stop.json", order)
        except OSError:
            pass  # the agent's own order came first and is read next, or the disk is full
        self._last = order
        return order


def _watch(family: Family, orders: _Orders, gate: Gate) -> Stop | None:
    """Reap until the main process is gone, and stop it when that's ordered: the stop, if any."""
    stop: Stop | None = None
    machine = False
    look: float | None = _LOOK_SECONDS
    """When to see whether the program has come to run; None once it has."""
    while True:
        if look is not None and gate.is_passed():
            look = None
            _tell_agent()
        family.reap()
        if family.main is None:
            break
        order = orders.new(machine=machine)
        if order is not None and stop is not None:
            stop.shorten(order, _now())
        elif order is not None:
            stop = Stop(order, orders.sequence, _now())
        if stop is not None:
            _carry_on(stop, family)
        pause = _pause(stop, orders)
        if look is not None:
            pause, look = min(pause, look), min(1.2 * look, _LOOK_MAX_SECONDS)
        woken = signal.sigtimedwait(WAKING, pause)
        machine = woken is not None and woken.si_signo == signal.SIGTERM
    gate.is_passed()  # takes in why it couldn't, if so
    machine = machine or signal.SIGTERM in signal.sigpending()
    if stop is None and machine and _was_ended_by_sigterm(family):
        # All of a machine's processes get it when that goes down, in whatever order.
        order = orders.new(machine=True)
        stop = Stop(order, orders.sequence, _now()) if order is not None else None
    return stop


def _carry_on(stop: Stop, family: Family) -> None:
    """Tell the program what is due."""
    while word := stop.advance(
        _now(), acknowledged=control.is_acknowledged(), done=control.is_done()
    ):
        if word == ASK:
            control.forget_words()
            if stop.ask_by == "file":
                control.ask()
            else:
                family.tell_main(getattr(signal, str(stop.ask_by)))
        elif word == END:
            family.tell_main(signal.SIGTERM)
        elif word == KILL:
            family.end()


def _pause(stop: Stop | None, orders: _Orders) -> float:
    """How long nothing can be due, unless a signal comes."""
    if stop is None:
        seconds = orders.lease_seconds_left()
    elif stop.awaits_words:
        seconds = min(stop.until - _now(), _LISTEN_SECONDS)
    else:
        seconds = stop.until - _now()
    return max(0.0, min(seconds, _LOOK_AGAIN_SECONDS))


def _was_ended_by_sigterm(family: Family) -> bool:
    status = family.status or 0
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM


def _exit_form(family: Family, stop: Stop | None, failure: str) -> Form:
    """How it ended. Neither code nor signal: it never ran."""
    code = None
    if family.status is not None and not failure:
        code = os.waitstatus_to_exitcode(family.status)
    checkpoint = None
    if stop is not None and stop.asked:
        checkpoint = "saved" if control.is_done() else "unsaved"
    return {
        "code": code if code is not None and code >= 0 else None,
        "signal": -code if code is not None and code < 0 else None,
        "stopped": stop is not None,
        "lost": False,
        "cause": stop.cause if stop is not None else None,
        "checkpoint": checkpoint,
        "oom": family.ran_out_of_memory(),
        "reason": failure or (stop.reason if stop is not None else ""),
        "at_ms": _wall_ms(),
    }


def _keep(name: str, form: Form, directory: str) -> None:
    """Put the exit on disk, however long the disk is full: only we know it. The lock is held
    meanwhile, so nobody takes the attempt for lost."""
    pause = _FULL_DISK_SECONDS
    while True:
        try:
            forms.write(name, form)
        except OSError as error:
            if not os.path.exists(directory):
                return  # forgotten: nobody asks any more
            if pause == _FULL_DISK_SECONDS:
                _complain(f"can't write {name} (trying on): {error.strerror}: {form}")
        else:
            return
        time.sleep(pause)
        pause = min(2 * pause, _FULL_DISK_MAX_SECONDS)


def _keep_identity(pid: int, boot_id: str) -> str:
    """Put on disk who runs: why that can't be done, or nothing."""
    try:
        forms.write(
            "running.json",
            {
                "shim_pid": os.getpid(),
                "shim_start_ticks": int(stat_fields(os.getpid())[19]),
                "pid": pid,
                "start_ticks": int(stat_fields(pid)[19]),
                "boot_id": boot_id,
                "started_at_ms": _wall_ms(),
            },
        )
    except OSError as error:
        return f"not started: can't write down who runs: {error.strerror}"
    return ""


def _lock(path: str) -> bool:
    lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True  # held, by the open file, until we are gone


def _close_inherited() -> None:
    """Files that a library of the agent's left open are neither ours nor the program's."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.close(int(name))
            except OSError:
                continue  # the listing itself


def _be_there_when_needed() -> None:
    """A shim next to never runs, but has to when nothing else can: it gets the processor before a
    fork bomb, and when memory runs out the kernel is to take the program, not who saw it end."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, _FIRST_FOR_PROCESSOR)
    except OSError:
        return  # not root: what little there is stays as it is
    for path, value in (
        # The kernel shares among sessions first, and a bomb may make each process a session.
        ("/proc/self/autogroup", _FIRST_FOR_PROCESSOR),
        ("/proc/self/oom_score_adj", _LAST_FOR_MEMORY),
    ):
        try:
            fd = os.open(path, os.O_WRONLY)
            os.write(fd, str(value).encode())
            os.close(fd)
        except OSError:
            continue  # a kernel without it


def _tell_agent() -> None:
    """A line on stdout, for an agent that waits for it; it may be gone by now."""
    try:
        os.write(1, b"running\n")
    except OSError:
        pass
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)


def _complain(words: str) -> None:
    try:
        os.write(2, words.encode() + b"\n")
    except OSError:
        return  # it's the disk, most likely


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _wall_ms() -> int:
    return int(time.time() * 1000)
