"""Carries out the instructions about allocations: shims, ports, directories. Decides nothing."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from agent import endings, shim
from agent.confining.confinement import Confining, NotAllowedError
from agent.devices.offers import NodeDevices
from agent.environment import Base, task_environment
from agent.events import Event, Exited, Found, Key, Moment, PortLeased, Start, Started
from agent.ports import NoPortError, PortLeases
from agent.processes import boot_id, kill_marked, open_pidfd
from agent.spool import Intent, Spool
from protocol.desired import StopCause
from protocol.report import AllocationState, Exit

_SHIM = Path(shim.__file__)
# Every process of an attempt carries its directory in the environment: unique on the machine, also
# with several agents, so that what a killed shim left behind can be found.
MARK = "STOWPLAN_SPOOL"
log = structlog.get_logger("stowplan.agent")

_SHIM_START_SECONDS = 5.0
_LOOK_AGAIN_SECONDS = 0.05
_BURIAL_SECONDS = 5.0
_TRUSTED_KILLS = 12  # a minute: a shim may wait for a process in the kernel, or for room on a disk


@dataclass(slots=True)
class _Watched:
    """A shim that is alive, or was a moment ago."""

    pidfd: int
    pid: int
    is_child: bool
    """To be reaped by us; one of an earlier run of the agent isn't."""
    words: int | None = None
    """The pipe on which it tells that the program runs."""
    kills: int = field(default=0)


class Runtime:
    """The allocations of one node. To be used on the event loop's thread only."""

    def __init__(
        self,
        *,
        spool: Spool,
        ports: PortLeases,
        base: Base,
        confining: Confining,
        devices: NodeDevices,
        emit: Callable[[Event], None],
        now: Callable[[], Moment],
    ) -> None:
        self._spool = spool
        self._ports = ports
        self._base = base
        self._confining = confining
        self._devices = devices
        self._emit = emit
        self._now = now
        self._watched: dict[Key, _Watched] = {}
        self._port_of: dict[Key, int] = {}
        self._burials: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """Let go of everything; what runs goes on."""
        self._confining.leave(keep={key.id for key in self._spool.attempts() if self._is_here(key)})
        for key in list(self._watched):
            self._unwatch(key)
        for burial in self._burials:
            burial.cancel()
        self._ports.close()

    # After a start of the agent.

    async def recover(self) -> tuple[Found, ...]:
        """What an earlier run of the agent left. What runs is watched; what ended has its exit."""
        found = [await self._recover(key) for key in self._spool.attempts()]
        known = tuple(one for one in found if one is not None)
        for name in self._confining.clean(keep={one.key.id for one in known}):
            log.warning("removed a control group that no task is known of", name=name)
        return known

    async def _recover(self, key: Key) -> Found | None:
        intent = self._spool.intent(key)
        if intent is None:
            self._spool.forget(key)  # nothing was started before the intent was on disk
            return None
        self._port_of[key] = intent.port
        self._ports.adopt(intent.port)
        await self._shim_has_decided(key)
        running = self._spool.running(key)
        state = AllocationState.EXITED
        if self._spool.exit(key) is None:
            pidfd = open_pidfd(running.shim) if running else None
            if running is None or pidfd is None:
                state = await self._try_to_bury(key)
            else:
                self._watch(key, _Watched(pidfd=pidfd, pid=running.shim.pid, is_child=False))
                stopping = self._spool.stop_order(key) is not None
                state = AllocationState.STOPPING if stopping else AllocationState.RUNNING
        return Found(
            key=key,
            allocation=intent.allocation,
            state=state,
            port=intent.port,
            pid=running.main.pid if running else None,
            started_at_ms=running.started_at_ms if running else None,
            exit=self._exit(key) if state is AllocationState.EXITED else None,
        )

    async def _try_to_bury(self, key: Key) -> AllocationState:
        """What doesn't end although it's killed must not keep the agent from its other work."""
        try:
            async with asyncio.timeout(_BURIAL_SECONDS):
                await self._bury(key)
        except TimeoutError:
            # Not before the state knows of the attempt: this runs when our caller is through.
            loop = asyncio.get_running_loop()
            loop.call_soon(lambda: self._in_background(self._bury_and_tell(key)))
            return AllocationState.STOPPING
        return AllocationState.EXITED

    async def _shim_has_decided(self, key: Key) -> None:
        """Wait for a shim that was started just before the agent died to say who runs, or to be
        gone.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_SHIM_START_SECONDS):
                # Another process's file and lock: nothing wakes us but a look.
                while self._spool.is_locked(key) and self._spool.running(key) is None:  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    # Instructions.

    def lease_port(self, key: Key, wanted: int | None) -> None:
        self._release_port(key)
        try:
            port = self._ports.lease(wanted)
        except (NoPortError, OSError) as error:
            self._emit_exit(key, Exit(reason=f"no port: {error}", at_ms=self._now().wall_ms))
            return
        self._port_of[key] = port
        self._emit(PortLeased(at=self._now(), key=key, port=port))

    def start(self, order: Start) -> None:
        """Start a shim; the program itself starts when its identity is on disk."""
        key, launch = order.key, order.allocation.launch
        try:
            confinement = self._confining.prepare(order.allocation)
            artifacts = self._spool.artifacts(order.allocation.task)
            environment = task_environment(
                self._base,
                order.allocation,
                port=order.port,
                master_port=order.master_port,
                artifacts=artifacts,
                control=self._spool.control(key),
                ranks=self._spool.ranks(key),
                offer=self._devices.offer(
                    order.allocation,
                    {"PATH": self._base.path, **self._base.variables, **launch.env},
                ),
            )
            intent = Intent(
                allocation=order.allocation,
                port=order.port,
                argv=launch.argv,
                env={**environment, MARK: str(self._spool.directory(key))},
                working_dir=launch.working_dir or str(self._spool.work(key)),
                confinement=confinement.form(),
                baseline_memory_mib=self._devices.memory_used_mib(order.allocation.devices),
            )
            self._spool.keep_intent(key, intent)
            self._ports.hand_over(order.port)
            self._watch(key, self._spawn(key))
        except NotAllowedError as error:
            self._emit_exit(key, Exit(reason=str(error), at_ms=self._now().wall_ms))
        except OSError as error:
            reason = f"can't start it on this node: {error}"
            self._emit_exit(key, Exit(lost=True, reason=reason, at_ms=self._now().wall_ms))

    def stop(self, key: Key, cause: StopCause, reason: str) -> None:
        """End it by its own sequence, its grace included."""
        self._order_stop(key, cause=cause, grace_seconds=None, reason=reason)

    def _order_stop(
        self, key: Key, *, cause: StopCause, grace_seconds: float | None, reason: str
    ) -> None:
        watched = self._watched.get(key)
        if watched is None:
            return  # it has ended; its exit is on the way
        self._spool.order_stop(key, cause=cause, grace_seconds=grace_seconds, reason=reason)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(watched.pidfd, signal.SIGTERM)

    def kill(self, key: Key, cause: StopCause, reason: str) -> None:
        """Stop without grace; from the second time on the shim is helped with it."""
        watched = self._watched.get(key)
        if watched is None:
            return
        watched.kills += 1
        if watched.kills == 1:
            self._order_stop(key, cause=cause, grace_seconds=0, reason=reason)
            return
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(watched.pidfd, signal.SIGCONT)  # somebody may have stopped it
        self._in_background(self._help_to_kill(key, watched))

    async def _help_to_kill(self, key: Key, watched: _Watched) -> None:
        """A shim is killed itself only when it has nothing left to wait for: with it goes the exit
        code."""
        left = await asyncio.to_thread(self._kill_processes, key, grouped=True)
        if not left and watched.kills > _TRUSTED_KILLS and self._watched.get(key) is watched:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(watched.pidfd, signal.SIGKILL)

    @property
    def holds_memory(self) -> bool:
        """Whether the kernel holds tasks to their memory here."""
        return self._confining.holds_memory

    def shim_pid(self, key: Key) -> int | None:
        """The process above all others of an attempt, while it is alive."""
        watched = self._watched.get(key)
        return watched.pid if watched else None

    def forget(self, key: Key) -> None:
        self._release_port(key)
        self._spool.forget(key)
        if not self._spool.directory(key).parent.exists():
            self._confining.release(key.id)

    # Shims.

    def _spawn(self, key: Key) -> _Watched:
        directory = self._spool.directory(key)
        words, words_writer = os.pipe()
        try:
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", str(_SHIM), str(directory)],
                {},  # the shim needs nothing of our environment, and the task gets its own
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, words_writer, 1),
                    (
                        os.POSIX_SPAWN_OPEN,
                        2,
                        str(directory / "shim.log"),
                        os.O_CREAT | os.O_APPEND | os.O_WRONLY,
                        0o600,
                    ),
                ],
                setsid=True,
                # Until it looks for orders: one that comes before must not end it.
                setsigmask=[signal.SIGTERM],
            )
        except OSError:
            os.close(words)
            raise
        finally:
            os.close(words_writer)
        return _Watched(pidfd=os.pidfd_open(pid), pid=pid, is_child=True, words=words)

    def _watch(self, key: Key, watched: _Watched) -> None:
        loop = asyncio.get_running_loop()
        self._watched[key] = watched
        loop.add_reader(watched.pidfd, self._shim_ended, key)
        if watched.words is not None:
            loop.add_reader(watched.words, self._shim_spoke, key)

    def _unwatch(self, key: Key) -> None:
        loop = asyncio.get_running_loop()
        watched = self._watched.pop(key)
        self._stop_listening(watched)
        loop.remove_reader(watched.pidfd)
        os.close(watched.pidfd)

    def _stop_listening(self, watched: _Watched) -> None:
        if watched.words is not None:
            asyncio.get_running_loop().remove_reader(watched.words)
            os.close(watched.words)
            watched.words = None

    def _shim_spoke(self, key: Key) -> None:
        self._stop_listening(self._watched[key])
        running = self._spool.running(key)
        if running is not None:
            started_at_ms, pid = running.started_at_ms, running.main.pid
            self._emit(Started(at=self._now(), key=key, pid=pid, started_at_ms=started_at_ms))

    def _shim_ended(self, key: Key) -> None:
        watched = self._watched[key]
        if watched.words is not None:
            self._shim_spoke(key)  # a short program: both were there to be read at once
        self._unwatch(key)
        exit_code = 0
        if watched.is_child:
            with suppress(ChildProcessError):
                exit_code = os.waitstatus_to_exitcode(os.waitpid(watched.pid, 0)[1])
        if exit_code == shim.LOCKED_EXIT_CODE:
            reason = "an earlier attempt still runs on this node"
            at_ms = self._now().wall_ms
            self._spool.keep_exit(key, endings.lost(reason, at_ms=at_ms))
        if self._spool.exit(key) is not None:
            self._emit_exit(key, self._exit(key))
            return
        self._in_background(self._bury_and_tell(key))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._burials.add(task)
        task.add_done_callback(self._burials.discard)

    async def _bury_and_tell(self, key: Key) -> None:
        await self._bury(key)
        self._emit_exit(key, self._exit(key))

    async def _bury(self, key: Key) -> None:
        """The shim is gone without a word: kill what it left, and write the exit in its place."""
        while await asyncio.to_thread(self._kill_left, key):  # noqa: ASYNC110  as above
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        stopped = self._spool.stop_order(key) is not None
        form = endings.lost(self._why_lost(key), at_ms=self._now().wall_ms, stopped=stopped)
        self._spool.keep_exit(key, form)

    def _kill_left(self, key: Key) -> bool:
        """Kill what is left without a shim; whether there was anything. Where a later attempt has
        one, the group is that one's.
        """
        return self._kill_processes(key, grouped=not self._spool.is_locked(key))

    def _kill_processes(self, key: Key, *, grouped: bool) -> bool:
        """Kill the attempt's processes but its shim, with ``grouped`` those of its control group
        too; whether there were any."""
        marked = kill_marked(MARK, str(self._spool.directory(key)))
        in_group = grouped and self._confining.kill(key.id)
        return bool(marked) or in_group

    def _is_here(self, key: Key) -> bool:
        return key in self._watched or self._spool.exit(key) is None

    def _why_lost(self, key: Key) -> str:
        running = self._spool.running(key)
        if running is None:
            words = endings.last_line(self._spool.directory(key) / "shim.log")
            return f"it never ran: the start was interrupted{': ' + words if words else ''}"
        if running.shim.boot_id != boot_id():
            return "the node was rebooted while it ran"
        return "its shim was killed, so nobody saw how it ended; what it left behind was killed"

    def _exit(self, key: Key) -> Exit:
        form = self._spool.exit(key)
        assert form is not None, key  # noqa: S101  only called where there is one
        intent = self._spool.intent(key)
        memory_mib = intent.allocation.memory_mib if intent else 0
        output, ranks = self._spool.output(key), self._spool.ranks(key)
        return endings.describe(form, output, ranks, memory_mib=memory_mib)

    def _emit_exit(self, key: Key, how: Exit) -> None:
        self._emit(Exited(at=self._now(), key=key, exit=how))

    def _release_port(self, key: Key) -> None:
        port = self._port_of.pop(key, None)
        if port is not None:
            self._ports.release(port)
