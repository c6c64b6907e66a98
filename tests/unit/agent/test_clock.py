from itertools import pairwise

from agent.clock import Clock
from agent.samples.windows import Look, Window, newest_ms
from tests.unit.agent.looks import host

HOUR_SECONDS = 3600.0


class Machine:
    """Clocks that a test moves: uptime, and what people have set."""

    def __init__(self) -> None:
        self.uptime = 1000.0
        self.set_to = 1_700_000_000.0

    def pass_time(self, seconds: float) -> None:
        self.uptime += seconds
        self.set_to += seconds


def test_a_step_of_the_machines_clock_changes_nothing_for_a_running_agent() -> None:
    machine = Machine()
    clock = Clock(boot=lambda: machine.uptime, wall=lambda: machine.set_to)
    before = clock.now()
    machine.set_to -= HOUR_SECONDS
    machine.pass_time(10)
    after = clock.now()
    assert after.wall_ms - before.wall_ms == 10_000
    assert after.boot_seconds - before.boot_seconds == 10
    assert round(clock.wall_seconds() * 1000) == after.wall_ms


def test_the_next_run_reads_the_clock_anew() -> None:
    machine = Machine()
    machine.set_to += HOUR_SECONDS
    clock = Clock(boot=lambda: machine.uptime, wall=lambda: machine.set_to)
    assert clock.now().wall_ms == int((1_700_000_000 + HOUR_SECONDS) * 1000)


def test_rows_stay_evenly_spaced_over_steps_of_an_hour_back_and_forth() -> None:
    machine = Machine()
    clock = Clock(boot=lambda: machine.uptime, wall=lambda: machine.set_to)
    window = Window(epoch="e", seconds=5)
    stamps = []
    for second in range(31):
        batch = window.add(Look(at=clock.now(), host=host()))
        if batch is not None:
            stamps.append(newest_ms(batch))
        machine.pass_time(1)
        if second in {7, 22}:
            machine.set_to += HOUR_SECONDS if second == 7 else -2 * HOUR_SECONDS
    assert [later - earlier for earlier, later in pairwise(stamps)] == [5000] * 5
