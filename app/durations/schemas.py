"""What the API says of how long tasks run."""

from pydantic import BaseModel


class ForecastView(BaseModel):
    """How long a task runs in all, from its start. Null: nothing is known, and nothing is
    guessed."""

    task: str | None = None
    """None: it isn't submitted."""
    elapsed_seconds: float = 0.0
    """For how long it has run, with what earlier attempts' checkpoints carry on."""
    seconds_p50: float | None
    seconds_p90: float | None
    source: str
    """``history``: runs of its script; ``queue``, ``cluster``: of anything there; ``limit``: the
    user's word alone; ``none``."""
    like: int
    """How many runs it rests on."""
    text: str


class CalibrationView(BaseModel):
    """Of runs that ended by themselves, the part that did within what was forecast at their start:
    of p90 nine in ten, if forecasts are worth anything."""

    runs: int
    within_p50_ratio: float | None
    within_p90_ratio: float | None
    """None: no run was forecast."""
    unforeseen: int
    """Runs besides that nothing, or only their user's limit, was known of."""
