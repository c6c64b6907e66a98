"""CSV traces of a cluster: nodes, tasks and the order in which they arrive (the openb columns).

Bytes in, dataclasses out. What is wrong is reported in one go, each fault with file, line, column
and value.
"""

import csv
import io
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from solver.errors import Fault, shorten
from solver.problem import QUANTITY_MAX, WHOLE_DEVICE_MILLI, Device, Node, Request, Task

NODE_COLUMNS = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
TASK_COLUMNS = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")
MODELS_COLUMN = "gpu_spec"
"""Optional: the models that a task takes, with ``|`` between them; empty = any."""

MOST_DEVICES = 1024
"""of one node: a device is an object, so their number is bounded by what can be held."""
MOST_ARRIVALS = 1_000_000
NAME_LENGTH = 200
FAULTS_SHOWN = 1000


class InvalidTrace(Exception):  # noqa: N818 - the name says what is invalid
    """The files are no trace."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(str(fault) for fault in faults[:20]))
        self.faults = tuple(faults[:FAULTS_SHOWN])
        """The first thousand; more help nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file's name, for messages, and its bytes."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    file: str
    line: int
    cells: dict[str, str]

    def fault(self, column: str, reason: str) -> Fault:
        path = f"{self.file}, line {self.line}, column {column}"
        return Fault(path=path, value=shorten(self.cells[column]), reason=reason)


def parse_nodes(source: Source) -> tuple[Node, ...]:
    """The nodes of a trace; devices are named "0", "1", ... Raises :class:`InvalidTrace`."""
    faults: list[Fault] = []
    nodes = []
    seen: set[str] = set()
    for row in _rows(source, NODE_COLUMNS, faults):
        name = _name(row, "sn", seen, faults)
        cpu_milli = _integer(row, "cpu_milli", QUANTITY_MAX, faults)
        memory_mib = _integer(row, "memory_mib", QUANTITY_MAX, faults)
        devices = _integer(row, "gpu", MOST_DEVICES, faults)
        model = row.cells["model"].strip()
        if not faults:
            nodes.append(
                Node(
                    id=name,
                    cpu_milli=cpu_milli,
                    memory_mib=memory_mib,
                    devices=tuple(Device(id=str(i), model=model) for i in range(devices)),
                )
            )
    if faults:
        raise InvalidTrace(faults)
    return tuple(nodes)


def parse_tasks(source: Source) -> tuple[Task, ...]:
    """The tasks of a trace: one replica each. Raises :class:`InvalidTrace`."""
    faults: list[Fault] = []
    tasks = []
    seen: set[str] = set()
    for row in _rows(source, TASK_COLUMNS, faults):
        name = _name(row, "name", seen, faults)
        request = _request(row, faults)
        models = (model.strip() for model in row.cells.get(MODELS_COLUMN, "").split("|"))
        if not faults:
            tasks.append(Task(id=name, request=request, gpu_models=tuple(filter(None, models))))
    if faults:
        raise InvalidTrace(faults)
    return tuple(tasks)


def parse_order(source: Source, tasks: Sequence[Task]) -> tuple[Task, ...]:
    """The tasks in the order of arrival, named one a line; a name that comes again is a clone."""
    by_name = {task.id: task for task in tasks}
    faults: list[Fault] = []
    arrivals = []
    for number, line in enumerate(_text(source, faults).splitlines(), start=1):
        name = line.strip()
        if not name:
            continue
        task = by_name.get(name)
        if task is None:
            path = f"{source.name}, line {number}"
            faults.append(Fault(path=path, value=shorten(name), reason="is no task of the list"))
        else:
            arrivals.append(task)
    if len(arrivals) > MOST_ARRIVALS:
        faults.append(_too_many(source.name, len(arrivals)))
    if faults:
        raise InvalidTrace(faults)
    return tuple(arrivals)


def shuffled(
    tasks: Sequence[Task], nodes: Sequence[Node], *, seed: int, inflate: float
) -> tuple[Task, ...]:
    """The tasks in a random order, with clones of random ones so that they ask for at least
    ``inflate`` times the nodes' GPU milli (the protocol of FGD, USENIX ATC 2023).
    """
    rng = random.Random(seed)  # noqa: S311 - an order, not a secret
    arrivals = list(tasks)
    wanted_milli = inflate * WHOLE_DEVICE_MILLI * sum(len(node.devices) for node in nodes)
    asked_milli = sum(_gpu_milli(task) for task in tasks)
    if asked_milli == 0 and wanted_milli > 0:
        reason = "can't be reached: no task of the list asks for a GPU"
        raise InvalidTrace((Fault(path="inflate", value=str(inflate), reason=reason),))
    expected = len(tasks) * wanted_milli / asked_milli if asked_milli else 0
    if not math.isfinite(expected) or expected > MOST_ARRIVALS:
        raise InvalidTrace((_too_many("inflate", inflate),))
    while asked_milli < wanted_milli:
        clone = rng.choice(tasks)
        arrivals.append(clone)
        asked_milli += _gpu_milli(clone)
    rng.shuffle(arrivals)
    return tuple(arrivals)


def _gpu_milli(task: Task) -> int:
    return task.request.gpus * task.request.gpu_milli


def _too_many(path: str, value: float) -> Fault:
    reason = f"makes more than {MOST_ARRIVALS} arrivals"
    return Fault(path=path, value=shorten(value), reason=reason)


def _request(row: _Row, faults: list[Fault]) -> Request:
    cpu_milli = _integer(row, "cpu_milli", QUANTITY_MAX, faults)
    memory_mib = _integer(row, "memory_mib", QUANTITY_MAX, faults)
    gpus = _integer(row, "num_gpu", MOST_DEVICES, faults)
    gpu_milli = _integer(row, "gpu_milli", WHOLE_DEVICE_MILLI, faults)
    if gpus == 0:
        return Request(cpu_milli=cpu_milli, memory_mib=memory_mib)
    if gpu_milli == 0:
        faults.append(row.fault("gpu_milli", f"has to be at least 1 with num_gpu {gpus}"))
    elif gpu_milli < WHOLE_DEVICE_MILLI and gpus > 1:
        reason = f"is a share of one device and needs num_gpu 1, not {gpus}"
        faults.append(row.fault("gpu_milli", reason))
    return Request(
        cpu_milli=cpu_milli, memory_mib=memory_mib, gpus=gpus, gpu_milli=max(1, gpu_milli)
    )


def _name(row: _Row, column: str, seen: set[str], faults: list[Fault]) -> str:
    name = row.cells[column].strip()
    if not name:
        faults.append(row.fault(column, "is empty"))
    elif len(name) > NAME_LENGTH:
        faults.append(row.fault(column, f"has more than {NAME_LENGTH} characters"))
    elif name in seen:
        faults.append(row.fault(column, "is the name of an earlier line; names are unique"))
    seen.add(name)
    return name


def _integer(row: _Row, column: str, most: int, faults: list[Fault]) -> int:
    """The number there; 1 with a fault where there is none."""
    text = row.cells[column].strip()
    if not (text.isascii() and text.removeprefix("-").isdecimal()):
        faults.append(row.fault(column, "has to be an integer"))
    elif text.startswith("-"):
        faults.append(row.fault(column, "has to be at least 0"))
    elif len(text.lstrip("0")) > len(str(most)) or int(text) > most:
        faults.append(row.fault(column, f"has to be at most {most}"))
    else:
        return int(text)
    return 1


def _rows(source: Source, columns: Sequence[str], faults: list[Fault]) -> Iterator[_Row]:
    """The lines below the header as dicts. What isn't a table becomes a fault."""
    reader = csv.reader(io.StringIO(_text(source, faults), newline=""), strict=True)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        faults += _header_faults(source.name, header, columns)
        if faults:
            return
        for cells in reader:
            if not cells:
                continue  # a blank line
            if len(cells) != len(header):
                path = f"{source.name}, line {reader.line_num}"
                reason = f"has to have {len(header)} cells, as the header has"
                faults.append(Fault(path=path, value=f"{len(cells)} cells", reason=reason))
                continue
            row = dict(zip(header, cells, strict=True))
            yield _Row(file=source.name, line=reader.line_num, cells=row)
    except csv.Error as error:
        path = f"{source.name}, line {reader.line_num}"
        faults.append(Fault(path=path, value="this line", reason=f"is no CSV: {error}"))


def _header_faults(file: str, header: list[str], columns: Sequence[str]) -> Iterator[Fault]:
    path = f"{file}, line 1"
    if not header:
        yield Fault(path=path, value="nothing", reason="has to name the columns")
        return
    for column in columns:
        if column not in header:
            shown = shorten(",".join(header))
            yield Fault(path=path, value=shown, reason=f"lacks the column {column}")
    for column in sorted({name for name in header if header.count(name) > 1}):
        yield Fault(path=path, value=shorten(column), reason="is the name of two columns")


def _text(source: Source, faults: list[Fault]) -> str:
    try:
        return source.data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = source.data[: error.start].count(b"\n") + 1
        value = repr(source.data[error.start : error.start + 1])[1:]
        path = f"{source.name}, line {line}"
        faults.append(Fault(path=path, value=value, reason="is no UTF-8"))
        return ""
