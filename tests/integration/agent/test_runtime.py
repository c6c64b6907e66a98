"""The agent's hands alone: real shims, and orders at moments that a whole agent seldom hits."""

import asyncio
import os
from pathlib import Path

from agent.clock import Clock
from agent.devices.offers import NodeDevices
from agent.environment import make_base
from agent.events import Event, Exited, Key, Start
from agent.ports import PortLeases
from agent.runtime import Runtime
from agent.settings import AgentSettings
from agent.spool import Spool
from agent.start import make_confining
from protocol.desired import DesiredAllocation, Gang, Launch, Phase, StopCause
from tests.waiting import DEADLINE_SECONDS

KEY = Key(id="a", generation=1)


async def test_an_order_to_stop_does_not_end_a_shim_that_is_still_starting(tmp_path: Path) -> None:
    """SIGTERM came before the shim knew what to do with it: the attempt was lost, though nobody
    had harmed it (seed 238 of tests/chaos).
    """
    events: asyncio.Queue[Event] = asyncio.Queue()
    spool = Spool(tmp_path / "state")
    runtime = make_runtime(spool, events)
    runtime.start(start("sleep", "600"))
    runtime.stop(KEY, StopCause.CANCELLED, "cancelled by a user")
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not isinstance(event := await events.get(), Exited):
            pass
    assert (event.exit.lost, event.exit.stopped) == (False, True)
    assert event.exit.cause is StopCause.CANCELLED
    runtime.forget(KEY)
    runtime.close()
    spool.close()


def make_runtime(spool: Spool, events: asyncio.Queue[Event]) -> Runtime:
    """As agent/start.py puts it together, on a node without devices."""
    settings = AgentSettings(server="http://127.0.0.1:1", name="n", state_dir=spool.root)
    path = settings.task_path
    base = make_base(node="n", path=path, inherited=os.environ, nvml_library=None)
    return Runtime(
        spool=spool,
        ports=PortLeases(),
        base=base,
        confining=make_confining(settings, spool, None, numa=lambda uuid: None),
        devices=NodeDevices(
            sight=lambda: None,
            mps_pipe_directory=settings.mps_pipe_directory,
            allocator_fraction=False,
        ),
        emit=events.put_nowait,
        now=Clock().now,
    )


def start(*argv: str) -> Start:
    allocation = DesiredAllocation(
        id=KEY.id,
        task="t1",
        task_name="train",
        generation=KEY.generation,
        phase=Phase.RUN,
        launch=Launch(argv=argv, grace_seconds=0.0),
        gang=Gang(rank=0, size=1, master_address="127.0.0.1"),
    )
    return Start(key=KEY, allocation=allocation, port=20_000, master_port=20_000)
