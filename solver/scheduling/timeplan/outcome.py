"""What the time plan says."""

from dataclasses import dataclass

from solver.problem import Slot

_STRICT = {"extra": "forbid", "strict": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """When a waiting task starts, in seconds from now."""

    __pydantic_config__ = _STRICT

    task: str
    p50_seconds: float | None = None
    """None: in half of the draws or more not within the horizon."""
    p90_seconds: float | None = None
    """None: not within the horizon in more than a tenth of the draws."""
    never: float
    """The part of the draws in which it doesn't start within the horizon, 0 to 1."""
    nodes: tuple[str, ...]
    """Where it starts most often."""
    slots: tuple[Slot, ...]
    """Where it starts when everybody takes their median time (the central draw); those of all
    tasks go together. Empty where it doesn't start then."""
    central_seconds: float | None = None
    """And when."""
    waits_for: tuple[str, ...]
    """Tasks whose end makes that room, latest first; at most three."""
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRoom:
    """Room to be held for a waiting gang: from ``p50_seconds`` on, or before where it's free."""

    task: str
    p50_seconds: float
    p90_seconds: float | None = None
    slots: tuple[Slot, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """GPU milli in use at one moment, and how many devices' worth there is."""

    __pydantic_config__ = _STRICT

    seconds: float
    gpu_milli: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePlan:
    """Starts in the order of the waiting tasks."""

    __pydantic_config__ = _STRICT

    starts: tuple[Start, ...]
    use: tuple[Use, ...]
    """The median over the draws, at moments when something begins or ends; each holds until the
    next."""
    capacity_gpu_milli: int
    unknown: tuple[str, ...]
    """Tasks of whose duration nothing is known: they are taken never to end."""
    horizon_seconds: float

    def start_of(self, task: str) -> Start | None:
        return next((start for start in self.starts if start.task == task), None)


HELD_MOST = 64


def held(plan: TimePlan, most: int = HELD_MOST) -> tuple[HeldRoom, ...]:
    """The room to hold: of the first ``most`` tasks in their order that take more than one device
    and don't start at once. All of it is of one draw, so no two have the same room at a time."""
    rooms = (
        HeldRoom(
            task=start.task,
            p50_seconds=start.p50_seconds,
            p90_seconds=start.p90_seconds,
            slots=start.slots,
        )
        for start in plan.starts
        if start.p50_seconds is not None
        and start.central_seconds
        and (len(start.slots) > 1 or any(len(slot.devices) > 1 for slot in start.slots))
    )
    return tuple(room for room, _ in zip(rooms, range(most), strict=False))
