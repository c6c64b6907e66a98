"""What the API says of usage, and what it advises."""

from pydantic import BaseModel

from app.advice.sizing import Confidence


class SpreadView(BaseModel):
    """``p95`` and ``p50`` are of rows of ``resolution_seconds``, each the mean of its stretch, over
    all replicas; ``peak`` is the largest single reading."""

    peak: float
    p95: float
    p50: float
    known_ratio: float
    """Of all rows, those in which it was known."""


class UsageView(BaseModel):
    """What the last attempt of a task used. None: not measured, never zero."""

    task: str
    name: str
    generation: int
    replicas: int
    held_seconds: float
    """From the first to the end, or to now."""
    measured_seconds: float
    resolution_seconds: float
    gpu_memory_mib: SpreadView | None
    """On the one device of each replica that holds most."""
    gpu_utilization_percent: SpreadView | None
    """Percent of the time in which some kernel of the task ran, mean over a replica's devices."""
    cpu_cores: SpreadView | None
    memory_mib: SpreadView | None


class AdviceView(BaseModel):
    """One word of a request that could be smaller."""

    field: str
    now: int
    suggested: int
    gpu_hours: float
    """What the last attempt would have left to others."""
    confidence: Confidence
    text: str


class TaskAdvice(BaseModel):
    task: str
    name: str
    queue: str
    state: str
    measured_seconds: float
    gpu_hours: float
    """What all of it would have left to others."""
    advice: list[AdviceView]


class AdvicePage(BaseModel):
    items: list[TaskAdvice]
    """Only tasks that something can be said of: a page may have fewer than ``limit``, or none."""
    next_cursor: str | None
