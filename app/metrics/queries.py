"""What may be asked of measurements, and the faults of what may not."""

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, ConfigDict

from app.db.samples.tables import Kind
from app.errors import Fault, InvalidInputError

POINTS_MAX = 2_000
TOP_MAX = 1_000
_TIME_MAX_MS = 2**53
_HOUR_MS = 3_600_000
Word = Annotated[str, Query(max_length=128, pattern=r"^[^\x00]*$")]
Words = Annotated[str, Query(max_length=4096, pattern=r"^[^\x00]*$")]
"""Several words, with commas between."""
Time = Annotated[int, Query(ge=0, le=_TIME_MAX_MS)]


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Of(StrEnum):
    """What is measured, in the words of the API."""

    NODE = "node"
    DEVICE = "device"
    TASK = "task"

    @property
    def kind(self) -> Kind:
        return _KINDS[self]


_KINDS = {Of.NODE: Kind.HOST, Of.DEVICE: Kind.DEVICE, Of.TASK: Kind.TASK}


class Order(StrEnum):
    MOST = "most"
    LEAST = "least"


class LatestQuery(_Query):
    node: Word | None = None
    fields: Words = ""


class LiveQuery(_Query):
    node: Word | None = None


class RangeQuery(_Query):
    start_ms: Time | None = None
    end_ms: Time | None = None


class SeriesQuery(RangeQuery):
    points: Annotated[int, Query(ge=1, le=POINTS_MAX)] = 300
    fields: Words = ""


class TopQuery(_Query):
    metric: Word
    of: Of = Of.DEVICE
    n: Annotated[int, Query(ge=1, le=TOP_MAX)] = 10
    order: Order = Order.MOST


class By(StrEnum):
    QUEUE = "queue"
    TASK = "task"
    MODEL = "model"
    NODE = "node"


class AggregateQuery(RangeQuery):
    by: By


def range_of(query: RangeQuery, *, now_ms: int, hours: float = 1) -> tuple[int, int]:
    """Start and end in milliseconds; by default the last so many hours.

    Raises:
        InvalidInputError: the range is empty or turned.
    """
    end_ms = now_ms if query.end_ms is None else query.end_ms
    length_ms = round(hours * _HOUR_MS)
    start_ms = max(end_ms - length_ms, 0) if query.start_ms is None else query.start_ms
    if start_ms >= end_ms:
        raise InvalidInputError(
            "the range is empty",
            faults=(
                Fault(path="start_ms", value=start_ms, reason=f"isn't before end_ms {end_ms}"),
            ),
        )
    return start_ms, end_ms


def words_of(text: str, *, path: str, known: Collection[str]) -> Sequence[str]:
    """The words in a list with commas; none for an empty one.

    Raises:
        InvalidInputError: naming each that isn't known.
    """
    words = tuple(dict.fromkeys(word for part in text.split(",") if (word := part.strip())))
    _require(words, path=path, known=known)
    return words


def require_word(word: str, *, path: str, known: Collection[str]) -> None:
    """Refuse what isn't one of these.

    Raises:
        InvalidInputError: with those there are.
    """
    _require((word,), path=path, known=known)


def _require(words: Sequence[str], *, path: str, known: Collection[str]) -> None:
    faults = tuple(
        Fault(path=path, value=word, reason=f"isn't one of {', '.join(sorted(known))}")
        for word in words
        if word not in known
    )
    if faults:
        raise InvalidInputError(f"{len(faults)} fault(s) in the request", faults=faults)
