"""What the tasks of a schedule run: it says in a journal that it began, and how it ends.

Run as ``python -I -S attempt.py JOURNAL FORM``; standard library only, so that it starts at once.
The journal proves more than it says: every process of an attempt holds a lock that only its end
lets go of, so that one that begins knows whether any process of another attempt of its task is
still alive, wherever and under whichever agent.
"""

# No pathlib here: it would be half of the start.
# ruff: noqa: PTH118, PTH123, PTH208

import fcntl
import json
import os
import signal
import sys
import time

LONG_SECONDS = 600.0


def main(journal: str, form: dict) -> None:
    """Begin, behave as the form says, and end with its code."""
    if form["ignores_term"]:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _begin(journal)
    if form["leaves"] == "child":
        _leave_behind(escape=False)
    elif form["leaves"] == "escaped":
        _leave_behind(escape=True)
    lingers = form["lingers"] and os.environ["STOWPLAN_GENERATION"] == "1"
    time.sleep(LONG_SECONDS if lingers else form["seconds"])
    # Nothing but a kill may come between the line and the end.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    _write(journal, {"what": "end", "code": form["code"]})
    os._exit(form["code"])


def _begin(journal: str) -> None:
    """Take the lock of this attempt, and note which other attempts of the task are alive."""
    task, own = os.environ["STOWPLAN_TASK"], os.environ["STOWPLAN_GENERATION"]
    with open(os.path.join(journal, "lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        held = os.open(os.path.join(journal, f"{task}.{own}"), os.O_CREAT | os.O_RDWR, 0o666)
        os.set_inheritable(held, True)
        fcntl.flock(held, fcntl.LOCK_SH)
        others = [name for name in os.listdir(journal) if name.startswith(f"{task}.")]
        beside = [name for name in others if name != f"{task}.{own}" and _held(journal, name)]
        _append(journal, {"what": "begin", "beside": beside})


def _held(journal: str, name: str) -> bool:
    fd = os.open(os.path.join(journal, name), os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _leave_behind(*, escape: bool) -> None:
    """A process that outlives its parent; it holds the attempt's lock as long as it lives."""
    if os.fork() == 0:
        if escape:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if os.fork():
                os._exit(0)
        time.sleep(LONG_SECONDS)
        os._exit(0)


def _write(journal: str, line: dict) -> None:
    with open(os.path.join(journal, "lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _append(journal, line)


def _append(journal: str, line: dict) -> None:
    """One write: a line is there, or isn't."""
    whole = {
        **line,
        "task": os.environ["STOWPLAN_TASK"],
        "allocation": os.environ["STOWPLAN_ALLOCATION"],
        "generation": int(os.environ["STOWPLAN_GENERATION"]),
        "local_rank": int(os.environ.get("LOCAL_RANK", "0")),
        "pid": os.getpid(),
        "at_seconds": time.clock_gettime(time.CLOCK_BOOTTIME),
    }
    fd = os.open(os.path.join(journal, "lines"), os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o666)
    os.write(fd, json.dumps(whole).encode() + b"\n")
    os.close(fd)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
