"""What the API says of queues and bookings."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, Field

from protocol.wire import Form, Name, Quantity, Text

_WEIGHT_MAX = 1_000_000
_RUNTIME_SECONDS_MAX = 366 * 86_400.0
_DURATION_SECONDS_MAX = 5 * 366 * 86_400.0
_DIMENSIONS_MAX = 256

Dimension = Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[^\x00]*$")]
"""``gpu_milli``, ``cpu_milli`` ... or, of one model's devices, ``gpu_milli:MODEL``."""
_Quantities = Annotated[dict[Dimension, Quantity], Field(max_length=_DIMENSIONS_MAX)]
_Weight = Annotated[int, Field(ge=0, le=_WEIGHT_MAX)]
_Runtime = Annotated[float, Field(ge=0, le=_RUNTIME_SECONDS_MAX, allow_inf_nan=False)]


class QueueForm(Form):
    """A queue as it is to be. Left out: at the top, of weight 1, nothing guaranteed, no limit."""

    name: Name
    parent: Name | None = None
    weight: _Weight = 1
    guaranteed: _Quantities = {}
    limit: _Quantities = {}
    min_runtime_seconds: _Runtime | None = None
    """So long a task of it runs before it's preempted; None: as the service's setting."""
    comment: Text = ""


class QueuePatch(Form):
    """What of a queue is to change; what's left out stays. In ``guaranteed`` and ``limit`` too: a
    dimension that is null goes, as in RFC 7396."""

    parent: Name | None = None
    weight: _Weight = 1
    guaranteed: Annotated[dict[Dimension, Quantity | None], Field(max_length=_DIMENSIONS_MAX)] = {}
    limit: Annotated[dict[Dimension, Quantity | None], Field(max_length=_DIMENSIONS_MAX)] = {}
    min_runtime_seconds: _Runtime | None = None
    comment: Text = ""


class QueueView(BaseModel):
    """A queue, and how it stands now. What is held and waits counts the queues below it too."""

    name: str
    parent: str | None
    depth: int
    """0 at the top."""
    implicit: bool
    """Nobody defined it: tasks name it. It has weight 1, and is at the top."""
    weight: int
    guaranteed: dict[str, int]
    limit: dict[str, int]
    min_runtime_seconds: float | None
    comment: str
    created_at: datetime | None
    in_use: dict[str, int]
    running: int
    """Tasks that hold something, or are about to let go of it."""
    pending: int
    entitlement: dict[str, int]
    """What it may hold now, by the last round of planning. Empty while none has reckoned it."""
    borrowed: dict[str, int]
    """What it holds beyond that."""
    usage_gpu_hours: float
    """GPU time held lately, computing or not, fading with a half-life."""


class QueueAnswer(QueueView):
    notes: list[str]
    """What is worth a second look, and no fault."""


class QueuePage(BaseModel):
    items: list[QueueView]
    next_cursor: str | None


class BookingForm(Form):
    """Nodes that are one queue's, or nobody's, for a while."""

    name: Name
    nodes: Annotated[tuple[Name, ...], Field(min_length=1, max_length=10_000)]
    starts_at: AwareDatetime | None = None
    """Left out: now."""
    ends_at: AwareDatetime | None = None
    duration_seconds: (
        Annotated[float, Field(gt=0, le=_DURATION_SECONDS_MAX, allow_inf_nan=False)] | None
    ) = None
    """In place of ``ends_at``."""
    queue: Name | None = None
    """None: maintenance. The nodes take nothing, and their silence means nothing."""
    reason: Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")] = ""


class BookingState(StrEnum):
    UPCOMING = "upcoming"
    ACTIVE = "active"
    OVER = "over"


class BookingView(BaseModel):
    id: str
    name: str
    state: BookingState
    nodes: list[str]
    queue: str | None
    starts_at: datetime
    ends_at: datetime
    reason: str
    created_at: datetime


class BookingPage(BaseModel):
    items: list[BookingView]
    next_cursor: str | None
