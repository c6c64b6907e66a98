"""What `top` shows: unknown is a dash and comes last, foreign processes are told apart."""

from typing import Any

import pytest

from client.output import Table
from client.use_view import Sort, use_table


def column(table: Table, name: str) -> list[str]:
    index = table.columns.index(name)
    return [row[index] for row in table.rows]


def sample(index: int, **values: Any) -> dict[str, Any]:
    return {"uuid": f"GPU-{index}", **values}


def test_missing_measurement_is_a_dash_and_never_zero(documents) -> None:
    table = use_table([documents.node()], [], wide=True)
    for name in ("CPU", "LOAD", "BUSY", "POWER", "TEMP", "SM", "HELD BACK BY", "PROCESSES"):
        assert column(table, name) == ["-"], name
    assert column(table, "MEMORY") == ["- of 32.0 GiB"]
    assert column(table, "DEVICE MEMORY") == ["- of 40.0 GiB"]


def test_measured_use_is_shown_beside_its_device(documents) -> None:
    measured = sample(
        0,
        utilization_percent=0.0,
        memory_used_mib=2048.4,
        power_watts=99.6,
        sm_active_percent=12.3,
        throttle_reasons=["idle", "power cap", "power brake"],
        processes=3.0,
        foreign_processes=1.0,
    )
    latest = [{"node": "n1", "host": {"cpu_percent": 41.7}, "devices": [measured]}]
    table = use_table([documents.node()], latest, wide=True)
    assert column(table, "CPU") == ["42%"]
    assert column(table, "BUSY") == ["0%"]
    assert column(table, "SM") == ["12%"]
    assert column(table, "DEVICE MEMORY") == ["2.0 GiB of 40.0 GiB"]
    assert column(table, "POWER") == ["100 W"]
    assert column(table, "TEMP") == ["-"]
    assert column(table, "HELD BACK BY") == ["power cap, power brake"]
    assert column(table, "PROCESSES") == ["3 (1 foreign)"]
    narrow = use_table([documents.node()], latest)
    assert column(narrow, "DEVICE MEMORY") == ["2.0 GiB"]
    assert "SM" not in narrow.columns


def test_an_idle_device_is_held_back_by_nothing(documents) -> None:
    latest = [{"node": "n1", "host": None, "devices": [sample(0, throttle_reasons=["idle"])]}]
    assert column(use_table([documents.node()], latest, wide=True), "HELD BACK BY") == ["no"]


@pytest.mark.parametrize(
    ("sort", "field"),
    [
        (Sort.BUSY, "utilization_percent"),
        (Sort.SM, "sm_active_percent"),
        (Sort.MEMORY, "memory_used_mib"),
        (Sort.POWER, "power_watts"),
        (Sort.TEMPERATURE, "temperature_celsius"),
        (Sort.PROCESSES, "processes"),
    ],
)
def test_what_has_most_comes_first_and_what_is_unknown_last(
    documents, sort: Sort, field: str
) -> None:
    node = documents.node(devices=[documents.device(index) for index in range(4)])
    samples = [sample(0, **{field: 0}), sample(1), sample(2, **{field: 7}), sample(3, **{field: 3})]
    table = use_table([node], [{"node": "n1", "host": None, "devices": samples}], sort=sort)
    assert column(table, "DEVICE") == ["GPU 2", "GPU 3", "GPU 0", "GPU 1"]


def test_simulated_devices_and_nodes_without_any_say_so(documents) -> None:
    nodes = [
        documents.node(devices=[documents.device(0, simulated=True)]),
        documents.node(name="n2", devices=[]),
    ]
    for wide in (False, True):
        table = use_table(nodes, [], wide=wide)
        assert column(table, "DEVICE") == ["simulated GPU 0", "none"]


def test_progress_of_a_devices_tasks_is_shown_beside_them(documents) -> None:
    uses = [documents.use("a", 250), documents.use("b", 500)]
    node = documents.node(devices=[documents.device(0, used_by=uses)])
    task = documents.task(id=uses[1].task, progress={"step": 5, "steps": 9})
    table = use_table([node, documents.node()], [], tasks=[task])
    assert column(table, "PROGRESS") == ["-; 5/9, nothing saved", ""]
    assert "PROGRESS" not in use_table([node], [], tasks=[documents.task()]).columns
