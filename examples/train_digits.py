"""Train a digit classifier, alone or as a gang of processes that share the work (data parallel).

The same file runs alone, as a gang that an agent starts with the env:// variables (MASTER_ADDR,
MASTER_PORT, WORLD_SIZE, RANK), and under torchrun. ``--batch-size`` is the batch of the whole gang,
so the loss curve doesn't depend on the number of processes, and a run may resume with another
number.

When one of its processes is asked for a checkpoint (by Stowplan before it stops a task, or by
SIGTERM), the gang agrees on the step at which it stops, saves there and exits with 0. The next run
continues at that step.
"""

import argparse
import json
import math
import os
import signal
import sys
import time
import zlib
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import torch
import torch.distributed as dist
from digits import (
    Checkpoint,
    Classifier,
    Digits,
    latest_checkpoint,
    load_digits,
    not_negative,
    positive,
    use_one_thread,
)
from torch import Tensor, nn
from torch.distributed import HashStore  # pyright: ignore[reportPrivateImportUsage] - documented
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler, TensorDataset

try:
    from client.training import StaleGenerationError, Training
except ImportError:  # without Stowplan: a copy of its client/training.py beside this file
    from training import StaleGenerationError, Training  # pyright: ignore[reportMissingImports]

SEED = 7
LEARNING_RATE = 0.05
MOMENTUM = 0.9
GANG_TIMEOUT = timedelta(minutes=5)
"""How long a process waits for the others, at the start and in each exchange."""


def main() -> int:
    arguments = parse_arguments()
    use_one_thread()
    gang = Gang.join()
    try:
        if arguments.batch_size % gang.size:
            raise SystemExit(
                f"--batch-size {arguments.batch_size} is no multiple of the {gang.size} processes"
            )
        return run(arguments, gang)
    except StaleGenerationError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    finally:
        dist.destroy_process_group()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a digit classifier, alone or as a gang.")
    parser.add_argument("--epochs", type=positive, default=8)
    parser.add_argument(
        "--batch-size", type=positive, default=64, help="images a step, over all processes"
    )
    parser.add_argument(
        "--checkpoint-dir",
        type=Path,
        default=Path(os.environ.get("STOWPLAN_ARTIFACTS") or "checkpoints"),
        help="default: $STOWPLAN_ARTIFACTS, else ./checkpoints",
    )
    parser.add_argument("--metrics", type=Path, help="append one JSON object an epoch to this file")
    parser.add_argument(
        "--step-delay-ms",
        type=not_negative,
        default=0.0,
        help="pause after each step, to make a run last",
    )
    return parser.parse_args()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gang:
    """This process's place among those that train together."""

    rank: int
    size: int
    device: torch.device

    @classmethod
    def join(cls) -> Self:
        """Wait for the others; nccl where there is a GPU, gloo where there is none."""
        rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        cuda = torch.cuda.is_available()
        device = (
            torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            if cuda
            else torch.device("cpu")
        )
        if cuda:
            torch.cuda.set_device(device)
        dist.init_process_group(
            "nccl" if cuda else "gloo",
            rank=rank,
            world_size=size,
            timeout=GANG_TIMEOUT,
            # A gang of one needs no port: its store is this process's memory.
            store=HashStore() if size == 1 else None,
            device_id=device if cuda else None,
        )
        return cls(rank=rank, size=size, device=device)

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def say(self, text: str) -> None:
        """Print on rank 0 only."""
        if self.leads:
            print(text, flush=True)

    def total(self, *values: float) -> list[float]:
        """Each value summed over the gang; every process gets the same sums."""
        sums = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        return sums.tolist()

    def from_leader(self, value: Any) -> Any:
        """Rank 0's value on every rank."""
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]


def run(arguments: argparse.Namespace, gang: Gang) -> int:
    attempt, checkpoint, refusal = take_over(arguments.checkpoint_dir)
    # From one state: only rank 0's node may have the directory.
    checkpoint, refusal = gang.from_leader((checkpoint, refusal))
    if attempt is None or refusal is not None:
        print(refusal, file=sys.stderr, flush=True)
        return 1
    trainer = Trainer.start(
        gang, load_digits(), batch_size=arguments.batch_size, checkpoint=checkpoint
    )
    gang.say(
        f"{gang.size} process(es) on {gang.device.type}, generation {attempt.generation}: "
        + (f"resuming after {trainer.position}" if checkpoint else "starting afresh")
    )
    steps = arguments.epochs * trainer.steps_an_epoch
    while len(trainer.epoch_losses) < arguments.epochs:
        started = time.perf_counter()
        finished = trainer.run_epoch(
            attempt, of=steps, delay_seconds=arguments.step_delay_ms / 1000
        )
        if not finished:
            attempt.acknowledge()  # on this process too, where another was asked first
        save(gang, attempt, trainer)
        if not finished:
            gang.say(f"stopped when asked, after {trainer.position}: checkpoint saved")
            return 0
        report_epoch(gang, trainer, arguments, seconds=time.perf_counter() - started)
    summarise(gang, trainer, arguments.metrics)
    return 0


def take_over(directory: Path) -> tuple[Training | None, Checkpoint | None, str | None]:
    """This process's part in the attempt and, on rank 0, where the last one got to; or why this one
    may not go on."""
    try:
        attempt = Training(directory, signals=[signal.SIGTERM])
        return attempt, latest_checkpoint(directory) if attempt.publishes else None, None
    except StaleGenerationError as error:
        return None, None, str(error)


class Trainer:
    """The model, its optimiser and how far they have come: all that a checkpoint holds."""

    def __init__(self, gang: Gang, digits: Digits, *, batch_size: int) -> None:
        self._gang = gang
        self._digits = digits
        self._batch_size = batch_size
        self._images = digits.train_images.to(gang.device)
        self._labels = digits.train_labels.to(gang.device)
        self._sampler = DistributedSampler(
            TensorDataset(digits.train_images), num_replicas=gang.size, rank=gang.rank, seed=SEED
        )
        torch.manual_seed(SEED)
        self.model = Classifier().to(gang.device)
        self._parallel = DistributedDataParallel(self.model)
        self._optimizer = torch.optim.SGD(
            self._parallel.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM
        )
        self.epoch_losses: tuple[float, ...] = ()
        self._samples = 0
        self._loss_sum = 0.0

    @classmethod
    def start(
        cls, gang: Gang, digits: Digits, *, batch_size: int, checkpoint: Checkpoint | None
    ) -> Self:
        """A training at its beginning, or where ``checkpoint`` left it."""
        trainer = cls(gang, digits, batch_size=batch_size)
        if checkpoint is not None:
            trainer.model.load_state_dict(checkpoint.model)
            trainer._optimizer.load_state_dict(checkpoint.optimizer)
            trainer.epoch_losses = checkpoint.epoch_losses
            # With another batch size, the part of a batch that is left over is trained on again.
            trainer._samples = checkpoint.samples // batch_size * batch_size
            trainer._loss_sum = checkpoint.loss_sum * trainer._samples / (checkpoint.samples or 1)
        return trainer

    @property
    def position(self) -> str:
        return f"epoch {len(self.epoch_losses)}, {self._samples} images into the next"

    @property
    def steps_an_epoch(self) -> int:
        return math.ceil(self._sampler.total_size / self._batch_size)

    @property
    def steps(self) -> int:
        """How many are done, in all."""
        return len(self.epoch_losses) * self.steps_an_epoch + self._samples // self._batch_size

    def run_epoch(self, attempt: Training, *, of: int, delay_seconds: float = 0.0) -> bool:
        """Train the rest of the epoch: True at its end, False when any process was asked to save.

        The sampler gives rank r the r-th, (r + size)-th, ... of one shuffled order, so the gang's
        n-th batch holds the same images whatever its size.
        """
        self._sampler.set_epoch(len(self.epoch_losses))
        order = torch.tensor(list(self._sampler), device=self._gang.device)
        batches = order.split(self._batch_size // self._gang.size)
        for batch in batches[self._samples // self._batch_size :]:
            loss_sum = self._step(self._images[batch], self._labels[batch])
            time.sleep(delay_seconds)
            # Agreed upon in each step: one that left the loop alone would leave the rest waiting.
            gang_loss_sum, stops = self._gang.total(loss_sum, attempt.asked())
            self._loss_sum += gang_loss_sum
            self._samples += self._batch_size
            attempt.step(self.steps, of=of)
            if stops:
                return False
        # total_size counts the images that are repeated to give each rank the same number.
        self.epoch_losses += (self._loss_sum / self._sampler.total_size,)
        self._samples, self._loss_sum = 0, 0.0
        return True

    def _step(self, images: Tensor, labels: Tensor) -> float:
        """One step of gradient descent; the summed loss of this rank's images before it."""
        loss = nn.functional.cross_entropy(self._parallel(images), labels)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return loss.item() * len(labels)

    def checkpoint(self, *, generation: int) -> Checkpoint:
        return Checkpoint(
            generation=generation,
            epoch_losses=self.epoch_losses,
            samples=self._samples,
            loss_sum=self._loss_sum,
            model=self.model.state_dict(),
            optimizer=self._optimizer.state_dict(),
        )

    @torch.inference_mode()
    def accuracy_ratio(self) -> float:
        """The share of the held-out images that the model names rightly, 0..1."""
        logits = self.model(self._digits.held_out_images.to(self._gang.device))
        right = logits.argmax(dim=1).cpu() == self._digits.held_out_labels
        return right.double().mean().item()

    def fingerprint(self) -> str:
        """A checksum of the weights: equal on every rank, or the gang has come apart."""
        checksum = 0
        for weights in self.model.parameters():
            checksum = zlib.crc32(weights.detach().cpu().numpy().tobytes(), checksum)
        return f"{checksum:08x}"


def save(gang: Gang, attempt: Training, trainer: Trainer) -> None:
    """Rank 0 saves; nobody goes on, or exits, before the checkpoint is safe.

    Raises:
        StaleGenerationError: on rank 0; the others see the broken connection.
    """
    if attempt.publishes:
        state = asdict(trainer.checkpoint(generation=attempt.generation))
        with attempt.saving(trainer.steps) as path:
            torch.save(state, path)
    gang.total(0.0)
    attempt.done()


def report_epoch(
    gang: Gang, trainer: Trainer, arguments: argparse.Namespace, *, seconds: float
) -> None:
    epoch, loss = len(trainer.epoch_losses), trainer.epoch_losses[-1]
    gang.say(f"epoch {epoch}/{arguments.epochs} loss={loss:.4f} seconds={seconds:.2f}")
    record(gang, arguments.metrics, {"epoch": epoch, "loss": loss, "seconds": seconds})


def summarise(gang: Gang, trainer: Trainer, metrics: Path | None) -> None:
    print(f"rank {gang.rank} of {gang.size}: weights={trainer.fingerprint()}", flush=True)
    first, last = trainer.epoch_losses[0], trainer.epoch_losses[-1]
    gang.say(f"loss first={first:.4f} last={last:.4f}")
    accuracy = trainer.accuracy_ratio() if gang.leads else 0.0
    gang.say(f"accuracy={accuracy:.4f}")
    record(gang, metrics, {"loss_first": first, "loss_last": last, "accuracy_ratio": accuracy})


def record(gang: Gang, metrics: Path | None, values: dict[str, float]) -> None:
    if gang.leads and metrics is not None:
        with metrics.open("a") as file:
            file.write(json.dumps(values) + "\n")


if __name__ == "__main__":
    exit_code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: now and then a thread of torch's aborts the process ("terminate called
    # without an active exception") while the interpreter unwinds, after all the work is done.
    os._exit(exit_code)
