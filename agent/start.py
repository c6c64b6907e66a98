"""Puts an agent together from its settings and runs it."""

import asyncio
import logging
import os
import secrets
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO, cast
from urllib.parse import urlsplit

import structlog

from agent.client import RefusedError, ServiceClient
from agent.clock import Clock
from agent.confining.accounts import (
    Account,
    UnknownAccountError,
    account_for_tasks,
    closed_to,
    refusal,
)
from agent.confining.cgroups import detect
from agent.confining.confinement import Confining, topology_of
from agent.daemon import Daemon, watch_signals
from agent.devices.offers import NodeDevices
from agent.devices.releasing import Releases
from agent.environment import make_base
from agent.joining import Membership
from agent.output.log_disk import LogDisk
from agent.output.logs import LogShipper
from agent.output.outputs import Outputs
from agent.ports import PortLeases
from agent.runtime import Runtime
from agent.samples.event_log import EventLog
from agent.samples.measuring import Measuring
from agent.samples.sample_spool import SampleSpool
from agent.samples.shipping import SampleShipper
from agent.samples.windows import Window
from agent.settings import AgentSettings
from agent.spool import Spool, StateDirBusyError
from agent.upkeep.unit import notify
from agent.watches.watching import Watches
from telemetry.collect import Collector, make_collector
from telemetry.probes.tasks import TaskReader

log = structlog.get_logger("stowplan.agent")

EXIT_LEFT = 0
EXIT_REFUSED = 1
EXIT_SETTINGS = 2


class NoTokenError(Exception):
    """The agent has no token to speak with; the text says where to get one."""


def run(settings: AgentSettings) -> int:
    """Run an agent until it is told to leave; its exit code. Must be on the main thread."""
    set_up_logging()
    try:
        account = account_for_tasks(settings.task_account, own_uid=os.geteuid())
    except UnknownAccountError as error:
        log.error("can't run tasks as that account", error=str(error))  # noqa: TRY400  as below
        return EXIT_SETTINGS
    try:
        spool = Spool(
            settings.state_directory(), artifacts_dir=settings.artifacts_dir, owner=account
        )
    except (StateDirBusyError, OSError) as error:
        log.error("can't use the state directory", error=str(error))  # noqa: TRY400  no traceback
        return EXIT_SETTINGS
    try:
        return asyncio.run(_serve(settings, spool, account))
    finally:
        spool.close()


async def _serve(settings: AgentSettings, spool: Spool, account: Account | None) -> int:
    if account is not None and (closed := closed_to(account, spool.root)) is not None:
        log.error(
            "the state directory can't be reached by the account of tasks",
            account=account.name,
            closed=str(closed),
            hint="give --state-dir elsewhere, such as /var/lib/stowplan",
        )
        return EXIT_SETTINGS
    try:
        daemon = make_daemon(settings, spool, account)
    except NoTokenError as error:
        log.error("no token", hint=str(error))  # noqa: TRY400  as above
        return EXIT_SETTINGS
    except OSError as error:
        log.error("can't use the state directory", error=str(error))  # noqa: TRY400  as above
        return EXIT_SETTINGS
    watch_signals(daemon)
    log.info("agent", node=settings.name, server=settings.server, state=str(spool.root))
    notify("READY=1")
    try:
        await daemon.run()
    except RefusedError as error:
        log.error("refused", status=error.status, reason=str(error))  # noqa: TRY400  as above
        return EXIT_REFUSED
    log.info("left")
    return EXIT_LEFT


def make_daemon(settings: AgentSettings, spool: Spool, account: Account | None = None) -> Daemon:
    """An agent that is ready to run, its tasks as ``account``. To be called on its event loop.

    Raises:
        NoTokenError: neither a token of its own nor one to join with.
        OSError: what an earlier run left can't be read.
    """
    join_token = settings.join_token.get_secret_value() if settings.join_token else None
    token = spool.token() or join_token
    if token is None:
        raise NoTokenError(
            "give --join-token or set STOWPLAN_JOIN_TOKEN; `stowplan serve` keeps it in the file"
            " join.token of its home"
        )
    base = make_base(
        node=settings.name,
        path=settings.task_path,
        inherited={**os.environ, **(account.environment() if account else {})},
        nvml_library=settings.nvml_library,
    )
    clock, epoch = Clock(), secrets.token_hex(8)
    client = ServiceClient(settings.server, token=token)
    events = EventLog(spool.root / "events.log")
    outputs = Outputs(spool)
    window = Window(epoch=epoch, seconds=settings.first_window_seconds)
    samples = SampleSpool(spool.root / "samples", most_bytes=settings.sample_spool_mib << 20)
    shipper = SampleShipper(
        node=settings.name, spool=samples, window=window, client=client, now=clock.now
    )
    measuring = Measuring(
        collector=_collector(settings, spool, clock),
        tasks=TaskReader(wall_seconds=clock.wall_seconds),
        clock=clock,
        interval_seconds=settings.sample_interval_seconds,
        window=window,
        spool=samples,
        shipper=shipper,
        events=events,
    )
    confining = make_confining(settings, spool, account, numa=measuring.device_numa)
    devices = NodeDevices(
        sight=lambda: measuring.sight,
        mps_pipe_directory=settings.mps_pipe_directory,
        allocator_fraction=settings.allocator_fraction,
    )
    return Daemon(
        membership=Membership(
            node=settings.name,
            address=settings.address or local_address(settings.server),
            labels={**settings.labels, **confining.labels()},
            device_labels=devices.labels,
            domains=settings.domains,
            join_token=join_token,
        ),
        spool=spool,
        client=client,
        measuring=measuring,
        sample_shipper=shipper,
        log_shipper=LogShipper(
            outputs=outputs,
            client=client,
            bytes_per_second=settings.log_kib_per_second << 10,
        ),
        log_disk=LogDisk(spool=spool, outputs=outputs, most_bytes=settings.log_disk_mib << 20),
        events=events,
        make_releases=lambda emit: Releases(
            spool=spool,
            look_anew=measuring.look_anew,
            emit=emit,
            now=clock.now,
            has_devices=settings.nvml and settings.simulated_devices is None,
            give_up_seconds=settings.release_seconds,
        ),
        make_watches=lambda emit: Watches(
            emit=emit, look_anew=measuring.look_anew, gpu_stop_seconds=settings.gpu_overuse_seconds
        ),
        make_runtime=lambda emit: Runtime(
            spool=spool,
            ports=PortLeases(),
            base=base,
            confining=confining,
            devices=devices,
            emit=emit,
            now=clock.now,
        ),
        now=clock.now,
        epoch=epoch,
        stop_tasks_on_exit=settings.stop_tasks_on_exit,
    )


def make_confining(
    settings: AgentSettings,
    spool: Spool,
    account: Account | None,
    *,
    numa: Callable[[str], int | None],
) -> Confining:
    """What this machine lets the agent hold its tasks to, said once in the log."""
    groups = detect(spool.root, parent=settings.cgroup_parent)
    own_uid = os.geteuid()
    confining = Confining(
        groups=groups,
        topology=topology_of(),
        account=account,
        refusal=refusal(account, settings.root_tasks, own_uid=own_uid, server=settings.server),
        device_numa=numa,
    )
    if groups.notes:
        log.warning("not all control groups can be used", notes=groups.notes)
    log.info("tasks", account=account.name if account else f"uid {own_uid}", **confining.labels())
    return confining


def _collector(settings: AgentSettings, spool: Spool, clock: Clock) -> Collector:
    return make_collector(
        node=settings.name,
        disk=spool.root,
        simulated_devices=settings.simulated_devices,
        nvml=settings.nvml,
        nvml_library=settings.nvml_library,
        wall_seconds=clock.wall_seconds,
    )


def local_address(server: str) -> str:
    """The address of this host that reaches the server: no packet is sent to find it."""
    url = urlsplit(server)
    host = url.hostname or "127.0.0.1"
    try:
        family, kind, _, _, target = socket.getaddrinfo(
            host, url.port or 80, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind) as probe:
            probe.connect(target)
            return probe.getsockname()[0]
    except OSError:
        return socket.gethostname()


class _Stderr:
    """Standard error, as far as it takes anything: a log on a full disk must not end the agent."""

    def write(self, text: str) -> None:
        with suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def set_up_logging() -> None:
    """structlog to stderr: for people on a terminal, JSON lines otherwise."""
    on_terminal = sys.stderr.isatty()
    render = (
        structlog.dev.ConsoleRenderer()
        if on_terminal
        else structlog.processors.JSONRenderer(sort_keys=True)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Stderr())),
    )
