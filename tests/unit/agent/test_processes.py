import os
import select
import signal
import subprocess
from dataclasses import replace

from agent.processes import Identity, boot_id, open_pidfd, send_signal, start_ticks

ME = os.getpid()


def identity_of(pid: int) -> Identity:
    ticks = start_ticks(pid)
    assert ticks is not None
    return Identity(pid=pid, start_ticks=ticks, boot_id=boot_id())


def test_a_running_process_is_recognised() -> None:
    fd = open_pidfd(identity_of(ME))
    assert fd is not None
    assert select.select([fd], [], [], 0)[0] == []
    os.close(fd)


def test_a_pid_that_was_used_again_is_another_process() -> None:
    me = identity_of(ME)
    assert open_pidfd(replace(me, start_ticks=me.start_ticks - 1)) is None


def test_a_process_of_an_earlier_boot_is_gone() -> None:
    assert open_pidfd(replace(identity_of(ME), boot_id="another")) is None


def test_a_dead_process_can_not_be_signalled() -> None:
    child = subprocess.Popen(["sleep", "600"])
    identity = identity_of(child.pid)
    assert send_signal(identity, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not send_signal(identity, signal.SIGKILL)
    assert start_ticks(child.pid) is None
