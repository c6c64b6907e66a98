"""Puts the service together, and serves it."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from types import FrameType

import uvicorn
from fastapi import FastAPI

from app import health, log, openapi, problems
from app.advice import routes as advice
from app.auth import load_credentials, write_private
from app.clock import Clock, SystemClock
from app.db.engine import Database
from app.db.migrate import upgrade
from app.db.samples.looks import Looks
from app.deps import Context
from app.events import routes as events
from app.findings import Findings
from app.heartbeats import Heartbeats, Pace
from app.ids import Ids, TimeOrderedIds
from app.leases import node_routes
from app.leases import routes as leases
from app.limits import BodyLimit
from app.loops.bookings import BookingLoop
from app.loops.drains import DrainLoop
from app.loops.durations import DurationLoop
from app.loops.etas import EtaLoop
from app.loops.memory import MemoryLoop, leave_the_old_alone
from app.loops.nodes import NodesLoop
from app.loops.planning import PlanningLoop
from app.loops.retention import RetentionLoop
from app.loops.rollups import RollupLoop
from app.loops.runner import Runner
from app.loops.usage import UsageLoop
from app.loops.watch import WatchLoop
from app.metrics import agents as samples
from app.metrics import routes as metrics
from app.metrics.telemetry import Telemetry
from app.nodes import join_routes
from app.nodes import routes as nodes
from app.planning import eta_routes as etas
from app.planning import routes as planning
from app.planning.child import SolverPool
from app.planning.eta import Etas
from app.planning.service import Planner
from app.quarantine import routes as quarantine
from app.queues import booking_routes
from app.queues import routes as queues
from app.quiet import QuietReports
from app.settings import Settings
from app.signals import Seen, Signals
from app.tasks import forecast_routes as forecasts
from app.tasks import routes as tasks
from app.watch import routes as watch
from app.watch.service import Watcher

_BACKLOG = 2048
_SHUTDOWN_SECONDS = 5
_KEEP_ALIVE_SECONDS = 75
"""Longer than agents pause: whoever sends just when its connection is closed hears nothing."""
_REVISIONS_BELIEVED_SECONDS = 120.0
_log = log.get("main")


def create_app(
    settings: Settings, *, clock: Clock | None = None, ids: Ids | None = None
) -> FastAPI:
    """The service as an ASGI application. Starting it migrates the database and starts the
    loops."""
    clock = clock or SystemClock()
    settings.home_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    heartbeats = Heartbeats(clock.monotonic())
    context = Context(
        settings=settings,
        clock=clock,
        ids=ids or TimeOrderedIds(clock),
        database=Database(settings.resolved_database_url),
        credentials=load_credentials(settings),
        signals=Signals(),
        heartbeats=heartbeats,
        pace=Pace(
            heartbeats=heartbeats,
            report_seconds=settings.report_interval_seconds,
            samples_seconds=settings.samples_interval_seconds,
            per_second_max=settings.samples_per_second_max,
        ),
        quiet=QuietReports(),
        revisions=Seen(believed_seconds=_REVISIONS_BELIEVED_SECONDS),
    )
    app = FastAPI(
        title="Stowplan",
        version=version("stowplan"),
        lifespan=_lifespan,
        docs_url=None,  # FastAPI's pages load scripts from elsewhere
        redoc_url=None,
    )
    app.state.context = context
    app.state.telemetry = Telemetry(context)
    app.state.findings = Findings()
    app.state.solvers = SolverPool(settings.solve_concurrency, settings.solve_seconds_max)
    app.state.etas = Etas(context, app.state.solvers.timing)
    for router in (
        samples.router,  # first: matching goes through the routes in order, and these are hot
        leases.router,
        nodes.router,
        node_routes.router,
        join_routes.router,
        tasks.router,
        forecasts.router,
        queues.router,
        booking_routes.router,
        etas.router,
        planning.router,
        metrics.router,
        events.router,
        quarantine.router,
        watch.router,
        advice.router,
        nodes.agent_router,
        tasks.agent_router,
        health.router,
    ):
        app.include_router(router)
    app.add_middleware(
        BodyLimit,
        bytes_max=settings.body_bytes_max,
        exceptions=dict.fromkeys(planning.LARGE_BODIES, settings.solve_body_bytes_max),
    )
    problems.install(app)
    openapi.install(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    context: Context = app.state.context
    solvers: SolverPool = app.state.solvers
    before, after = await upgrade(context.database)
    if before != after:
        _log.info("migrated", before=before, after=after)
    telemetry: Telemetry = app.state.telemetry
    await telemetry.open()
    planner = Planner(context, solvers.planning)
    watcher = Watcher(context, telemetry.live, Looks(telemetry.store), app.state.findings)
    runner = Runner(
        [
            PlanningLoop(planner, context.settings.plan_debounce_seconds),
            EtaLoop(app.state.etas, context.settings.eta_debounce_seconds),
            NodesLoop(context),
            DrainLoop(context),
            DurationLoop(context),
            BookingLoop(context),
            UsageLoop(context),
            RollupLoop(context, telemetry.roller),
            WatchLoop(watcher, context.settings.watch_interval_seconds),
            MemoryLoop(),
            RetentionLoop(context, telemetry.store, telemetry.writer, telemetry.live),
        ],
        context.signals,
    )
    warming = asyncio.create_task(solvers.planning.warm())
    runner.start()
    try:
        yield
    finally:
        context.signals.close()
        await runner.stop()
        warming.cancel()
        await asyncio.gather(warming, return_exceptions=True)
        await solvers.close()
        await telemetry.close()
        await context.database.close()


class _Server(uvicorn.Server):
    """Wakes the held requests when it's told to stop: they would otherwise keep it alive until they
    time out."""

    def __init__(self, config: uvicorn.Config, signals: Signals) -> None:
        super().__init__(config)
        self._signals = signals
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        leave_the_old_alone()
        # SQLite's thread lets go of the interpreter at every row: with the usual 5 ms it would wait
        # so long for it each time that this thread is busy (8,600 rows/s in place of 120,000).
        sys.setswitchinterval(0.0005)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._signals.close)
        super().handle_exit(sig, frame)


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT. Port 0 takes any free one; the file ``server.url`` says where
    we are."""
    log.configure(settings.log_level)
    app = create_app(settings)
    listener = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        # From here on who comes waits for the tables to be made, and isn't refused.
        listener.listen(_BACKLOG)
    except OSError as error:
        _log.error("cannot_listen", host=settings.host, port=settings.port, reason=str(error))
        return 1
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{port}"
    write_private(settings.home_dir / "server.url", url + "\n")
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            server_header=False,
        ),
        app.state.context.signals,
    )
    _log.info("serving", url=url, home=str(settings.home_dir), database=_shown_database(app))
    _stay_calm(server)
    server.run(sockets=[listener])
    return 0 if server.started else 1


def _stay_calm(server: uvicorn.Server) -> None:
    """Once it has stopped in good order uvicorn raises the signal again: let that one pass."""

    def handle(sig: int, _frame: FrameType | None) -> None:
        if not server.should_exit:
            raise SystemExit(128 + sig)

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)


def _shown_database(app: FastAPI) -> str:
    """Without the password."""
    return app.state.context.database.url.render_as_string(hide_password=True)


def main() -> None:
    """`python -m app.main`: settings from the environment alone."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    raise SystemExit(serve(Settings()))


if __name__ == "__main__":
    main()
