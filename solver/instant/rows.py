"""Arrays that grow, and numbers for what comes again."""

from collections.abc import Hashable
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

Key = TypeVar("Key", bound=Hashable)
Kind = TypeVar("Kind", bound=np.generic)

FIRST_ROWS = 16


class Numbering(Generic[Key]):
    """Numbers its keys 0, 1, 2, ... in the order in which they come."""

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self._numbers: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self.keys)

    def number(self, key: Key) -> tuple[int, bool]:
        """The key's number, and whether it is new."""
        number = self._numbers.setdefault(key, len(self.keys))
        is_new = number == len(self.keys)
        if is_new:
            self.keys.append(key)
        return number, is_new


def with_room(array: npt.NDArray[Kind], rows: int, fill: Any = 0) -> npt.NDArray[Kind]:
    """The array itself if it has so many rows, else a longer copy filled up with ``fill``."""
    if len(array) >= rows:
        return array
    longer = np.full((max(rows, 2 * len(array)), *array.shape[1:]), fill, dtype=array.dtype)
    longer[: len(array)] = array
    return longer


def with_columns(array: npt.NDArray[Kind], columns: int, fill: Any = 0) -> npt.NDArray[Kind]:
    """The same for the columns of a matrix."""
    if array.shape[1] >= columns:
        return array
    wider = np.full((len(array), max(columns, 2 * array.shape[1])), fill, dtype=array.dtype)
    wider[:, : array.shape[1]] = array
    return wider
