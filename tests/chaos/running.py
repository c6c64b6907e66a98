"""Carries out a schedule on a stand, and gathers what it leaves."""

import json
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.errors import StowplanError
from client.sdk import Client
from tests.chaos.schedule import Blow, ChaosTask, Moment, Schedule, Target
from tests.chaos.stand import NODES, ORPHAN_SECONDS, Found, Stand, kill
from tests.chaos.verdict import (
    FINAL_TASK_STATES,
    TORCHRUN_RANKS,
    Attempt,
    Evidence,
    Finding,
    findings,
)

END_SECONDS = 90.0
_MOMENT_SECONDS = 1.5
"""How long a blow waits for its moment; one that never comes is let go."""
_TARGET_SECONDS = 0.3
_LOOK_AGAIN_SECONDS = 0.002
_LOOK_AT_TASKS_SECONDS = 0.05
_PROGRAM = Path(__file__).with_name("attempt.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a schedule."""

    seed: int
    findings: tuple[Finding, ...]
    attempts: int
    blows: int
    """Those that hit somebody."""
    seconds: float
    orphan_seconds: float
    """From the end of the last task until nothing of them was left."""


def run(schedule: Schedule, stand: Stand) -> Outcome:
    """Submit, strike, wait for the end, look."""
    return _Run(schedule, stand).outcome()


class _Run:
    def __init__(self, schedule: Schedule, stand: Stand) -> None:
        self._schedule = schedule
        self._stand = stand
        self._journal = stand.root / "journals" / str(schedule.seed)
        self._journal.mkdir(parents=True)
        self._journal.chmod(0o777)  # whoever the tasks run as
        self._tasks: dict[str, ChaosTask] = {}
        self._states: dict[str, str] = {}
        self._seen: set[str] = set()
        """Files whose coming was a blow's moment."""
        self._killed: dict[Attempt, set[Target]] = {}
        self._agents_killed = 0
        self._cancelled: set[str] = set()
        self._hits = 0
        self._due: list[tuple[float, Target, str]] = []
        """Who is to come back, and when."""

    def outcome(self) -> Outcome:
        self._stand.wait_for_server()  # the schedule before may have killed it
        begin = time.monotonic()
        with self._stand.client() as client:
            for task in self._schedule.tasks:
                submitted = client.submit(self._spec(task))
                self._tasks[submitted["id"]] = task
                self._states[submitted["id"]] = submitted["state"]
            for blow in self._schedule.blows:
                self._strike(blow, client)
            give_up = time.monotonic() + END_SECONDS
            while not self._is_over(client) and time.monotonic() < give_up:
                self._bring_back()
                time.sleep(_LOOK_AT_TASKS_SECONDS)
        end = time.monotonic()
        self._bring_back(all_of_them=True)
        left = self._wait_for_nothing()
        orphan_seconds = time.monotonic() - end
        rows = self._stand.allocations(list(self._tasks))
        evidence = Evidence(
            tasks=self._tasks,
            states=self._states,
            journal=self._lines(),
            rows=rows,
            killed=self._killed,
            agents_killed=self._agents_killed,
            cancelled=self._cancelled,
            silenced=self._schedule.silences_a_node,
            left=left,
            ended=self._stand.ended(),
        )
        if left:
            self._stand.kill_left()
        return Outcome(
            seed=self._schedule.seed,
            findings=tuple(findings(evidence)),
            attempts=len(rows),
            blows=self._hits,
            seconds=time.monotonic() - begin,
            orphan_seconds=orphan_seconds,
        )

    def _spec(self, task: ChaosTask) -> dict[str, Any]:
        program = [
            *(sys.executable, "-I", "-S", str(_PROGRAM)),
            *(str(self._journal), json.dumps(task.form())),
        ]
        if task.torchrun:
            ranks = ["--nproc-per-node", str(TORCHRUN_RANKS)]
            program = ["torchrun", *ranks, "--max-restarts", "0", "--no-python", *program]
        return {
            "name": f"seed-{self._schedule.seed}",
            "argv": program,
            "replicas": task.replicas,
            "request": {"cpu_milli": 10, "gpus": 1},
            "max_restarts": task.max_restarts,
            "restart_delay_seconds": 0,
            "grace_seconds": task.grace_seconds,
        }

    # Blows.

    def _strike(self, blow: Blow, client: Client) -> None:
        name = NODES[int(blow.choice * len(NODES))]
        if blow.moment is Moment.LATER:
            self._pass(blow.after_seconds)
        else:
            path = self._await_new_file(blow.moment.value, client)
            if path is None:
                return
            name = next(node for node in NODES if path.startswith(f"{self._stand.root / node}/"))
        match blow.target:
            case Target.SERVER:
                self._stand.kill_server()
                self._hit(blow, "")
            case Target.AGENT:
                if all(due[2] != name for due in self._due):
                    self._stand.kill_agent(name)
                    self._agents_killed += 1
                    self._hit(blow, name)
            case Target.CANCEL:
                task = list(self._tasks)[int(blow.choice * len(self._tasks))]
                self._cancel(task, client)
            case Target.SHIM | Target.MAIN | Target.WORKER:
                self._kill_one(blow)

    def _hit(self, blow: Blow, name: str) -> None:
        self._hits += 1
        self._due.append((time.monotonic() + blow.away_seconds, blow.target, name))
        self._bring_back()

    def _cancel(self, task: str, client: Client) -> None:
        self._cancelled.add(task)
        if any(target is Target.SERVER for _, target, _ in self._due):
            self._bring_back(all_of_them=True)  # the client waits for it, and nobody else is there
        client.cancel(task)
        self._hits += 1

    def _kill_one(self, blow: Blow) -> None:
        give_up = time.monotonic() + _TARGET_SECONDS
        while not (found := self._targets(blow.target)):
            if time.monotonic() > give_up:
                return
            time.sleep(_LOOK_AGAIN_SECONDS)
        attempt, pid, what = found[int(blow.choice * len(found))]
        # Noted before it's done: what is judged by it may be over at once.
        self._killed.setdefault(attempt, set()).update(what)
        self._hits += kill(pid)

    def _targets(self, target: Target) -> list[tuple[Attempt, int, set[Target]]]:
        """Which processes may be hit, and what each of them is."""
        targets = []
        for found in sorted(self._stand.processes(), key=lambda each: each.pid):
            attempt = Attempt(found.allocation, found.generation)
            what = self._role(attempt, found)
            if target in what:
                targets.append((attempt, found.pid, what))
        return targets

    def _role(self, attempt: Attempt, found: Found) -> set[Target]:
        """What a process is, by the word of its shim, looked up after the process was seen."""
        for node in NODES:
            with suppress(FileNotFoundError):
                form = self._stand.attempt_form(node, *attempt, Moment.RUNNING)
                if found.pid == form["shim_pid"]:
                    return {Target.SHIM}
                return {Target.MAIN} if found.pid == form["pid"] else {Target.WORKER}
        # A shim that hasn't spoken yet, or what waits at its gate; or the attempt is forgotten.
        return {Target.SHIM, Target.MAIN} if found.is_shim else set()

    def _await_new_file(self, name: str, client: Client) -> str | None:
        """One of this name that no blow has answered yet, or the first to come in time."""
        give_up = time.monotonic() + _MOMENT_SECONDS
        look_at_tasks = time.monotonic()
        while (now := time.monotonic()) < give_up:
            new = sorted(self._stand.attempt_files(name) - self._seen)
            if new:
                self._seen.update(new)
                return new[0]
            if now > look_at_tasks:
                if self._is_over(client):
                    return None
                look_at_tasks = now + _LOOK_AT_TASKS_SECONDS
            self._bring_back()
            time.sleep(_LOOK_AGAIN_SECONDS)
        return None

    def _pass(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._bring_back()
            time.sleep(min(left, 0.02))

    def _bring_back(self, *, all_of_them: bool = False) -> None:
        now = time.monotonic()
        for due in [due for due in self._due if all_of_them or due[0] <= now]:
            self._due.remove(due)
            _, target, name = due
            if target is Target.SERVER:
                self._stand.start_server()
            else:
                self._stand.start_agent(name)

    # The end.

    def _is_over(self, client: Client) -> bool:
        if any(target is Target.SERVER for _, target, _ in self._due):
            return False  # nobody to ask
        for task, state in self._states.items():
            if state not in FINAL_TASK_STATES:
                self._states[task] = _state(client, task)
        return set(self._states.values()) <= FINAL_TASK_STATES

    def _wait_for_nothing(self) -> list[str]:
        give_up = time.monotonic() + ORPHAN_SECONDS
        while (left := self._stand.left()) and time.monotonic() < give_up:
            time.sleep(0.02)
        return left

    def _lines(self) -> list[dict[str, Any]]:
        path = self._journal / "lines"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _state(client: Client, task: str) -> str:
    try:
        return client.task(task)["state"]
    except StowplanError as error:
        return f"unknown: {error}"
