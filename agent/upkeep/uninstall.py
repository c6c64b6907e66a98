"""`stowplan agent uninstall`: ends what runs here, tells the service, and leaves nothing behind."""

import asyncio
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import structlog

from agent.client import RefusedError
from agent.confining.accounts import UnknownAccountError, account_for_tasks
from agent.confining.confinement import sweep
from agent.daemon import Daemon
from agent.processes import kill_marked_below, lock_holder, send_signal
from agent.runtime import MARK
from agent.settings import AgentSettings
from agent.spool import Spool, StateDirBusyError
from agent.start import NoTokenError, make_daemon
from protocol.desired import StopCause

_AGENT_LEAVES_SECONDS = 30.0
_KILL_SECONDS = 10.0
_FAREWELL_SECONDS = 20.0
_LOOK_AGAIN_SECONDS = 0.05
_REASON = "the agent of this node is uninstalled"
_KEPT = "artifacts"


class NotNowError(Exception):
    """It can't be uninstalled as things are; the text says what to do."""


def uninstall(
    settings: AgentSettings, *, also_running: bool, purge: bool, say: Callable[[str], None]
) -> bool:
    """Undo the agent of this state directory; whether nothing of it is left.

    ``also_running``: end an agent that runs on it. ``purge``: remove what tasks have made, too.

    Raises:
        NotNowError: an agent runs on it, or comes back each time.
    """
    state_dir = settings.state_directory()
    if not state_dir.exists():
        say(f"{state_dir} isn't there: nothing to do")
        return True
    # A person follows what we say: the agent's own log would only be in the way.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    _end_agent(state_dir, also_running=also_running, say=say)
    try:
        account = account_for_tasks(settings.task_account, own_uid=os.geteuid())
        spool = Spool(state_dir, artifacts_dir=settings.artifacts_dir, owner=account)
    except UnknownAccountError as error:
        raise NotNowError(str(error)) from None
    except StateDirBusyError:
        raise NotNowError(
            "the agent was started again: systemctl disable --now stowplan-agent.service first"
        ) from None
    try:
        _stop_tasks(spool, say)
        asyncio.run(_say_farewell(settings, spool, say))
        killed = _kill_rest(state_dir)
        if killed:
            say(f"killed {killed} processes that were left")
        sweep(state_dir, kill=True)
        left = _remove(state_dir, purge=purge)
    finally:
        spool.close()
    if left:
        say(f"kept what tasks have made: {state_dir / _KEPT} (--purge removes it)")
    else:
        with suppress(OSError):
            state_dir.rmdir()
        say(f"removed {state_dir}")
    say(f"to forget the node at the service: stowplan remove-node {settings.name}")
    return True


def _end_agent(state_dir: Path, *, also_running: bool, say: Callable[[str], None]) -> None:
    pid = lock_holder(state_dir / "agent.lock")
    if pid is None or pid == os.getpid():
        return
    if not also_running:
        raise NotNowError(
            f"the agent with pid {pid} runs on {state_dir}: drain the node and stop it first "
            "(systemctl disable --now stowplan-agent.service), or say --yes"
        )
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    if not _wait(lambda: lock_holder(state_dir / "agent.lock") != pid, _AGENT_LEAVES_SECONDS):
        raise NotNowError(f"the agent with pid {pid} doesn't end: look at its log")
    say(f"the agent with pid {pid} has ended")


def _stop_tasks(spool: Spool, say: Callable[[str], None]) -> None:
    """By their shims, each by its own sequence: checkpoint first."""
    waits = 0.0
    open_ = [key for key in spool.attempts() if spool.exit(key) is None and spool.intent(key)]
    for key in open_:
        intent, running = spool.intent(key), spool.running(key)
        if intent is None or running is None:
            continue
        launch = intent.allocation.launch
        spool.order_stop(key, cause=StopCause.LEFT, grace_seconds=None, reason=_REASON)
        if send_signal(running.shim, signal.SIGTERM):
            waits = max(waits, launch.stop_seconds_max)
            say(f"stopping {intent.allocation.task_name} ({key.id}), {launch.stop_seconds_max:g} s")
    if waits:
        _wait(lambda: all(spool.exit(key) for key in open_), waits + _KILL_SECONDS)


async def _say_farewell(settings: AgentSettings, spool: Spool, say: Callable[[str], None]) -> None:
    """One last short life of the agent: it tells the service how everything has ended."""
    if spool.token() is None or not spool.attempts():
        return
    try:
        daemon = make_daemon(settings.model_copy(update={"stop_tasks_on_exit": True}), spool)
        async with asyncio.timeout(_FAREWELL_SECONDS):
            await _short_life(daemon)
        say("the service knows how its tasks have ended")
    except (NoTokenError, RefusedError, TimeoutError, OSError) as error:
        why = str(error) or "no answer"
        say(f"the service wasn't told ({why}): it will count what ran here as lost")


async def _short_life(daemon: Daemon) -> None:
    life = asyncio.ensure_future(daemon.run())
    try:
        told = asyncio.ensure_future(daemon.registered.wait())
        await asyncio.wait({life, told}, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if not life.done():
            daemon.leave()
        await life
    finally:
        life.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await life


def _kill_rest(state_dir: Path) -> int:
    """Whatever of our tasks is still there, until nothing is."""
    killed = 0
    until = time.monotonic() + _KILL_SECONDS
    while (count := kill_marked_below(MARK, state_dir)) and time.monotonic() < until:
        killed = max(killed, count)
        time.sleep(_LOOK_AGAIN_SECONDS)
    return killed


def _remove(state_dir: Path, *, purge: bool) -> list[Path]:
    """Everything but what tasks have made; what is left."""
    for path in _children(state_dir):
        if path.name == _KEPT and not purge and any(not one.is_dir() for one in path.rglob("*")):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return list(_children(state_dir))


def _children(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.iterdir())


def _wait(fact: Callable[[], bool], seconds: float) -> bool:
    """Other processes' doing: nothing wakes us but a look."""
    until = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK_AGAIN_SECONDS)
    return True
