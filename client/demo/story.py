"""What the demo does with its cluster: four tasks, a question to each, and what came of it."""

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

import client
from client.demo.digits import HeldOut
from client.demo.interruption import Interruption
from client.demo.processes import DEVICES_PER_NODE, NODES
from client.errors import StowplanError
from client.sdk import Client, Json
from client.views import why_lines

GANG, TEXT, SERVICE, MISFIT = "digits-gang", "text-model", "digits-service", "misfit"

_MISFIT_GPUS = 2 * DEVICES_PER_NODE
_GANG_EPOCHS = 6
_TEXT_STEPS = 300
_CHECKPOINT_WAIT_SECONDS = 60
_QUESTION_IMAGES = 90
"""Images in one question: the held-out ones make a handful of questions."""
_ACCURACY_RATIO_MIN = 0.9
"""With less the service doesn't serve what was trained: that reaches 0.97."""
_LOG_TAIL_BYTES = 2048
_LOSSES = re.compile(r"loss (?:first|before)=(\d+\.\d+) (?:last|after)=(\d+\.\d+)")
_SERVING = "serving on"
_LOOK_AGAIN_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one task of the demo ended: ``problem`` is empty when it did what it had to."""

    task: Json
    result: str
    problem: str = ""
    log_tail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Mean training or held-out loss in nats, at the start and at the end."""

    before: float
    after: float

    def __str__(self) -> str:
        return f"loss {self.before:.3f} -> {self.after:.3f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """How the service did on held-out digits."""

    asked: int
    right: int

    @property
    def accuracy_ratio(self) -> float:
        return self.right / self.asked

    def __str__(self) -> str:
        return f"{self.right} of {self.asked} held-out digits right ({self.accuracy_ratio:.1%})"


class Story:
    """The demo's tasks on a cluster of two small nodes.

    Args:
        stowplan: A client of the demo's service, for this story alone.
        say: Where its words go, line by line.
        interruption: Ends the waits that aren't the service's own.
    """

    def __init__(
        self,
        stowplan: Client,
        *,
        checkpoint_dir: Path,
        work_dir: Path,
        held_out: HeldOut,
        say: Callable[[str], None],
        interruption: Interruption,
    ) -> None:
        self._stowplan = stowplan
        self._held_out = held_out
        self._say = say
        self._interruption = interruption
        self._specs = specs(examples_dir(), checkpoint_dir=checkpoint_dir, work_dir=work_dir)
        self._ids: dict[str, str] = {}
        self._answers: Answers | None = None

    def play(self) -> None:
        """Submit everything, wait for what ends by itself, and question the service.

        Raises:
            StowplanError: the service is gone, or refused.
        """
        self._await_nodes()
        for name in (GANG, TEXT, MISFIT):
            self._submit(name)
        self._tell_why_misfit_waits()
        gang = self._stowplan.wait(self._ids[GANG])
        # Only now: the service takes the newest checkpoint there is, and that shall be the last.
        self._submit(SERVICE)
        if gang["state"] == "succeeded":
            self._answers = self._question_service()
        self._stowplan.wait(self._ids[TEXT])

    def end(self) -> None:
        """Cancel the two tasks that don't end by themselves, and wait until they have."""
        for name in (SERVICE, MISFIT):
            self._stowplan.cancel(self._ids[name])
        for name in (SERVICE, MISFIT):
            self._stowplan.wait(self._ids[name])

    def outcomes(self) -> list[Outcome]:
        """Each task as it is now, and whether it did what it had to."""
        judges = {
            GANG: self._judge_training,
            TEXT: self._judge_training,
            SERVICE: self._judge_service,
            MISFIT: self._judge_misfit,
        }
        return [judge(self._stowplan.task(self._ids[name])) for name, judge in judges.items()]

    def endpoint(self) -> str | None:
        """``host:port`` of the inference service while it runs."""
        allocations = self._stowplan.task(self._ids[SERVICE])["allocations"]
        return allocations[0]["endpoint"] if allocations else None

    def _submit(self, name: str) -> None:
        self._ids[name] = self._stowplan.submit(self._specs[name])["id"]

    def _await_nodes(self) -> None:
        for _ in self._stowplan.events(follow=True):
            ready = {n["name"] for n in self._stowplan.nodes() if n["state"] == "ready"}
            if ready >= set(NODES):
                return

    def _tell_why_misfit_waits(self) -> None:
        answer = self._stowplan.why(self._ids[MISFIT])
        while not answer["reasons"] and not self._interruption.wait(_LOOK_AGAIN_SECONDS):
            answer = self._stowplan.why(self._ids[MISFIT])
        self._say(f"$ stowplan why {MISFIT}")
        for line in why_lines(answer):
            self._say(f"  {line}")

    def _question_service(self) -> Answers | None:
        """Ask the inference service for every held-out digit; None when it never served."""
        if not self._is_serving():
            return None
        url = f"http://{self.endpoint()}/predict"
        right = 0
        images, labels = self._held_out.images, self._held_out.labels
        try:
            with httpx2.Client(trust_env=False, timeout=60.0) as http:
                for start in range(0, len(images), _QUESTION_IMAGES):
                    part = slice(start, start + _QUESTION_IMAGES)
                    answer = http.post(url, json={"images": images[part]}).raise_for_status()
                    right += _matches(answer.json()["labels"], labels[part])
        except httpx2.HTTPError as error:
            raise StowplanError(f"the inference service at {url} didn't answer: {error}") from error
        answers = Answers(asked=len(labels), right=right)
        self._say(f"asked {url}: {answers}")
        return answers

    def _is_serving(self) -> bool:
        """Read along until the service says that it serves; False when it ends without."""
        text = ""
        for piece in self._stowplan.logs(self._ids[SERVICE]):
            text += piece
            if _SERVING in text:
                return True
        return False

    def _judge_training(self, task: Json) -> Outcome:
        losses = read_losses(self._stowplan.logs(task["id"], follow=False))
        problem = ""
        if task["state"] != "succeeded":
            problem = f"it is {task['state']}: {task['reason'] or 'no reason given'}"
        elif losses is None:
            problem = "it printed no losses"
        elif not losses.after < losses.before:
            problem = f"its loss did not go down: {losses}"
        return self._outcome(task, str(losses or "-"), problem)

    def _judge_service(self, task: Json) -> Outcome:
        problem = ""
        if self._answers is None:
            problem = f"it never served: it is {task['state']} {task['reason']}".rstrip()
        elif self._answers.accuracy_ratio < _ACCURACY_RATIO_MIN:
            problem = f"its answers are wrong: {self._answers}"
        elif task["state"] == "cancelled" and task["allocations"][0]["exit_code"] != 0:
            problem = f"it didn't end well when it was told to: {task['allocations'][0]['reason']}"
        return self._outcome(task, str(self._answers or "-"), problem)

    def _judge_misfit(self, task: Json) -> Outcome:
        waited = task["generation"] == 0
        problem = "" if waited else "it ran, though nothing here can hold it"
        result = f"wants {_MISFIT_GPUS} GPUs of one node, each has {DEVICES_PER_NODE}"
        return self._outcome(task, result, problem)

    def _outcome(self, task: Json, result: str, problem: str) -> Outcome:
        tail = self._stowplan.log_tail(task["id"], bytes_max=_LOG_TAIL_BYTES) if problem else ""
        return Outcome(task=task, result=result, problem=problem, log_tail=tail)


def specs(examples: Path, *, checkpoint_dir: Path, work_dir: Path) -> dict[str, Json]:
    """The four tasks by name, as a person would submit them."""

    def spec(name: str, *argv: str, gpus: int, **more: Any) -> Json:
        return {
            "name": name,
            # The interpreter that runs the demo: it is the one that has torch.
            "argv": [sys.executable, str(examples / argv[0]), *argv[1:]],
            "working_dir": str(work_dir),
            "request": {"gpus": gpus, "memory_mib": 256},
            "grace_seconds": 5.0,
            **more,
        }

    checkpoints = ("--checkpoint-dir", str(checkpoint_dir))
    tasks = (
        spec(
            GANG,
            *("train_digits.py", "--epochs", str(_GANG_EPOCHS), *checkpoints),
            gpus=1,
            replicas=len(NODES),
            spread_over="node",
        ),
        spec(TEXT, "train_text.py", "--steps", str(_TEXT_STEPS), gpus=1),
        spec(
            SERVICE,
            *("serve_digits.py", *checkpoints, "--wait", str(_CHECKPOINT_WAIT_SECONDS)),
            gpus=1,
            kind="service",
        ),
        spec(MISFIT, "train_text.py", gpus=_MISFIT_GPUS),
    )
    return {task["name"]: task for task in tasks}


def examples_dir() -> Path:
    """Where the example programs are: beside the source tree, or where the package installed them.

    Raises:
        StowplanError: they are in neither place.
    """
    source_tree = Path(client.__file__).resolve().parent.parent / "examples"
    installed = Path(sys.prefix) / "share" / "stowplan" / "examples"
    for folder in (source_tree, installed):
        if (folder / "train_digits.py").exists():
            return folder
    raise StowplanError(f"the example programs are neither in {source_tree} nor in {installed}")


def read_losses(pieces: Iterable[str]) -> Losses | None:
    """The losses that a training prints at its end; None when it printed none."""
    found = _LOSSES.findall("".join(pieces))
    if not found:
        return None
    before, after = found[-1]
    return Losses(before=float(before), after=float(after))


def _matches(answers: list[int], labels: list[int]) -> int:
    return sum(answer == label for answer, label in zip(answers, labels, strict=True))
