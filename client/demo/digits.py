"""Held-out digits for the demo's questions to its inference service, without importing torch."""

import csv
import gzip
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from client.errors import StowplanError

HELD_OUT_EVERY = 5
"""The trainer (examples/digits.py) leaves out every fifth image, beginning with the first."""
_PIXELS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Images as rows of 64 pixels, 0..16, and the digit that each shows."""

    images: list[list[float]]
    labels: list[int]


def load_held_out() -> HeldOut:
    """scikit-learn's digits that no training has seen.

    Raises:
        StowplanError: scikit-learn, or its file, isn't installed here.
    """
    package = importlib.util.find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise StowplanError("scikit-learn is missing: pip install 'stowplan[torch]'")
    path = Path(package.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    if not path.exists():
        raise StowplanError(f"this scikit-learn has no {path}: the demo needs its digits")
    with gzip.open(path, "rt", newline="") as file:
        rows = [[float(cell) for cell in row] for row in csv.reader(file)][::HELD_OUT_EVERY]
    return HeldOut(
        images=[row[:_PIXELS] for row in rows], labels=[int(row[_PIXELS]) for row in rows]
    )
