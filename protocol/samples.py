"""Measurements on their way to the service: rows in column form, in numbered batches.

A column that nobody measured is left out; within a column, None is "unknown". ``epoch`` and ``seq``
name a batch for ever: however often and in whatever order batches come, each is stored once.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Self, cast

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from protocol.wire import Form, Id, Milliseconds, Name
from telemetry import columns
from telemetry.columns import Column
from telemetry.samples import DiskCounters, NetworkCounters

ROWS_MAX = 100_000
BATCHES_MAX = 256

_Rows = Annotated[int, Field(ge=0, lt=ROWS_MAX)]
_Key = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00]*$")]


def _number(column: Column) -> Any:
    if column.whole:
        return Annotated[int, Field(ge=0, le=int(column.most))]
    return Annotated[float, Field(ge=0, le=column.most, allow_inf_nan=False)]


def _values(name: str, of: Sequence[Column]) -> type[BaseModel]:
    """A form with one optional list a column; what can't be is refused by its bound."""
    fields: dict[str, Any] = {
        column.name: (
            Annotated[
                list[_number(column) | None] | None,
                Field(max_length=ROWS_MAX),
            ],
            None,
        )
        for column in of
    }
    made = create_model(
        name, __config__=ConfigDict(extra="forbid", frozen=True, strict=True), **fields
    )
    return cast("type[BaseModel]", made)


if TYPE_CHECKING:  # made below, out of the list of columns: a checker can't follow

    class HostValues(BaseModel): ...

    class DeviceValues(BaseModel): ...

    class TaskValues(BaseModel): ...
else:
    HostValues = _values("HostValues", columns.HOST)
    DeviceValues = _values("DeviceValues", columns.DEVICE)
    TaskValues = _values("TaskValues", columns.TASK)


class _Columns(Form):
    """Rows ``i`` is of the host, or of ``keys[key[i]]``, at ``taken_at_ms[i]`` on the node's
    clock."""

    taken_at_ms: Annotated[list[Milliseconds], Field(max_length=ROWS_MAX)]

    def _checked(self, values: BaseModel, key: list[int], keys: tuple[str, ...]) -> None:
        rows = len(self.taken_at_ms)
        lengths = {name: len(column) for name, column in vars(values).items() if column is not None}
        lengths["key"] = len(key)
        faults = [
            f"{name} has {length} values for {rows} rows"
            for name, length in lengths.items()
            if length != rows
        ]
        if key and max(key) >= len(keys):
            faults.append(f"key {max(key)} is beyond the {len(keys)} keys")
        if faults:
            raise ValueError("; ".join(faults))


class HostColumns(_Columns):
    values: HostValues

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        rows = len(self.taken_at_ms)
        self._checked(self.values, [0] * rows, ("",))
        return self


class DeviceColumns(_Columns):
    keys: Annotated[tuple[_Key, ...], Field(max_length=1024)]
    """UUIDs of devices of this node."""
    key: list[_Rows]
    values: DeviceValues

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._checked(self.values, self.key, self.keys)
        return self


class TaskColumns(_Columns):
    keys: Annotated[tuple[Id, ...], Field(max_length=4096)]
    """Ids of allocations of this node."""
    key: list[_Rows]
    values: TaskValues

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._checked(self.values, self.key, self.keys)
        return self


class SampleBatch(Form):
    """What was measured in one stretch of time."""

    epoch: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
    """One run of the agent."""
    seq: Annotated[int, Field(ge=1, le=2**53)]
    host: HostColumns | None = None
    devices: DeviceColumns | None = None
    tasks: TaskColumns | None = None


class SampleReport(Form):
    """``POST /agent/v1/samples``; ``Content-Encoding: gzip`` is understood.

    Answered when all of it is stored. 429 or 503 with ``Retry-After``: nothing is, keep it.
    """

    version: int
    node: Name
    sent_at_ms: Milliseconds
    """On the node's clock: with the time of arrival it tells how far that clock is off."""
    batches: Annotated[tuple[SampleBatch, ...], Field(max_length=BATCHES_MAX)]
    dropped_rows: Annotated[int, Field(ge=0)] = 0
    """Rows that this agent has had to give up since it started, for want of room."""
    disks: Annotated[tuple[DiskCounters, ...], Field(max_length=1024)] = ()
    networks: Annotated[tuple[NetworkCounters, ...], Field(max_length=1024)] = ()
    """The newest, for people who look now; not stored."""


class SampleAck(Form):
    """The answer: all batches are stored, now or before."""

    rows: int
    """Stored by this report."""
    duplicates: int = 0
    """Batches that had been stored before."""
    unknown: int = 0
    """Rows of devices and allocations that aren't this node's; not stored."""
    implausible: int = 0
    """Values that can't be; stored as unknown."""
    expired: int = 0
    """Rows older than anything that's kept; not stored."""
    interval_seconds: float
    """How much time one row is to stand for."""
    backlog_batches: int
    """How many older batches may be sent along with the next report."""
