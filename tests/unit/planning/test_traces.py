"""CSV traces: what they say, and every fault by file, line, column and value."""

import pytest

from app.planning.arrivals import replay
from app.planning.traces import (
    InvalidTrace,
    Source,
    parse_nodes,
    parse_order,
    parse_tasks,
    shuffled,
)
from solver.problem import Device, Node, Request, Task

NODES = b"sn,cpu_milli,memory_mib,gpu,model\nn1,32000,65536,2,T4\nn2,8000,1024,0,\n"
TASKS = (
    b"name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos\n"
    b"a,1000,1024,1,460,T4|P100,LS\nb,1000,1024,2,1000,,BE\nc,1000,1024,0,0,,BE\n"
)


def faults_of(parse: object, data: bytes) -> list[str]:
    with pytest.raises(InvalidTrace) as caught:
        parse(Source(name="x.csv", data=data))  # pyright: ignore[reportCallIssue]
    return [str(fault) for fault in caught.value.faults]


def nodes() -> tuple[Node, ...]:
    return parse_nodes(Source(name="nodes.csv", data=NODES))


def tasks() -> tuple[Task, ...]:
    return parse_tasks(Source(name="tasks.csv", data=TASKS))


def test_a_node_has_numbered_devices_of_its_model() -> None:
    devices = (Device(id="0", model="T4"), Device(id="1", model="T4"))
    assert nodes() == (
        Node(id="n1", cpu_milli=32000, memory_mib=65536, devices=devices),
        Node(id="n2", cpu_milli=8000, memory_mib=1024),
    )


def test_a_task_takes_the_models_that_it_names_and_any_if_none() -> None:
    share = Request(cpu_milli=1000, memory_mib=1024, gpus=1, gpu_milli=460)
    pair = Request(cpu_milli=1000, memory_mib=1024, gpus=2)
    bare = Request(cpu_milli=1000, memory_mib=1024)
    assert tasks() == (
        Task(id="a", request=share, gpu_models=("T4", "P100")),
        Task(id="b", request=pair),
        Task(id="c", request=bare),
    )


def test_the_column_of_models_may_be_absent_and_lines_may_be_blank() -> None:
    data = b"\xef\xbb\xbfname,cpu_milli,memory_mib,num_gpu,gpu_milli\r\na,1,1,1,1000\r\n\r\n"
    (task,) = parse_tasks(Source(name="tasks.csv", data=data))
    assert task == Task(id="a", request=Request(cpu_milli=1, memory_mib=1, gpus=1))


HEAD = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\n"
BAD_TASKS = {
    "": "x.csv, line 1: has to name the columns (found nothing)",
    "name,cpu_milli\n": "x.csv, line 1: lacks the column num_gpu",
    HEAD.replace("memory_mib", "cpu_milli"): 'is the name of two columns (found "cpu_milli")',
    HEAD + "a,1,1,1\n": "x.csv, line 2: has to have 5 cells, as the header has (found 4 cells)",
    HEAD + ",1,1,1,1\n": 'x.csv, line 2, column name: is empty (found "")',
    HEAD + "a,1,1,1,1\na,1,1,1,1\n": "x.csv, line 3, column name: is the name of an earlier line",
    HEAD + "a,-1,1,1,1\n": 'x.csv, line 2, column cpu_milli: has to be at least 0 (found "-1")',
    HEAD + "a,1.5,1,1,1\n": 'column cpu_milli: has to be an integer (found "1.5")',
    HEAD + "a,,1,1,1\n": 'column cpu_milli: has to be an integer (found "")',
    HEAD + "a,\u0663,1,1,1\n": "column cpu_milli: has to be an integer",
    HEAD + f"a,1,{2**53 + 1},1,1\n": "column memory_mib: has to be at most 9007199254740992",
    HEAD + f"a,1,{'9' * 5000},1,1\n": "column memory_mib: has to be at most 9007199254740992",
    HEAD + "a,1,1,1,1001\n": 'column gpu_milli: has to be at most 1000 (found "1001")',
    HEAD + "a,1,1,1,0\n": "column gpu_milli: has to be at least 1 with num_gpu 1",
    HEAD + "a,1,1,2,500\n": "column gpu_milli: is a share of one device and needs num_gpu 1, not 2",
    HEAD + 'a,1,1,1,"1\n': "x.csv, line 2: is no CSV",
}


@pytest.mark.parametrize("data", BAD_TASKS, ids=range(len(BAD_TASKS)))
def test_a_fault_names_file_line_column_and_value(data: str) -> None:
    assert any(BAD_TASKS[data] in fault for fault in faults_of(parse_tasks, data.encode()))


def test_every_fault_is_named_at_once() -> None:
    faults = faults_of(parse_tasks, (HEAD + "a,x,1,1,1\nb,1,y,1,1\nc,1,1\n").encode())
    assert [fault.split(":")[0] for fault in faults] == [
        "x.csv, line 2, column cpu_milli",
        "x.csv, line 3, column memory_mib",
        "x.csv, line 4",
    ]


@pytest.mark.parametrize(
    ("data", "line"), [(b"\xff\xfe", 1), (HEAD.encode() + b"\xe9,1,1,1,1\n", 2)]
)
def test_what_is_no_utf_8_is_a_fault_with_its_line(data: bytes, line: int) -> None:
    assert f"x.csv, line {line}: is no UTF-8" in faults_of(parse_tasks, data)[0]


def test_a_node_with_more_devices_than_can_be_held_is_a_fault() -> None:
    data = b"sn,cpu_milli,memory_mib,gpu,model\nn1,1,1,1000000000,T4\n"
    assert faults_of(parse_nodes, data) == [
        'x.csv, line 2, column gpu: has to be at most 1024 (found "1000000000")'
    ]


def test_an_order_names_tasks_and_a_name_again_is_a_clone() -> None:
    order = parse_order(Source(name="order.csv", data=b"b\na\n\nb\n"), tasks())
    assert [task.id for task in order] == ["b", "a", "b"]


def test_an_order_that_names_no_task_is_a_fault_with_its_line() -> None:
    with pytest.raises(InvalidTrace) as caught:
        parse_order(Source(name="order.csv", data=b"b\nz\n"), tasks())
    assert str(caught.value.faults[0]) == 'order.csv, line 2: is no task of the list (found "z")'


def test_a_shuffle_has_every_task_and_clones_up_to_the_demand_asked_for() -> None:
    arrivals = shuffled(tasks(), nodes(), seed=1, inflate=5.0)
    names = [task.id for task in arrivals]
    assert set(names) == {"a", "b", "c"}
    milli = [task.request.gpus * task.request.gpu_milli for task in arrivals]
    assert 10_000 <= sum(milli) < 12_000
    assert arrivals == shuffled(tasks(), nodes(), seed=1, inflate=5.0)
    assert sorted(task.id for task in shuffled(tasks(), nodes(), seed=2, inflate=0)) == [*"abc"]


@pytest.mark.parametrize("inflate", [float("inf"), float("nan"), 1e9])
def test_more_arrivals_than_can_be_held_are_refused(inflate: float) -> None:
    with pytest.raises(InvalidTrace, match="makes more than 1000000 arrivals"):
        shuffled(tasks(), nodes(), seed=1, inflate=inflate)


def test_a_list_without_gpus_cannot_be_inflated() -> None:
    with pytest.raises(InvalidTrace, match="no task of the list asks for a GPU"):
        shuffled(tasks()[2:], nodes(), seed=1, inflate=1.3)


def test_a_replay_says_where_each_arrival_ended_up() -> None:
    arrivals = (*tasks(), tasks()[1])
    seconds = iter(range(100))
    report = replay(nodes(), arrivals, max_moves=0, clock=lambda: float(next(seconds)))
    places = {(p["task"], p["index"]): (p["node"], p.get("devices")) for p in report["placements"]}
    assert places["b", 1] == places["b", 3] == (None, None)  # a share runs on one of the two
    assert places["a", 0] in (("n1", [0]), ("n1", [1]))
    assert places["c", 2] == ("n2", [])
    assert report["allocated_gpu_milli"] == 460
    assert report["gpu_capacity_milli"] == 2000
    assert report["moves"] == []
    assert report["decision_seconds"] == {"mean": 1.0, "p50": 1.0, "p99": 1.0, "max": 1.0}


def test_a_replay_of_nothing_is_empty() -> None:
    report = replay((), (), max_moves=0, clock=lambda: 0.0)
    assert report["placements"] == []
    assert report["decision_seconds"] == {"mean": 0.0, "p50": 0.0, "p99": 0.0, "max": 0.0}
