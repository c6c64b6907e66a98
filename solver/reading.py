"""Reading a document whose shape is not known to be right: one of our dataclasses, or bare JSON.

What has the wrong shape is stepped over, so that faults of meaning are told beside those of shape.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from solver.errors import Fault, shorten


def read(holder: object, name: str) -> Any:
    if isinstance(holder, Mapping):
        return holder.get(name)
    return getattr(holder, name, None)


def items(holder: object, name: str) -> tuple[object, ...]:
    value = read(holder, name)
    return tuple(value) if isinstance(value, list | tuple) else ()


def numbered(holder: object, name: str) -> Iterator[tuple[int, object]]:
    return enumerate(items(holder, name))  # pyright: ignore[reportReturnType]


def mapping(holder: object, name: str) -> Mapping[str, object]:
    value = read(holder, name)
    return value if isinstance(value, Mapping) else {}


def text(holder: object, name: str) -> str | None:
    value = read(holder, name)
    return value if isinstance(value, str) else None


def integer(holder: object, name: str, absent: int | None) -> int | None:
    """The integer there, ``absent`` where nothing stands, None where something else does."""
    value = read(holder, name)
    if value is None:
        return absent
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def ids(holders: tuple[object, ...]) -> Iterator[str]:
    for item in holders:
        item_id = text(item, "id")
        if item_id is not None:
            yield item_id


def duplicates(document: object, name: str) -> Iterator[Fault]:
    counts = Counter(ids(items(document, name)))
    seen: set[str] = set()
    for i, item in numbered(document, name):
        item_id = text(item, "id")
        if item_id is None or counts[item_id] < 2:
            continue
        if item_id in seen:
            yield fault_at(
                f"{name}[{i}].id", item_id, "is the id of an earlier entry; ids are unique"
            )
        seen.add(item_id)


def fault_at(path: str, value: object, reason: str) -> Fault:
    return Fault(path=path, value=shorten(value), reason=reason)
