"""What stands in the tables: simulated devices say so, unknown is a dash, gangs are spelled out."""

import pytest

from client import views
from client.output import Table


def column(table: Table, name: str) -> list[str]:
    index = table.columns.index(name)
    return [row[index] for row in table.rows]


def test_simulated_device_is_labelled_wherever_it_shows(documents) -> None:
    task = documents.task(documents.allocation("n1", 0, simulated=True))
    node = documents.node(devices=[documents.device(0, simulated=True)])
    assert views.devices_of(task) == "simulated GPU 0"
    assert column(views.node_table([node], wide=False), "DEVICE") == ["simulated GPU 0"]
    assert "simulated GPU 0" in "\n".join(views.task_lines(task))


def test_gang_shows_each_replicas_node_and_devices(documents) -> None:
    task = documents.task(documents.allocation("n1", 0, 1), documents.allocation("n2", 3, rank=1))
    assert views.nodes_of(task) == "n1, n2"
    assert views.devices_of(task) == "GPU 0, GPU 1; GPU 3"


def test_large_gang_is_counted(documents) -> None:
    replicas = [
        documents.allocation(f"n{rank}", 0, simulated=rank == 0, rank=rank) for rank in range(8)
    ]
    task = documents.task(*replicas)
    assert views.nodes_of(task) == "8 nodes"
    assert views.devices_of(task) == "8 GPUs (1 simulated)"


def test_task_without_devices_runs_on_the_cpu(documents) -> None:
    assert views.devices_of(documents.task(documents.allocation("n1"))) == "CPU"


def test_waiting_task_shows_its_reasons_and_no_place(documents) -> None:
    task = documents.task(state="pending", plan=None, running_seconds=None)
    table = views.task_table([task], why={"t-1": "no node has 4 GPUs"}, wide=False)
    assert table.rows == (
        ("t-1", "train", "pending", "default", "-", "-", "-", "no node has 4 GPUs"),
    )


@pytest.mark.parametrize("wide", [False, True])
def test_tables_have_a_cell_for_each_column(documents, wide: bool) -> None:
    task = documents.task(documents.allocation("n1", 0))
    node = documents.node()
    bare = documents.node(devices=[], device_message="no driver")
    assert len(views.task_table([task], why={}, wide=wide).rows) == 1
    assert len(views.node_table([node, bare], wide=wide).rows) == 2


def test_node_without_devices_says_why(documents) -> None:
    bare = documents.node(devices=[], device_message="no NVIDIA driver")
    table = views.node_table([bare], wide=False)
    assert column(table, "DEVICE") == ["none"]
    assert column(table, "HELD BY") == ["no NVIDIA driver"]


def test_shared_device_shows_each_share(documents) -> None:
    uses = [documents.use("a", 250), documents.use("b", 500)]
    table = views.node_table(
        [documents.node(devices=[documents.device(0, used_by=uses)])], wide=False
    )
    assert column(table, "IN USE") == ["75%"]
    assert column(table, "HELD BY") == ["a (25%), b (50%)"]


def test_unhealthy_device_shows_its_fault(documents) -> None:
    device = documents.device(0, healthy=False, fault="lost from the bus")
    table = views.node_table([documents.node(devices=[device])], wide=False)
    assert column(table, "HELD BY") == ["unhealthy: lost from the bus"]


def test_cordoned_node_is_marked(documents) -> None:
    assert views.node_state(documents.node(schedulable=False)) == "ready,cordoned"


def test_program_is_shown_as_a_shell_would_take_it(documents) -> None:
    assert "program:    python 'a b.py'" in views.task_lines(documents.task())


def test_plan_that_stops_something_lists_its_steps_and_another_does_not() -> None:
    def lines(*steps: tuple[str, str, int]) -> list[str]:
        answer = {
            **dict.fromkeys(("objective", "placements", "moved", "evicted", "unplaced"), ()),
            "steps": [
                {"kind": kind, "task": task, "replicas": [{"node": "n1"}], "wave": wave}
                for kind, task, wave in steps
            ],
        }
        plan = {
            "id": "p-1",
            "created_at": "2030-01-01T00:00:00Z",
            "status": "optimal",
            "trigger": "submit",
            "seconds": 0.0,
            "digest": "sha256:0",
            "plan": answer,
        }
        return [line for line in views.plan_lines(plan) if line.startswith("step")]

    stopping = lines(("stop", "old", 0), ("start", "new", 1))
    assert stopping == ["step 0: stop old on n1", "step 1: start new on n1"]
    assert lines(("start", "new", 0)) == []


def test_why_lists_reasons_with_their_nodes_once_and_fixes_with_what_they_cost() -> None:
    why = {
        "task": "t-1",
        "text": "train waits: it does.",
        "reasons": [
            {"code": "no_capacity", "text": "3 of 4 nodes lack room", "nodes": 3},
            {"code": "lower_priority", "text": "others hold it", "nodes": 2},
            {"code": "queue_limit", "text": "needs 2 gpus in queue q", "nodes": 0},
        ],
        "fixes": [
            {"kind": "relax", "text": "it fits if it accepts model T4 too", "cost": 0},
            {"kind": "move", "text": "it fits once task t-2 moves to n4", "cost": 1000},
            {"kind": "free_set", "text": "it fits once tasks t-2 and t-3 have ended", "cost": 1500},
        ],
        "plan": None,
    }
    assert views.why_lines(why) == [
        "train waits: it does.",
        "  reason no_capacity: 3 of 4 nodes lack room",
        "  reason lower_priority: others hold it (2 nodes)",
        "  reason queue_limit: needs 2 gpus in queue q",
        "  fix relax: it fits if it accepts model T4 too",
        "  fix move: it fits once task t-2 moves to n4 (costs 1 GPU)",
        "  fix free_set: it fits once tasks t-2 and t-3 have ended (costs 1.5 GPUs)",
    ]


NOT_SAVED = {"step": 7}
SAVED = {
    "step": 1200,
    "steps": 5000,
    "checkpoint_step": 1000,
    "checkpoint_age_seconds": 180.0,
    "checkpoint_seconds": 6.5,
}


def test_progress_has_a_column_once_a_task_tells_it(documents) -> None:
    silent, telling = documents.task(), documents.task(progress=SAVED)
    assert "PROGRESS" not in views.task_table([silent], why={}, wide=False).columns
    table = views.task_table([silent, telling], why={}, wide=False)
    assert column(table, "PROGRESS") == ["-", "1200/5000, saved 3m00s ago"]


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        (SAVED, "progress:   step 1200 of 5000; step 1000 saved 3m00s ago, in 6.5s"),
        (NOT_SAVED, "progress:   step 7; nothing saved in this attempt"),
        ({"checkpoint_step": 4}, "progress:   step 4 saved"),
    ],
)
def test_progress_is_shown_in_full(documents, progress: dict[str, float], line: str) -> None:
    assert line in views.task_lines(documents.task(progress=progress))
    assert not [one for one in views.task_lines(documents.task()) if "progress" in one]


def test_a_node_in_the_window_of_a_booking_is_in_maintenance_without_a_cordon(documents) -> None:
    node = documents.node(schedulable=True, maintenance_since="2026-01-01T00:00:00Z")
    assert views.node_state(node) == "ready,maintenance"
    assert views.away_text(node).startswith("in maintenance since ")
