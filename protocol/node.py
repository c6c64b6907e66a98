"""How a node joins the cluster."""

from typing import Annotated

from pydantic import Field

from protocol.task import Label
from protocol.wire import Form, Name
from telemetry.samples import Inventory


class Registration(Form):
    """``POST /agent/v1/register``: sent with the join token the first time, with the node's own
    token after."""

    version: int
    node: Name
    address: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:_-]+$", max_length=255)]
    """Where the node's tasks are reached by others: host name or IP address, no port."""
    labels: Annotated[dict[Label, Label], Field(max_length=64)] = {}
    domains: Annotated[dict[Label, Label], Field(max_length=16)] = {}
    inventory: Inventory


class Registered(Form):
    """The answer. ``token`` is given once, to a node that joined with the join token, and None
    after."""

    version: int
    node: Name
    token: str | None = None
    lease_seconds: float
    report_interval_seconds: float
