"""One task at a time: what goes where, and that the state lives on."""

import pytest

from solver.check import slot_violations
from solver.errors import InvalidProblem
from solver.instant import Decision, Planner
from solver.problem import Device, Node, Problem, Queue, Request, Slot, Task


def node(name: str, count: int, **more: object) -> Node:
    fields: dict[str, object] = {
        "cpu_milli": 32_000,
        "memory_mib": 65_536,
        "devices": tuple(Device(id=f"g{i}", model="A100") for i in range(count)),
    }
    return Node(id=name, **(fields | more))  # pyright: ignore[reportArgumentType]


def gpu_task(name: str, gpus: int = 1, milli: int = 1000, **more: object) -> Task:
    request = Request(cpu_milli=1000, memory_mib=1024, gpus=gpus, gpu_milli=milli)
    return Task(id=name, **({"request": request} | more))  # pyright: ignore[reportArgumentType]


def planner(*nodes: Node, tasks: tuple[Task, ...] = (), queues: tuple[Queue, ...] = ()) -> Planner:
    return Planner(Problem(version=1, nodes=nodes, tasks=tasks, queues=queues))


def test_shares_that_fit_together_share_a_device() -> None:
    state = planner(node("n1", 4), node("n2", 4))
    first = state.arrive(gpu_task("a", milli=600))
    second = state.arrive(gpu_task("b", milli=400))
    assert first.slots == second.slots


def test_what_fits_nowhere_is_dropped_and_holds_nothing() -> None:
    state = planner(node("n1", 1))
    assert state.arrive(gpu_task("a")).slots
    assert state.arrive(gpu_task("b")).slots == ()
    assert set(state.slots) == {"a"}


def test_the_end_of_a_task_makes_room() -> None:
    state = planner(node("n1", 1))
    held = state.arrive(gpu_task("a")).slots
    state.end("a")
    assert state.slots == {}
    assert state.arrive(gpu_task("b")).slots == held


def test_what_runs_keeps_the_devices_it_holds() -> None:
    """A state rebuilt from counts once counted room that no device had."""
    halves = tuple(
        gpu_task(f"t{i}", milli=600, placed=(Slot(node="n1", devices=(f"g{i}",)),)) for i in (1, 3)
    )
    state = planner(node("n1", 4), tasks=halves)
    assert state.arrive(gpu_task("wide", gpus=3)).slots == ()
    (slot,) = state.arrive(gpu_task("pair", gpus=2)).slots
    assert sorted(slot.devices) == ["g0", "g2"]


def test_a_running_task_does_not_arrive_again() -> None:
    state = planner(node("n1", 1))
    state.arrive(gpu_task("a"))
    with pytest.raises(ValueError, match="task a is running"):
        state.arrive(gpu_task("a"))


def test_a_task_of_an_unknown_queue_is_refused() -> None:
    with pytest.raises(ValueError, match="queue nobody"):
        planner(node("n1", 1)).arrive(gpu_task("a", queue="nobody"))


def test_a_task_that_does_not_run_does_not_end() -> None:
    with pytest.raises(KeyError):
        planner(node("n1", 1)).end("a")


def test_nodes_with_little_cpu_are_left_to_tasks_that_need_little() -> None:
    """CPU that runs out strands GPUs: a task that needs much of it goes where there is much."""
    poor = node("poor", 4, cpu_milli=16_000)
    rich = node("rich", 4, cpu_milli=128_000)
    state = planner(poor, rich)
    light = Request(cpu_milli=2000, gpus=1)
    heavy = Request(cpu_milli=30_000, gpus=1)
    where = {}
    for i in range(8):
        request = light if i % 2 else heavy
        (slot,) = state.arrive(Task(id=f"t{i}", request=request)).slots
        where[i] = slot.node
    assert where == {i: "poor" if i % 2 else "rich" for i in range(8)}


def test_a_task_with_several_devices_gets_the_best_connected_ones() -> None:
    devices = tuple(
        Device(id=f"g{i}", links={f"g{j}": "nvlink" for j in range(8) if i % 2 == j % 2 and i != j})
        for i in range(8)
    )
    (slot,) = planner(node("n1", 8, devices=devices)).arrive(gpu_task("a", gpus=4)).slots
    assert len({int(device[1:]) % 2 for device in slot.devices}) == 1


GANGS = {
    "packed": {"pack_within": "rack"},
    "spread": {"spread_over": "node"},
    "selected": {"node_selector": {"zone": ("b",)}},
    "of one model": {"gpu_models": ("A100",)},
    "apart": {"separate_from": ("lonely",)},
}


@pytest.mark.parametrize("rule", GANGS.values(), ids=GANGS)
@pytest.mark.parametrize("replicas", [1, 3])
def test_every_rule_is_kept(rule: dict[str, object], replicas: int) -> None:
    nodes = tuple(
        node(f"n{i}", 2, domains={"rack": f"r{i // 2}"}, labels={"zone": "ab"[i // 2]})
        for i in range(4)
    )
    lonely = gpu_task("lonely", placed=(Slot(node="n0", devices=("g0",)),))
    arriving = gpu_task("t", replicas=replicas, **rule)
    state = planner(*nodes, tasks=(lonely,))
    decision = state.arrive(arriving)
    assert len(decision.slots) == replicas
    problem = Problem(version=1, nodes=nodes, tasks=(lonely, arriving))
    assert slot_violations(problem, state.slots) == ()


def test_a_gang_is_placed_whole_or_not_at_all() -> None:
    state = planner(node("n1", 2), node("n2", 1))
    assert state.arrive(gpu_task("four", replicas=4)).slots == ()
    assert state.slots == {}
    assert len(state.arrive(gpu_task("three", replicas=3)).slots) == 3


def test_a_queue_gets_no_more_than_its_limit() -> None:
    queues = (Queue(id="q", limit={"gpus": 1}),)
    state = planner(node("n1", 4), queues=queues)
    assert state.arrive(gpu_task("a", queue="q")).slots
    assert state.arrive(gpu_task("b", queue="q")).slots == ()
    assert state.arrive(gpu_task("c")).slots


def test_cordoned_nodes_and_lost_devices_take_nothing_new() -> None:
    lost = tuple(Device(id=f"g{i}", healthy=i == 1) for i in range(2))
    state = planner(node("cordoned", 2, schedulable=False), node("n2", 2, devices=lost))
    assert state.arrive(gpu_task("a")).slots == (Slot(node="n2", devices=("g1",)),)
    assert state.arrive(gpu_task("b")).slots == ()


def test_a_devices_memory_is_a_capacity_too() -> None:
    devices = (Device(id="g0", memory_mib=10_000),)
    request = Request(gpus=1, gpu_milli=100, gpu_memory_mib=6000)
    state = planner(node("n1", 1, devices=devices))
    assert state.arrive(Task(id="a", request=request)).slots
    assert state.arrive(Task(id="b", request=request)).slots == ()


def test_a_cluster_without_nodes_or_devices_takes_what_it_can() -> None:
    assert planner().arrive(gpu_task("a")).slots == ()
    bare = planner(node("n1", 0))
    assert bare.arrive(gpu_task("a")).slots == ()
    assert bare.arrive(Task(id="b", request=Request(cpu_milli=1000))).slots == (Slot(node="n1"),)


def test_more_shapes_than_are_remembered_are_placed_all_the_same() -> None:
    state = planner(*(node(f"n{i}", 8) for i in range(4)))
    for i in range(400):
        task = Task(id=f"t{i}", request=Request(cpu_milli=i, gpus=1, gpu_milli=500))
        assert bool(state.arrive(task).slots) == (i < 64)


def test_tasks_that_come_together_are_placed_largest_first() -> None:
    state = planner(node("n1", 2))
    tasks = (gpu_task("a"), gpu_task("pair", gpus=2), gpu_task("b"))
    alone, pair, other = state.arrive_all(tasks)
    assert (len(pair.slots), alone.slots, other.slots) == (1, (), ())


def test_a_task_moves_so_that_another_fits() -> None:
    halves = tuple(
        gpu_task(f"t{i}", milli=500, placed=(Slot(node=f"n{i}", devices=("g0",)),)) for i in (1, 2)
    )
    state = planner(node("n1", 1), node("n2", 1), tasks=halves)
    assert state.arrive(gpu_task("whole"), max_moves=0).slots == ()
    decision = state.arrive(gpu_task("whole"), max_moves=1)
    (move,), (slot,) = decision.moves, decision.slots
    assert move.before.node == slot.node
    assert state.slots[move.task] == (move.after,)
    assert state.slots["t1"] == state.slots["t2"]


def test_two_tasks_move_so_that_another_fits() -> None:
    placed = {"a": ("n1", 300), "b": ("n1", 300), "c": ("n2", 700), "d": ("n3", 700)}
    tasks = tuple(
        gpu_task(name, milli=milli, placed=(Slot(node=home, devices=("g0",)),))
        for name, (home, milli) in placed.items()
    )
    nodes = (node("n1", 1), node("n2", 1), node("n3", 1))
    assert planner(*nodes, tasks=tasks).arrive(gpu_task("whole"), max_moves=1).slots == ()
    decision = planner(*nodes, tasks=tasks).arrive(gpu_task("whole"), max_moves=2)
    assert [slot.node for slot in decision.slots] == ["n1"]
    assert {move.task for move in decision.moves} == {"a", "b"}


def test_what_may_not_be_touched_does_not_move() -> None:
    halves = tuple(
        gpu_task(
            f"t{i}",
            milli=500,
            preemptible=False,
            placed=(Slot(node=f"n{i}", devices=("g0",)),),
        )
        for i in (1, 2)
    )
    state = planner(node("n1", 1), node("n2", 1), tasks=halves)
    assert state.arrive(gpu_task("whole"), max_moves=2) == Decision(slots=())


def test_a_node_that_joins_takes_what_fitted_nowhere() -> None:
    state = planner(node("n0", 1))
    assert state.arrive(gpu_task("first")).slots
    for i in range(1, 20):
        wide = gpu_task(f"wide{i}", gpus=4)
        assert state.arrive(wide, max_moves=2).slots == ()
        state.add_node(node(f"n{i}", 4))
        assert [slot.node for slot in state.arrive(wide, max_moves=2).slots] == [f"n{i}"]
    with pytest.raises(InvalidProblem, match="id of an earlier entry"):
        state.add_node(node("n0", 1))
