"""Which replica of a gang gets which rank."""

import random

from app.db.tables import Device, Node
from app.planning.placing import in_rank_order
from solver.problem import Slot


def node(name: str, gpus: int = 2, **domains: str) -> Node:
    devices = [Device(uuid=f"{name}-{index}", index=index) for index in range(gpus)]
    return Node(name=name, domains=domains, devices=devices)


def slot(where: str, *indexes: int) -> Slot:
    return Slot(node=where, devices=tuple(f"{where}-{index}" for index in indexes))


def test_ranks_are_together_by_block_rack_node_and_device() -> None:
    nodes = {
        one.name: one
        for one in (
            node("a", rack="r2", block="b2"),
            node("b", rack="r1", block="b1"),
            node("c", rack="r3", block="b2"),
            node("d", rack="r2", block="b2"),
        )
    }
    in_order = [
        slot("b", 0),
        slot("b", 1),
        slot("a", 0),
        slot("a", 1),
        slot("d", 1),
        slot("c", 0),
    ]
    for seed in range(20):
        shuffled = random.Random(seed).sample(in_order, len(in_order))
        assert in_rank_order(nodes, shuffled) == in_order


def test_nodes_without_domains_and_replicas_without_devices_have_an_order_too() -> None:
    nodes = {"b": node("b"), "a": node("a", zone="z")}
    slots = [slot("a"), slot("b"), slot("a")]
    assert in_rank_order(nodes, slots) == [slot("b"), slot("a"), slot("a")]
