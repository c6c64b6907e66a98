"""A trace, one arrival after the other, as a live service would see it."""

import gc
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from solver.instant import Planner
from solver.problem import WHOLE_DEVICE_MILLI, Node, Problem, Slot, Task
from telemetry.stats import quantile


def replay(
    nodes: Sequence[Node],
    arrivals: Sequence[Task],
    *,
    max_moves: int,
    clock: Callable[[], float],
    tell: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """What became of each arrival: the document that ``stowplan replay`` writes.

    ``placements`` says where each task ended up, after all moves; ``moves``, in order, which
    arrival made which earlier one (its ``task`` and ``index``) go where. ``tell`` hears the number
    of each arrival. Devices are the numbers that their ids are. Only the decisions are timed.
    """
    gc.freeze()  # a full collection looks at all that was read, for 0.1 s, while a task waits
    planner = Planner(Problem(version=1, nodes=tuple(nodes), tasks=(), objective=("placed",)))
    names: list[str] = []
    index_of: dict[str, int] = {}
    moves: list[dict[str, Any]] = []
    seconds: list[float] = []
    for index, kind in enumerate(arrivals):
        tell(index)
        task = replace(kind, id=f"{kind.id}#{index}")
        names.append(task.id)
        index_of[task.id] = index
        start = clock()
        decision = planner.arrive(task, max_moves)
        seconds.append(clock() - start)
        for move in decision.moves:
            moved = index_of[move.task]
            moves.append(
                {
                    "arrival": index,
                    "task": arrivals[moved].id,
                    "index": moved,
                    "from": _place(move.before),
                    "to": _place(move.after),
                }
            )
    slots = planner.slots
    placed = [slots.get(name, ()) for name in names]
    return {
        "placements": [
            {"task": kind.id, "index": index, **(_place(held[0]) if held else {"node": None})}
            for index, (kind, held) in enumerate(zip(arrivals, placed, strict=True))
        ],
        "allocated_gpu_milli": sum(
            kind.request.gpus * kind.request.gpu_milli
            for kind, held in zip(arrivals, placed, strict=True)
            if held
        ),
        "gpu_capacity_milli": WHOLE_DEVICE_MILLI * sum(len(node.devices) for node in nodes),
        "moves": moves,
        "decision_seconds": _summary(seconds),
    }


def _place(slot: Slot) -> dict[str, Any]:
    return {"node": slot.node, "devices": sorted(int(device) for device in slot.devices)}


def _summary(seconds: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return dict.fromkeys(("mean", "p50", "p99", "max"), 0.0)
    return {
        "mean": sum(seconds) / len(seconds),
        "p50": quantile(seconds, 0.5),
        "p99": quantile(seconds, 0.99),
        "max": max(seconds),
    }
