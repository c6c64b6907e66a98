"""Queues and bookings as tables."""

from collections.abc import Iterable, Mapping
from typing import Any

from client.output import Table
from client.quantities import cores_text, duration_text, memory_text
from client.views import moment

Json = Mapping[str, Any]

BAR_WIDTH = 20
_OF_MODEL = "gpu_milli:"


def queue_table(queues: Iterable[Json], *, dimension: str, wide: bool) -> Table:
    """What `queue ls` shows: the tree, and how each queue stands in one dimension."""
    queues = list(queues)
    scale = max((_most(queue, dimension) for queue in queues), default=0)
    more = ("MIN RUNTIME", "GUARANTEES", "LIMITS", "COMMENT") if wide else ()
    shown = ("WEIGHT", "IN USE", "ENTITLED", "GUARANTEED", "LIMIT", "SHARE")
    return Table(
        columns=("QUEUE", *shown, "RUNNING", "PENDING", "GPU-HOURS", *more),
        rows=tuple(
            (
                _name(queue),
                str(queue["weight"]),
                *_quantities(queue, dimension),
                bar(queue, dimension, scale=scale),
                str(queue["running"]),
                str(queue["pending"]),
                f"{queue['usage_gpu_hours']:.1f}",
                *(_more(queue) if wide else ()),
            )
            for queue in queues
        ),
    )


BAR_LEGEND = "# held within the entitlement, + borrowed, - entitled to and free, | the guarantee"


def bar(queue: Json, dimension: str, *, scale: int, width: int = BAR_WIDTH) -> str:
    """What a queue holds, may hold and is guaranteed, on one line (``BAR_LEGEND``). Its whole width
    stands for ``scale``. Where nobody has reckoned the entitlement, all that's held is ``#``."""
    if scale <= 0:
        return ""
    in_use, entitled, guaranteed = (
        round(width * (quantity or 0) / scale)
        for quantity in (
            queue["in_use"].get(dimension, 0),
            queue["entitlement"].get(dimension),
            queue["guaranteed"].get(dimension),
        )
    )
    known = dimension in queue["entitlement"]
    cells = ["#" if cell < entitled or not known else "+" for cell in range(in_use)]
    cells += ["-"] * (entitled - in_use)
    cells += ["."] * (width - len(cells))
    if guaranteed:
        cells.insert(guaranteed, "|")
    return "".join(cells)


def quantity_text(dimension: str, quantity: int | None) -> str:
    """``8 GPUs`` as ``8``, cores as ``1.5``, memory with its unit; ``-`` for none."""
    if quantity is None:
        return "-"
    if dimension.endswith("_milli") or dimension.startswith(_OF_MODEL):
        return cores_text(quantity)
    return memory_text(quantity) if dimension.endswith("_mib") else str(quantity)


def _most(queue: Json, dimension: str) -> int:
    parts = ("in_use", "entitlement", "guaranteed")
    return max(queue[part].get(dimension, 0) for part in parts)


def _name(queue: Json) -> str:
    indent = "└ ".rjust(2 * queue["depth"]) if queue["depth"] else ""
    return f"{indent}{queue['name']}{' (implicit)' if queue['implicit'] else ''}"


def _quantities(queue: Json, dimension: str) -> tuple[str, ...]:
    return (
        quantity_text(dimension, queue["in_use"].get(dimension, 0)),
        *(
            quantity_text(dimension, queue[part].get(dimension))
            for part in ("entitlement", "guaranteed", "limit")
        ),
    )


def _more(queue: Json) -> tuple[str, ...]:
    return (
        duration_text(queue["min_runtime_seconds"]),
        _pairs(queue["guaranteed"]),
        _pairs(queue["limit"]),
        queue["comment"] or "-",
    )


def _pairs(quantities: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(quantities.items())) or "-"


def queue_standing(queue: Json) -> Table:
    """What `queue show` shows: all dimensions of one queue that say anything."""
    parts = ("in_use", "entitlement", "borrowed", "guaranteed", "limit")
    dimensions = sorted({key for part in parts for key, value in queue[part].items() if value})
    return Table(
        columns=("OF", "IN USE", "ENTITLED", "BORROWED", "GUARANTEED", "LIMIT"),
        rows=tuple(
            (_title(name), *(quantity_text(name, queue[part].get(name)) for part in parts))
            for name in dimensions
        ),
    )


_TITLES = {
    "gpu_milli": "GPUs",
    "gpus": "GPUs held in part or whole",
    "gpu_memory_mib": "GPU memory",
    "cpu_milli": "cores",
    "memory_mib": "memory",
    "disk_mib": "disk",
    "network_mbps": "Mbit/s",
}


def _title(dimension: str) -> str:
    if dimension.startswith(_OF_MODEL):
        return f"GPUs, {dimension.removeprefix(_OF_MODEL)}"
    return _TITLES.get(dimension, dimension)


def queue_lines(queue: Json) -> list[str]:
    """What `queue show` says besides."""
    lines = [
        f"queue {queue['name']}"
        + (f", below {queue['parent']}" if queue["parent"] else ", at the top")
        + (", which nobody created: tasks name it" if queue["implicit"] else ""),
        f"weight {queue['weight']}; {queue['running']} running, {queue['pending']} pending; "
        f"{queue['usage_gpu_hours']:.1f} GPU-hours used lately",
    ]
    if queue["min_runtime_seconds"] is not None:
        lines.append(f"its tasks run at least {duration_text(queue['min_runtime_seconds'])}")
    if queue["comment"]:
        lines.append(queue["comment"])
    return lines


def booking_table(bookings: Iterable[Json], *, wide: bool) -> Table:
    """What `booking ls` shows."""
    more = ("ID", "MADE") if wide else ()
    return Table(
        columns=("NAME", *more, "STATE", "FOR", "STARTS", "ENDS", "NODES", "REASON"),
        rows=tuple(
            (
                one["name"],
                *((one["id"], moment(one["created_at"])) if wide else ()),
                one["state"],
                one["queue"] or "maintenance",
                moment(one["starts_at"]),
                moment(one["ends_at"]),
                ", ".join(one["nodes"]) if wide else _counted(one["nodes"]),
                one["reason"] or "-",
            )
            for one in bookings
        ),
    )


_NODES_NAMED_MAX = 4


def _counted(nodes: list[str]) -> str:
    shown = ", ".join(nodes[:_NODES_NAMED_MAX])
    more = len(nodes) - _NODES_NAMED_MAX
    return f"{shown} and {more} more" if more > 0 else shown
