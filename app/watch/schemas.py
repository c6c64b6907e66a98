"""What the API says of findings."""

from datetime import datetime

from pydantic import BaseModel

from app.findings import FindingKind


class FindingView(BaseModel):
    """Something that a person should know, as of the last look. Nothing is stopped by it."""

    kind: FindingKind
    text: str
    since: datetime | None
    node: str | None
    device: str | None
    """A UUID."""
    task: str | None
    gpu_hours: float | None


class FindingList(BaseModel):
    items: list[FindingView]
