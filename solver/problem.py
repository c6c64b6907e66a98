"""The placement problem: what the cluster is, what runs on it, and what is asked for.

The classes are the JSON form (``docs/contract``, section 2), field by field. Every integer is in
the unit that its name ends with. Constructing a :class:`Problem` checks everything that it can be
wrong about and raises :class:`~solver.errors.InvalidProblem` with all faults at once.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le, MaxLen, MinLen

from solver import validity
from solver.errors import InvalidProblem
from solver.objective import DEFAULT_OBJECTIVE

QUANTITY_MAX = 2**53
"""The largest integer that every JSON reader keeps exactly (RFC 8259, section 6)."""
REPLICAS_MAX = 100_000
"""A plan names a slot for each replica, so their number is bounded by what can be written down."""
WHOLE_DEVICE_MILLI = 1000
DEFAULT_QUEUE = "default"
"""The queue of a task that names none. It always exists, without guarantee or limit unless it is
listed.
"""

Quantity = Annotated[int, Ge(0), Le(QUANTITY_MAX)]
Id = Annotated[str, MinLen(1), MaxLen(256)]
Word = Annotated[str, MaxLen(256)]

# Read by pydantic at the border (app/planning/documents.py); a plain dict, so that pydantic stays
# out of here.
_STRICT = {"extra": "forbid", "strict": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One accelerator of a node. It holds 1000 ``gpu_milli`` and its ``memory_mib``."""

    __pydantic_config__ = _STRICT

    id: Id
    model: Word = ""
    memory_mib: Quantity = 0
    numa: Annotated[int, Ge(0), Le(QUANTITY_MAX)] | None = None
    healthy: bool = True
    links: Mapping[Word, Word] = field(default_factory=dict)
    """Peer device id -> kind of link (``nvlink``, ``pix``, ...). A link named by either end counts;
    one to a device that isn't listed (lost, say) is no fault and means nothing."""
    active_watts: Quantity = 0
    """What the device draws once anything runs on it; only the term ``power`` reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One machine. A dimension left at 0 means that the node has none of it."""

    __pydantic_config__ = _STRICT

    id: Id
    cpu_milli: Quantity = 0
    memory_mib: Quantity = 0
    disk_mib: Quantity = 0
    network_mbps: Quantity = 0
    schedulable: bool = True
    """False = cordoned: it takes nothing new, what runs there may stay."""
    labels: Mapping[Word, Word] = field(default_factory=dict)
    domains: Mapping[Word, Word] = field(default_factory=dict)
    """Domain -> its value here, as in ``{"rack": "r1"}``. The domain ``node`` is implied: each node
    is one.
    """
    devices: tuple[Device, ...] = ()
    idle_watts: Quantity = 0
    """What the node draws once anything runs on it; only the term ``power`` reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What one replica needs. ``gpu_milli`` is the share of each of its ``gpus`` devices."""

    __pydantic_config__ = _STRICT

    cpu_milli: Quantity = 0
    memory_mib: Quantity = 0
    disk_mib: Quantity = 0
    network_mbps: Quantity = 0
    gpus: Annotated[int, Ge(0), Le(QUANTITY_MAX)] = 0
    gpu_milli: Annotated[int, Ge(1), Le(WHOLE_DEVICE_MILLI)] = WHOLE_DEVICE_MILLI
    gpu_memory_mib: Quantity = 0
    """Needed on each of the replica's devices."""

    @property
    def is_share(self) -> bool:
        """True for a replica that takes less than one whole device."""
        return self.gpus == 1 and self.gpu_milli < WHOLE_DEVICE_MILLI

    @property
    def weight(self) -> int:
        """What one placed replica counts for in ``placed``: GPU milli, or 1 without a GPU."""
        return self.gpus * self.gpu_milli or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Where one replica runs: a node and the devices of it that the replica holds."""

    __pydantic_config__ = _STRICT

    node: Id
    devices: tuple[Id, ...] = ()

    @property
    def key(self) -> tuple[str, tuple[str, ...]]:
        """Equal for two slots that are the same place; the order of the devices doesn't matter."""
        return self.node, tuple(sorted(self.devices))


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A gang of equal replicas: at least ``min_replicas`` of them run, or none."""

    __pydantic_config__ = _STRICT

    id: Id
    queue: Id = DEFAULT_QUEUE
    priority: Annotated[int, Ge(-QUANTITY_MAX), Le(QUANTITY_MAX)] = 0
    replicas: Annotated[int, Ge(1), Le(REPLICAS_MAX)] = 1
    min_replicas: Annotated[int, Ge(1), Le(REPLICAS_MAX)] | None = None
    """None = all of them."""
    request: Request = field(default_factory=Request)
    gpu_models: tuple[Word, ...] = ()
    node_selector: Mapping[Word, tuple[Word, ...]] = field(default_factory=dict)
    """For each label named, the node's value has to be one of these."""
    pack_within: Id | None = None
    spread_over: Id | None = None
    separate_from: tuple[Id, ...] = ()
    preemptible: bool = True
    placed: tuple[Slot, ...] = ()
    """Where its replicas run now."""
    move_cost: Quantity = 1
    evict_cost: Quantity = 1
    duration_seconds: Annotated[float, Ge(0), Le(1e12)] | None = None

    @property
    def fewest(self) -> int:
        """The fewest replicas that may run (``min_replicas``, or all)."""
        return self.replicas if self.min_replicas is None else self.min_replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A share of the cluster. ``limit`` is hard; ``guaranteed`` may be reclaimed from borrowers.

    Both map a dimension (``gpu_milli``, ``cpu_milli``, ...) to a quantity and count the queues
    below too.
    """

    __pydantic_config__ = _STRICT

    id: Id
    parent: Id | None = None
    weight: Quantity = 1
    guaranteed: Mapping[Word, Quantity] = field(default_factory=dict)
    limit: Mapping[Word, Quantity] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How long the solver may think and what it may touch."""

    __pydantic_config__ = _STRICT

    seconds: Annotated[float, Ge(0), Le(1e6)] = 5.0
    workers: Annotated[int, Ge(1), Le(1024)] = 2
    seed: Annotated[int, Ge(0), Le(2**31 - 1)] = 0
    max_moves: Quantity | None = None
    """Bounds moves plus evictions; None = no bound, 0 = nothing that runs may be touched."""
    deterministic: bool = False
    """One worker and deterministic time: the same plan, to the byte, on every run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One round's question. Immutable; raises :class:`InvalidProblem` with every fault when it
    makes no sense.
    """

    __pydantic_config__ = _STRICT

    version: Literal[1]
    nodes: tuple[Node, ...]
    tasks: tuple[Task, ...]
    queues: tuple[Queue, ...] = ()
    objective: tuple[Word, ...] = DEFAULT_OBJECTIVE
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        faults = (*validity.bound_faults(self), *validity.semantic_faults(self))
        if faults:
            raise InvalidProblem(faults)

    def with_budget(self, budget: Budget) -> "Problem":
        """The same question with another budget. Only the budget is checked: a large problem isn't
        read again from end to end for it.
        """
        faults = tuple(validity.bound_faults(budget, "budget"))
        if faults:
            raise InvalidProblem(faults)
        changed = copy(self)
        object.__setattr__(changed, "budget", budget)
        return changed
