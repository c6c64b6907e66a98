"""The answer: where each task runs after the plan, what that is worth, and why the rest waits.

The classes are the JSON form (contract, section 3), field by field.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from solver.problem import Slot

_STRICT = {"extra": "forbid", "strict": True}


class Status(StrEnum):
    """How much of the answer is proven. Where nothing fits, leaving all unplaced is optimal."""

    OPTIMAL = "optimal"
    """Every objective term is proven: its bound equals its value."""
    FEASIBLE = "feasible"
    """The exact search ran and left a gap on at least one term."""
    TIMEOUT = "timeout"
    """Only the quick plan: the time, or the size, left no room for the exact search."""


class ReasonCode(StrEnum):
    """Why a task waits."""

    NO_CAPACITY = "no_capacity"
    NO_MATCHING_MODEL = "no_matching_model"
    NO_MATCHING_NODE = "no_matching_node"
    GANG_DOES_NOT_FIT = "gang_does_not_fit"
    TOPOLOGY = "topology"
    QUEUE_LIMIT = "queue_limit"
    LOWER_PRIORITY = "lower_priority"
    UNSCHEDULABLE_NODES = "unschedulable_nodes"
    MOVES_EXHAUSTED = "moves_exhausted"


class FixKind(StrEnum):
    """What would make room. Of fixes that cost the same the kinds named first come first."""

    RELAX = "relax"
    """The waiting task does without a wish: the field is named in ``dimension``. ``value`` is what
    it would accept too (a model, ``label=value``) or do without (a label, a task that it is
    separate from); None = all that the field says."""
    RAISE_LIMIT = "raise_limit"
    """``queue`` gets ``quantity`` as its limit of ``dimension``."""
    UNCORDON = "uncordon"
    """The node named in ``node`` is schedulable again."""
    MOVE = "move"
    """Each of the running ``tasks`` moves to the node at the same place in ``nodes``."""
    SHRINK = "shrink"
    """A smaller request of the waiting task itself."""
    FREE = "free"
    """The end of the running task named in ``task``."""
    FREE_SET = "free_set"
    """The end of all of ``tasks``, where no task's end alone is enough."""
    ADD_NODE = "add_node"
    """One more node like the one named in ``node``, empty, healthy and schedulable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A task that runs after the plan, with one slot for each of its running replicas."""

    __pydantic_config__ = _STRICT

    task: str
    replicas: tuple[Slot, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One true reason. ``nodes`` counts the nodes on which the task fails for it."""

    __pydantic_config__ = _STRICT

    code: ReasonCode
    text: str
    nodes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """One change after which the task would fit into the plan's final state; tried before it is
    offered.
    """

    __pydantic_config__ = _STRICT

    kind: FixKind
    text: str
    task: str | None = None
    node: str | None = None
    dimension: str | None = None
    """For ``shrink``: the field of the task or its request to lower, and to what ``quantity``."""
    quantity: int | None = None
    tasks: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    queue: str | None = None
    value: str | None = None
    cost: int = 0
    """In GPU milli (1 for a replica without GPU): what ends, moves, is given up, or is bought.
    Fixes are sorted by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplaced:
    """A task that doesn't run after the plan."""

    __pydantic_config__ = _STRICT

    task: str
    reasons: tuple[Reason, ...] = ()
    fixes: tuple[Fix, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveValue:
    """One objective term of a placement. ``level`` is the priority that an entry of ``placed``
    counts.
    """

    __pydantic_config__ = _STRICT

    name: str
    value: int
    level: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveTerm:
    """One objective term of a plan: its value and a bound that no placement of the problem can
    beat.
    """

    __pydantic_config__ = _STRICT

    name: str
    value: int
    bound: int
    gap: float
    level: int | None = None


class StepKind(StrEnum):
    """What is done in a step."""

    STOP = "stop"
    START = "start"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to do when the plan is carried out. Steps of one ``wave`` may be done at once."""

    __pydantic_config__ = _STRICT

    kind: StepKind
    task: str
    replicas: tuple[Slot, ...]
    """The slots that are left or taken; the task's other replicas go on."""
    wave: int
    """0 is the first. A wave begins when all of the one before is done: what stops has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """How the plan came about. ``digest`` names the problem's canonical bytes."""

    __pydantic_config__ = _STRICT

    seconds: float
    """Wall time; 0.0 without a clock and in the deterministic preset, whose plans repeat to the
    byte.
    """
    quick_seconds: float
    workers: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that runs after the plan, moved or not, and everything that doesn't, with the
    reasons.
    """

    __pydantic_config__ = _STRICT

    version: Literal[1]
    status: Status
    placements: tuple[Placement, ...] = ()
    moved: tuple[str, ...] = ()
    evicted: tuple[str, ...] = ()
    unplaced: tuple[Unplaced, ...] = ()
    objective: tuple[ObjectiveTerm, ...] = ()
    prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Dimension -> device model -> what one more unit is worth in the first level of ``placed``
    that lacks room; under ``node``, one of each class of nodes -> what one more is worth."""
    steps: tuple[Step, ...] = ()
    """How to get there, in order: each device is free before it is taken (model.md, C15)."""
    stats: Stats


def relative_gap(value: int, bound: int) -> float:
    """|bound - value| / max(1, |bound|)."""
    return abs(bound - value) / max(1, abs(bound))
