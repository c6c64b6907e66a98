"""What the digits examples share: the images, the network, and what a checkpoint holds.

The images are scikit-learn's digits: 1797 handwritten digits, 8 x 8 pixels, values 0..16. They ship
with the package, so nothing is downloaded.
"""

import argparse
import gzip
import importlib.util
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

try:
    from client.training import latest_in
except ImportError:  # without Stowplan: a copy of its client/training.py beside this file
    from training import latest_in  # pyright: ignore[reportMissingImports]

PIXELS = 64
PIXEL_MAX = 16
CLASSES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Digits:
    """Images as float32 ``(n, 64)``, values 0..16; labels as int64 ``(n,)``, values 0..9."""

    train_images: Tensor
    train_labels: Tensor
    held_out_images: Tensor
    held_out_labels: Tensor


def load_digits() -> Digits:
    """The digits, every fifth image held out.

    The rows are ordered by writer, so a stride takes some of each writer's digits into both parts.
    """
    table = torch.from_numpy(_read_table())
    images, labels = table[:, :PIXELS].contiguous(), table[:, PIXELS].long()
    held_out = torch.arange(len(table)) % 5 == 0
    return Digits(
        train_images=images[~held_out],
        train_labels=labels[~held_out],
        held_out_images=images[held_out],
        held_out_labels=labels[held_out],
    )


def _read_table() -> np.ndarray:
    """scikit-learn's table as float32 ``(1797, 65)``: 64 pixels and the label.

    ``import sklearn`` takes two seconds on a small machine, nearly all of it for code that reads no
    file; the table itself takes a tenth. So the file is read where the package has it, without
    importing the package.
    """
    package = importlib.util.find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("scikit-learn is not installed: pip install 'stowplan[torch]'")
    path = Path(package.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    if path.exists():
        with gzip.open(path, "rt") as file:
            return np.loadtxt(file, delimiter=",", dtype=np.float32)
    from sklearn import datasets  # noqa: PLC0415 - the slow way, for a version that moves the file

    images, labels = datasets.load_digits(return_X_y=True)
    return np.column_stack([images, labels]).astype(np.float32)


class Classifier(nn.Module):
    """Two convolutions and a linear layer: ``(n, 64)`` pixels 0..16 to ``(n, 10)`` logits."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, 16, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, CLASSES),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images / PIXEL_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Where a training run stands, whatever the number of processes that brought it there."""

    generation: int
    epoch_losses: tuple[float, ...]
    """Mean loss of each completed epoch, in nats: as many as there are completed epochs."""
    samples: int = 0
    """Images of the next epoch that were already trained on, over all processes."""
    loss_sum: float = 0.0
    """The summed loss of those images."""
    model: dict[str, Tensor]
    optimizer: dict[str, Any]


def latest_checkpoint(path: Path) -> Checkpoint | None:
    """The newest whole checkpoint of a directory, on the CPU, or None when there is none yet.

    ``weights_only`` keeps torch from running code that a checkpoint file brings along.
    """
    while (found := latest_in(path)) is not None:
        try:
            content = torch.load(found.path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            continue  # since we looked, newer ones have taken its place
        return Checkpoint(**content)
    return None


def wait_for_checkpoint(
    path: Path, *, seconds: float, stopped: Callable[[], bool]
) -> Checkpoint | None:
    """The first checkpoint to appear; None after ``seconds``, or once ``stopped()`` is true."""
    deadline = time.monotonic() + seconds
    while (checkpoint := latest_checkpoint(path)) is None:
        if stopped() or time.monotonic() >= deadline:
            return None
        time.sleep(0.1)
    return checkpoint


def use_one_thread() -> None:
    """One torch thread, unless OMP_NUM_THREADS says otherwise.

    torch takes every core it sees; several tasks on one node would then slow each other down.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


def not_negative(text: str) -> float:
    """A finite number of at least 0, for argparse."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a finite number of at least 0")
    return value
