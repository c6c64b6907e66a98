"""Gangs of real torch programs that save before they're stopped, however they were started."""

from pathlib import Path

import pytest

from client.training import latest_in
from protocol.desired import DesiredAllocation, Gang, Launch, Phase, Stop, StopCause
from protocol.report import AllocationState, Saved
from protocol.task import Checkpoint
from tests.agent_node import Node, leave
from tests.agent_service import AgentService

PROGRAM = Path(__file__).parents[3] / "examples" / "save_when_asked.py"
SAVE_SECONDS = 6.0
GRACE_SECONDS = 30.0
PATIENCE = 120.0
"""In seconds: torch alone takes many to be imported by two processes on a busy machine."""
STOP = Stop(cause=StopCause.PREEMPTED, reason="makes room for t-9")


def replica(
    rank: int,
    size: int,
    argv: tuple[str, ...],
    phase: Phase,
    *,
    generation: int = 1,
    master_port: int | None = None,
) -> DesiredAllocation:
    return DesiredAllocation(
        id=f"g{generation}r{rank}",
        task="t1",
        task_name="train",
        generation=generation,
        phase=phase,
        stop=STOP if phase is Phase.STOP else None,
        launch=Launch(
            argv=argv,
            # A machine that runs all tests at once may take its time for a step.
            checkpoint=Checkpoint(ack_seconds=60),
            grace_seconds=GRACE_SECONDS,
        ),
        gang=Gang(rank=rank, size=size, master_address="127.0.0.1", master_port=master_port),
    )


def step_of(service: AgentService, allocation: str) -> int:
    told = [one for one in service.reports[-1].progress if one.id == allocation]
    return (told[0].step or 0) if told else 0


WAYS = {
    "torchrun": (1, ("torchrun", "--nproc-per-node", "2", str(PROGRAM))),
    "replicas": (2, ("python", str(PROGRAM))),
}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("way", WAYS)
def test_a_preempted_gang_of_two_ranks_ends_with_its_checkpoint_and_goes_on_from_it(
    service: AgentService, tmp_path: Path, way: str
) -> None:
    size, argv = WAYS[way]
    argv = (*argv, f"--save-seconds={SAVE_SECONDS}")
    node = Node(service, tmp_path)
    node.start()

    def desire(phase: Phase, generation: int, master_port: int | None = None) -> list[str]:
        wanted = [
            replica(rank, size, argv, phase, generation=generation, master_port=master_port)
            for rank in range(size)
        ]
        service.desire(*wanted)
        return [one.id for one in wanted]

    try:
        for generation in (1, 2):
            ids = desire(Phase.PREPARE, generation)
            ports = [service.wait_for_state(one, AllocationState.READY).port for one in ids]
            desire(Phase.RUN, generation, ports[0])
            for one in ids:
                service.wait(
                    lambda one=one: step_of(service, one) > 0, f"{one} tells its steps", PATIENCE
                )
            desire(Phase.STOP, generation, ports[0])
            for one in ids:
                key = (one, generation)
                service.wait(lambda key=key: key in service.exits, f"{key} has exited", PATIENCE)
            exits = [service.wait_for_exit(one, generation) for one in ids]
            output = "\n".join(service.text(one, generation) for one in ids)
            assert [how.checkpoint for how in exits] == [Saved.SAVED] * size, output
            assert {how.cause for how in exits} == {StopCause.PREEMPTED}
            assert all(how.stopped and not how.lost for how in exits)
            found = latest_in(node.state / "artifacts" / "t1")
            assert found is not None, output
            assert (found.generation, found.step > 0) == (generation, True)
            if generation == 1:
                first = found.step
            else:
                assert f"begins after step {first}" in output
                assert found.step > first
        assert leave(node.agents[-1]) == 0
    finally:
        node.end()
    assert node.alive() == []
