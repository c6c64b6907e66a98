"""What the API says of events."""

from datetime import datetime

from pydantic import BaseModel


class EventView(BaseModel):
    id: int
    at: datetime
    kind: str
    task: str | None
    node: str | None
    message: str


class EventPage(BaseModel):
    items: list[EventView]
    next_after: int
    """Ask with ``after`` set to this for what happens next."""
