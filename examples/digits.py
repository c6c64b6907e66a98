"""What the digits examples share: the images, the network, and a crash-safe checkpoint directory.

The images are scikit-learn's digits: 1797 handwritten digits, 8 x 8 pixels, values 0..16. They ship
with the package, so nothing is downloaded.
"""

import argparse
import contextlib
import fcntl
import gzip
import importlib.util
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

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


class StaleGenerationError(Exception):
    """A newer generation of this task has taken the directory over: ours may write no more."""


_NAME = re.compile(r"g\d{10}-e\d{5}-s\d{9}\.pt")


class CheckpointDirectory:
    """One task's checkpoints: a reader never sees half a file, nor an older attempt's state.

    ``latest`` holds the name of the newest checkpoint, ``generation`` the highest generation that
    ever claimed the directory. Stowplan gives each attempt of a task a higher
    ``STOWPLAN_GENERATION``; an attempt that lives on behind a network failure finds the higher
    number and is refused. Check and publication happen under one file lock: between the two, no
    other generation can come in.
    """

    KEPT = 2

    def __init__(self, path: Path, *, generation: int) -> None:
        self.path = path
        self.generation = generation

    def claim(self) -> None:
        """Shut out every older generation.

        Raises:
            StaleGenerationError: a higher generation was here first.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with self._lock():
            self._refuse_if_stale()
            _publish(self.path / "generation", f"{self.generation}\n".encode())
            for leftover in self.path.glob(".*.tmp"):  # of a writer that was killed half way
                leftover.unlink()

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write ``checkpoint`` and make it the latest.

        Raises:
            StaleGenerationError: a higher generation has claimed the directory; nothing was
            published.
        """
        epoch = len(checkpoint.epoch_losses)
        name = f"g{self.generation:010d}-e{epoch:05d}-s{checkpoint.samples:09d}.pt"
        path = self.path / name
        with self._lock():
            self._refuse_if_stale()
            with _replacing(path) as file:
                torch.save(asdict(checkpoint), file)
            _publish(self.path / "latest", f"{name}\n".encode())
            self._forget_old(newest=name)
        return path

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.path / "lock").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _refuse_if_stale(self) -> None:
        try:
            claimed = int((self.path / "generation").read_text())
        except FileNotFoundError:
            return
        if claimed > self.generation:
            raise StaleGenerationError(
                f"{self.path} belongs to generation {claimed}, this process is of generation "
                f"{self.generation}: it is stale and must not write"
            )

    def _forget_old(self, *, newest: str) -> None:
        """Keep the newest and the one before it: a reader may have the older name in its hand."""
        others = [
            path
            for path in self.path.iterdir()
            if _NAME.fullmatch(path.name) and path.name != newest
        ]
        others.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in others[self.KEPT - 1 :]:
            path.unlink()


def latest_checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint that ``latest`` names, on the CPU, or None when there is none yet.

    ``weights_only`` keeps torch from running code that a checkpoint file brings along.
    """
    name = _latest_name(path)
    while name is not None:
        try:
            content = torch.load(path / name, map_location="cpu", weights_only=True)
            return Checkpoint(**content)
        except FileNotFoundError:
            # A writer may have published twice, and removed this one, since we read its name.
            newer = _latest_name(path)
            if newer == name:
                raise
            name = newer
    return None


def _latest_name(path: Path) -> str | None:
    try:
        name = (path / "latest").read_text().strip()
    except FileNotFoundError:
        return None
    if not _NAME.fullmatch(name):
        raise ValueError(f"{path / 'latest'} names {name!r}, which is no checkpoint's name")
    return name


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


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Any]:
    """A file that becomes ``path`` when the block ends well: whole and on disk, or not there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    # The rename itself is only on the disk once the directory is.
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _publish(path: Path, content: bytes) -> None:
    with _replacing(path) as file:
        file.write(content)


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
