"""A sum over processes that come and go: looks in a row, each pid: (parent, start, own, reaped)."""

import pytest

from telemetry.probes.processes import Process
from telemetry.probes.task_walk import Spending, Tally

Look = dict[int, tuple[int, int, int, int]]


def spent(look: Look) -> dict[int, Spending]:
    return {
        pid: Spending(Process(pid, parent, start, own, reaped, 0, False), own + reaped, reaped)
        for pid, (parent, start, own, reaped) in look.items()
    }


ROOT = (1, 0, 5, 0)


@pytest.mark.parametrize(
    ("looks", "sums"),
    [
        pytest.param([{10: ROOT, 11: (10, 1, 70, 0)}, {10: (1, 0, 5, 70)}], [75, 75], id="reaped"),
        pytest.param([{10: ROOT, 11: (10, 1, 70, 0)}, {10: ROOT}], [75, 75], id="never reaped"),
        pytest.param(
            [{10: ROOT, 11: (10, 1, 70, 0)}, {10: (1, 0, 5, 90)}], [75, 95], id="worked to its end"
        ),
        pytest.param(
            [{10: ROOT, 11: (10, 1, 70, 0)}, {10: (1, 0, 50, 0)}],
            [75, 120],
            id="what its parent did itself is no inheritance",
        ),
        pytest.param(
            [{10: ROOT, 11: (10, 1, 20, 0), 12: (11, 2, 70, 0)}, {10: (1, 0, 5, 90)}],
            [95, 95],
            id="a grandchild's, by its parent that ended too",
        ),
        pytest.param(
            [{10: ROOT, 11: (10, 1, 20, 0), 12: (11, 2, 70, 0)}, {10: (1, 0, 5, 20)}],
            [95, 95],
            id="an orphan that nobody waited for",
        ),
        pytest.param(
            [{10: ROOT, 11: (10, 1, 70, 0)}, {10: ROOT, 11: (10, 2, 3, 0)}],
            [75, 78],
            id="its pid is another process's now",
        ),
        pytest.param(
            [{10: ROOT, 11: (10, 1, 70, 0)}, {10: ROOT}, {10: (1, 0, 6, 0), 12: (10, 3, 4, 0)}],
            [75, 75, 80],
            id="what was lost stays, and more comes on top",
        ),
        pytest.param([{10: ROOT}, {}], [5, 5], id="the root itself"),
    ],
)
def test_sum_keeps_what_ended_and_counts_it_once(looks: list[Look], sums: list[int]) -> None:
    tally = Tally()
    assert [tally.update(spent(look)) for look in looks] == sums
