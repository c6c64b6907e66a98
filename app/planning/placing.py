"""A placement becomes allocations."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from app.allocations.states import AllocationState
from app.db.tables import Allocation, Node, Task
from app.deps import Context
from app.events.service import EventKind, record
from app.planning.snapshot import Snapshot
from app.tasks.states import TaskState
from protocol.desired import Phase
from solver.problem import Slot


def place(
    ctx: Context,
    session: AsyncSession,
    fresh: Snapshot,
    task: Task,
    slots: tuple[Slot, ...],
    plan_id: str | None,
) -> set[int]:
    """The task's next attempt, in these slots. Gives the nodes whose desired set has changed."""
    now = ctx.clock.now()
    task.generation += 1
    task.state = TaskState.STARTING
    task.plan_id = plan_id
    task.waiting = None
    task.reserved = None
    task.not_before = None
    task.reason = ""
    task.stop_cause = ""
    task.stop_ordered_at = None
    # A gang starts in two phases: everybody ready, then go. One that is alone is ready by itself.
    phase = Phase.RUN if len(slots) == 1 else Phase.PREPARE
    nodes: set[int] = set()
    for rank, slot in enumerate(in_rank_order(fresh.nodes, slots)):
        node = fresh.nodes[slot.node]
        nodes.add(node.id)
        session.add(
            Allocation(
                id=ctx.ids.new("a"),
                task_id=task.id,
                replica=rank,
                generation=task.generation,
                node_id=node.id,
                devices=_in_index_order(node, slot.devices),
                rank=rank,
                phase=phase,
                state=AllocationState.ASSIGNED,
                reason="",
                assigned_at=now,
                log_start=0,
                log_end=0,
            )
        )
    by_plan = f" by plan {plan_id}" if plan_id is not None else ""
    record(
        session,
        at=now,
        kind=EventKind.TASK_PLACED,
        task_id=task.id,
        message=f"{task.name} placed on {places(slots)}{by_plan}",
    )
    return nodes


def in_rank_order(nodes: Mapping[str, Node], slots: Sequence[Slot]) -> list[Slot]:
    """Ranks that speak with each other most are near each other.

    Rings and trees of collectives are made of neighbouring ranks, so the ranks of a node come
    together, those of a rack, those of a block. A domain with fewer values in the cluster is taken
    for the wider one.
    """
    values: dict[str, set[str]] = defaultdict(set)
    for node in nodes.values():
        for domain, value in node.domains.items():
            values[domain].add(value)
    widest_first = sorted(values, key=lambda domain: (len(values[domain]), domain))

    def place_of(slot: Slot) -> tuple[Sequence[str], str, Sequence[int]]:
        node = nodes[slot.node]
        index = {device.uuid: device.index for device in node.devices}
        where = [node.domains.get(domain, "") for domain in widest_first]
        return where, node.name, sorted(index[uuid] for uuid in slot.devices)

    return sorted(slots, key=place_of)


def places(slots: tuple[Slot, ...]) -> str:
    """The nodes, for people."""
    return ", ".join(sorted({slot.node for slot in slots}))


def _in_index_order(node: Node, uuids: tuple[str, ...]) -> list[str]:
    """CUDA numbers devices in the order given: the order of the bus is the one that people
    expect."""
    index = {device.uuid: device.index for device in node.devices}
    return sorted(uuids, key=lambda uuid: (index[uuid], uuid))
