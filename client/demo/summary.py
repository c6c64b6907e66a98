"""The demo's last words: a table of what became of each task, and what a person can try next."""

import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from client.demo.processes import DEVICES_PER_NODE, NODES
from client.demo.story import MISFIT, SERVICE, Outcome
from client.output import Table
from client.quantities import duration_text
from client.views import devices_of, nodes_of


def summary_table(outcomes: Sequence[Outcome]) -> Table:
    """State, place, time and result of each task, and whether that is what it had to come to."""
    return Table(
        columns=("TASK", "OUTCOME", "STATE", "NODES", "DEVICES", "RUNTIME", "RESULT"),
        rows=tuple(
            (
                outcome.task["name"],
                outcome_word(outcome),
                outcome.task["state"],
                nodes_of(outcome.task),
                devices_of(outcome.task),
                duration_text(outcome.task["running_seconds"]),
                outcome.result,
            )
            for outcome in outcomes
        ),
    )


def outcome_word(outcome: Outcome) -> str:
    """``succeeded`` for a task that did its work, also for the service, which ends by a cancel."""
    if outcome.problem:
        return "failed"
    if outcome.task["name"] == MISFIT:
        return "waited"
    if outcome.task["name"] == SERVICE and outcome.task["state"] != "cancelled":
        return "serves"
    return "succeeded"


def summary_lines(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """What the table can't say: the devices' nature, and each problem with the end of its log."""
    yield (
        f"The {DEVICES_PER_NODE * len(NODES)} GPUs are simulated: accounting units, no hardware. "
        "The programs are real torch processes on this machine's CPU."
    )
    for outcome in outcomes:
        if outcome.problem:
            yield f"{outcome.task['name']}: {outcome.problem}"
            yield from (f"  | {line}" for line in outcome.log_tail.splitlines())


def next_steps(*, server: str, home: Path, endpoint: str | None) -> Iterator[str]:
    """Where things are, and commands to try, for a person whose terminal keeps the demo running."""
    yield f"The service:    {server}/api/v1/ (OpenAPI: {server}/openapi.json)"
    yield f"The user token: {home / 'user.token'}"
    if endpoint is not None:
        yield f"Inference:      http://{endpoint}/healthz, POST http://{endpoint}/predict"
    yield "Try, in another terminal:"
    yield f"  export STOWPLAN_HOME={home}"
    stowplan = stowplan_command()
    for command in ("ps", f"why {MISFIT}", f"logs {SERVICE}", "nodes", "top", "plans"):
        yield f"  {stowplan} {command}"
    yield "Ctrl-C ends everything and removes it."


def stowplan_command() -> str:
    """``stowplan``, or the way to it where this installation isn't on the PATH (`make demo`)."""
    script = Path(sys.executable).with_name("stowplan")
    found = shutil.which("stowplan")
    if found is not None and Path(found).resolve() == script.resolve():
        return "stowplan"
    return shlex.quote(str(script)) if script.exists() else "stowplan"
