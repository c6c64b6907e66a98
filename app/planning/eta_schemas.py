"""What the API says of starts to come, and what it's asked about changes."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

from app.queues.schemas import Dimension
from protocol.task import TaskSpec
from protocol.wire import Form, Id, Name, Quantity

_SOME = 1_000
"""Of each kind of change there may be so many."""


class EtaView(BaseModel):
    """When a waiting task starts: in half of the cases by ``start_p50``, in nine of ten by
    ``start_p90``. Null: not within the horizon, as far as anything is known."""

    task: str
    name: str
    state: str
    start_p50: datetime | None
    start_p90: datetime | None
    seconds_p50: float | None
    """From ``as_of`` on."""
    seconds_p90: float | None
    never_ratio: float
    """In this part of the cases it doesn't start within the horizon."""
    nodes: list[str]
    waits_for: list[str]
    """Ids of tasks whose end makes its room."""
    why: str
    as_of: datetime
    unknown: list[str]
    """Tasks of whose duration nothing is known: they're taken never to end."""


class EtaPage(BaseModel):
    """In the order in which tasks get their room."""

    items: list[EtaView]
    as_of: datetime | None
    next_cursor: str | None


class NodeForm(Form):
    """A node that isn't there."""

    name: Name
    cpu_milli: Quantity = 0
    memory_mib: Quantity = 0
    disk_mib: Quantity = 0
    network_mbps: Quantity = 0
    labels: dict[str, str] = {}
    domains: dict[str, str] = {}
    gpus: Annotated[int, Field(ge=0, le=1024)] = 0
    gpu_model: str = ""
    gpu_memory_mib: Quantity = 0


class AddNodes(Form):
    """So many more like a node that's there, or one as it's described."""

    like: Name | None = None
    count: Annotated[int, Field(ge=1, le=_SOME)] = 1
    node: NodeForm | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.like is None) == (self.node is None):
            raise ValueError("give like (the name of a node) or node (a node's form), one of both")
        return self


class QueueChange(Form):
    """What of a queue is to be otherwise, or a queue that isn't there."""

    name: Name
    parent: Name | None = None
    weight: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    guaranteed: dict[Dimension, Quantity] | None = None
    limit: dict[Dimension, Quantity] | None = None


class Simulation(Form):
    """What if: changes to the cluster as it is."""

    tasks: Annotated[tuple[TaskSpec, ...], Field(max_length=_SOME)] = ()
    cancel: Annotated[tuple[Id, ...], Field(max_length=_SOME)] = ()
    add_nodes: Annotated[tuple[AddNodes, ...], Field(max_length=_SOME)] = ()
    remove_nodes: Annotated[tuple[Name, ...], Field(max_length=_SOME)] = ()
    queues: Annotated[tuple[QueueChange, ...], Field(max_length=_SOME)] = ()
    prices: Annotated[
        dict[str, Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]],
        Field(max_length=_SOME),
    ] = {}
    """By model of GPU, for an hour of one."""


class StartView(BaseModel):
    """In seconds from ``as_of``."""

    seconds_p50: float | None
    seconds_p90: float | None


class NewTaskView(BaseModel):
    """A task that isn't submitted, by its place in what was asked."""

    task: str
    """``new-0`` and so on."""
    name: str
    start_p50: datetime | None
    start_p90: datetime | None
    seconds_p50: float | None
    seconds_p90: float | None
    never_ratio: float
    nodes: list[str]
    waits_for: list[str]
    why: str
    cost: float | None
    """At its median duration where it probably starts; null where that or a price isn't known."""


class AffectedView(BaseModel):
    """A task that waits, or has to wait again, and starts at another time by the change."""

    task: str
    name: str
    before: StartView | None
    """Null: it ran."""
    after: StartView | None
    """Null: it's cancelled."""


class UseView(BaseModel):
    """GPU milli in use from ``seconds`` on."""

    seconds: float
    gpu_milli: int


class UtilisationView(BaseModel):
    capacity_gpu_milli: int
    use: list[UseView]


class SimulationView(BaseModel):
    as_of: datetime
    tasks: list[NewTaskView]
    affected: list[AffectedView]
    before: UtilisationView
    after: UtilisationView
    cost: float | None
    """Of all new tasks together; null where one isn't known."""
    unknown: list[str]
