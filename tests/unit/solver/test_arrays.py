"""The flat arrays say what the problem says."""

from solver.arrays import MOST_PEERS, as_arrays
from solver.eligibility import accepts, matches_model
from solver.links import pair_cost
from solver.objective import NODE_DIMENSIONS
from solver.problem import Device, Node, Problem, Request, Task

NODES = (
    Node(
        id="a",
        cpu_milli=8000,
        labels={"zone": "x", "name": "a"},
        domains={"rack": "r1"},
        devices=(
            Device(id="0", model="A100", memory_mib=40, links={"1": "nvlink"}, numa=0),
            Device(id="1", model="A100", memory_mib=40, numa=0),
            Device(id="2", model="A100", memory_mib=40, numa=1, healthy=False),
        ),
    ),
    Node(id="b", memory_mib=2**53, labels={"zone": "y"}, schedulable=False),
    Node(id="c", disk_mib=7, network_mbps=9, domains={"rack": "r2"}, devices=(Device(id="0"),)),
)
TASKS = (
    Task(id="plain", request=Request(cpu_milli=1)),
    Task(id="same", request=Request(cpu_milli=1), priority=3, replicas=2),
    Task(id="picky", gpu_models=("A100",), request=Request(gpus=1, gpu_milli=250)),
    Task(id="zoned", node_selector={"zone": ("x", "y")}),
    Task(id="packed", pack_within="rack"),
    Task(id="nowhere", spread_over="block"),
)


def arrays():
    return as_arrays(Problem(version=1, nodes=NODES, tasks=TASKS))


def test_tasks_that_differ_only_in_what_no_node_sees_share_a_shape() -> None:
    assert arrays().shape.tolist() == [0, 0, 1, 2, 3, 4]


def test_nodes_and_needs_are_the_problems_quantities() -> None:
    found = arrays()
    for n, node in enumerate(NODES):
        assert found.cluster.room[n].tolist() == [getattr(node, k) for k in NODE_DIMENSIONS]
    for task, shape in zip(TASKS, found.shape, strict=True):
        need = [getattr(task.request, k) for k in NODE_DIMENSIONS]
        assert found.shapes.need[shape].tolist() == need
        assert found.shapes.gpus[shape] == task.request.gpus
        assert found.shapes.weight[shape] == task.request.weight
    assert found.cluster.device_start.tolist() == [0, 3, 3, 4]


def test_rules_accept_what_the_specification_of_eligibility_accepts() -> None:
    found = arrays()
    devices = [device for node in NODES for device in node.devices]
    for task, s in zip(TASKS, found.shape, strict=True):
        row = found.shapes.node_accepts[found.shapes.node_rule[s]]
        assert row[found.cluster.kind].tolist() == [accepts(task, node) for node in NODES]
        row = found.shapes.device_accepts[found.shapes.device_rule[s]]
        healthy = [d.healthy and matches_model(task, d) for d in devices]
        assert row[found.cluster.device_kind].tolist() == healthy


def test_pairs_of_devices_cost_what_their_links_say() -> None:
    found = arrays()
    costs = found.cluster.pair_cost[found.cluster.wiring[0]]
    for i, first in enumerate(NODES[0].devices):
        for j, second in enumerate(NODES[0].devices):
            assert costs[i, j] == (pair_cost(first, second) if i != j else 0)


def test_unwired_nodes_of_one_size_share_their_wiring() -> None:
    nodes = tuple(
        Node(id=f"n{i}", devices=tuple(Device(id=str(d)) for d in range(size)))
        for i, size in enumerate((2, 8, 2, MOST_PEERS + 1))
    )
    cluster = as_arrays(Problem(version=1, nodes=nodes, tasks=())).cluster
    assert cluster.wiring.tolist() == [0, 1, 0, 2]
    far = pair_cost(Device(id="p"), Device(id="q"))
    assert cluster.pair_cost[0].sum() == 2 * far
    assert cluster.pair_cost[2].sum() == 0


def test_values_of_domains_are_numbered_and_absent_ones_are_not() -> None:
    cluster = arrays().cluster
    assert cluster.domains == ("block", "rack")
    assert cluster.domain_value.tolist() == [[-1, -1, -1], [0, -1, 1]]


def test_empty_problem_has_empty_arrays() -> None:
    found = as_arrays(Problem(version=1, nodes=(), tasks=()))
    assert found.cluster.room.shape == (0, len(NODE_DIMENSIONS))
    assert found.shapes.need.shape == (0, len(NODE_DIMENSIONS))
    assert found.cluster.device_start.tolist() == [0]
