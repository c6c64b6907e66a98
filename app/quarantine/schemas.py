"""What the API says of quarantines."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from protocol.wire import Form


class QuarantineView(BaseModel):
    """A device that takes no new task until ``released_at``."""

    id: int
    node: str
    uuid: str
    index: int | None
    model: str | None
    simulated: bool
    code: str
    reason: str
    by_rule: bool
    """Whether the rule that began it also ends it; otherwise a person does."""
    since: datetime
    released_at: datetime | None
    release_reason: str


class QuarantinePage(BaseModel):
    items: list[QuarantineView]
    next_cursor: str | None


class QuarantineForm(Form):
    """A device that a person takes out of service; what runs there stays."""

    node: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00]*$")]
    device: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00]*$")]
    """Its index or its UUID."""
    reason: Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]*$")]
