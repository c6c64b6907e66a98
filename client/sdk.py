"""The service's routes as Python methods. What comes back is the server's JSON: dicts and lists, as
documented in OpenAPI (``/openapi.json``), so nothing here has to change when the service says more.

    with Client() as stowplan:
        task = stowplan.submit({"argv": ["python", "train.py"], "request": {"gpus": 1}})
        for text in stowplan.logs(task["id"]):
            print(text, end="")
"""

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

import httpx2

from client.connection import resolve_server, resolve_token
from client.joining import JoinTokens
from client.measurements import Measurements
from client.outputs import Output
from client.queues import Bookings, Queues
from client.transport import Transport, part_of_path

FINAL_TASK_STATES = ("succeeded", "failed", "cancelled")
LIVE_TASK_STATES = ("pending", "starting", "running", "stopping")

_PAGE = 500
_ADVICE_PAGE = 100
"""Each of them is a look into the history of a task."""
_EVENT_SILENCE_SECONDS = 40.0
"""The service says something at least every 15 s; a stream silent for this long is dead."""
_SOLVE_SECONDS_MAX = 3_600.0

Json = dict[str, Any]


class Client:
    """One Stowplan service, spoken to as one user.

    Args:
        server: ``http://host:port``. Default: ``STOWPLAN_SERVER``, the address that a service on
            this machine left in its home, else http://127.0.0.1:8470.
        token: The user token. Default: ``STOWPLAN_TOKEN``, else ``user.token`` in the home.
        timeout_seconds: How long one answer may take, beyond what a call asks the server to wait.

    Every method raises :class:`client.errors.StowplanError`: ``NotReachableError`` when nobody
    answers, ``InvalidInputError`` with all faults, ``NotFoundError``, ``ConflictError``,
    ``UnauthorizedError``. A service that goes away after it has once answered is waited for, so a
    restart doesn't end a ``logs`` or ``events``.
    """

    def __init__(
        self, server: str | None = None, token: str | None = None, *, timeout_seconds: float = 30.0
    ) -> None:
        self._transport = Transport(
            resolve_server(server), resolve_token(token), timeout_seconds=timeout_seconds
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    @property
    def server(self) -> str:
        """The address in use."""
        return self._transport.server

    def submit(self, spec: Mapping[str, Any], *, idempotency_key: str | None = None) -> Json:
        """Submit a task (``protocol.task.TaskSpec`` as JSON) and return it.

        The same key with the same task never makes a second one, so a submission may be repeated
        when its answer was lost. Without a key one is made for this call.
        """
        key = idempotency_key or uuid.uuid4().hex
        return self._transport.call(
            "POST", "/api/v1/tasks", body=dict(spec), headers={"Idempotency-Key": key}
        )

    def tasks(
        self,
        *,
        states: Iterable[str] = (),
        queue: str | None = None,
        name: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Json]:
        """Tasks, newest first, page after page as they are taken; at most ``limit`` of them."""
        query = {"state": list(states) or None, "queue": queue, "name": name}
        return self._pages("/api/v1/tasks", limit=limit, **query)

    def task(self, task: str) -> Json:
        """A task by its id, or the newest of a name."""
        return self._transport.call("GET", f"/api/v1/tasks/{part_of_path(task)}")

    def cancel(self, task: str) -> Json:
        """Ask that a task ends; it is returned as it is now. Cancelling a task that has ended
        changes nothing.
        """
        return self._transport.call("POST", f"/api/v1/tasks/{part_of_path(task)}/cancel")

    def why(self, task: str) -> Json:
        """Where a task runs and by which plan, or every reason why it waits, and what would place
        it.
        """
        return self._transport.call("GET", f"/api/v1/tasks/{part_of_path(task)}/why")

    def forecast(self, task: str | Mapping[str, Any]) -> Json:
        """How long a task runs in all: of one that is submitted, by its id or name, or of a form
        that isn't yet. Null quantiles: nothing is known.
        """
        if isinstance(task, str):
            return self._transport.call("GET", f"/api/v1/tasks/{part_of_path(task)}/forecast")
        return self._transport.call("POST", "/api/v1/forecast", body=dict(task))

    def calibration(self, *, last: int = 1_000) -> Json:
        """Which part of the last runs ended within what was forecast at their start."""
        return self._transport.call("GET", "/api/v1/forecast/calibration", params={"last": last})

    def eta(self, task: str) -> Json:
        """When a waiting task starts: in half of the cases by ``start_p50``, in nine of ten by
        ``start_p90``."""
        return self._transport.call("GET", f"/api/v1/tasks/{part_of_path(task)}/eta")

    def etas(self) -> Iterator[Json]:
        """The same of all that wait, in the order in which they get their room."""
        return self._pages("/api/v1/eta")

    def simulate(self, changes: Mapping[str, Any]) -> Json:
        """What ``tasks``, ``cancel``, ``add_nodes``, ``remove_nodes``, ``queues`` would do, and
        with ``prices`` what it would cost. Nothing is changed."""
        return self._transport.call(
            "POST", "/api/v1/simulate", body=dict(changes), wait_seconds=_SOLVE_SECONDS_MAX
        )

    def changes(self, task: str) -> Iterator[Json]:
        """A task now and after each thing that happens to it, until it has ended."""
        view = self.task(task)
        yield view
        if view["state"] in FINAL_TASK_STATES:
            return
        for _ in self.events(task=view["id"], follow=True):
            view = self.task(view["id"])
            yield view
            if view["state"] in FINAL_TASK_STATES:
                return

    def wait(self, task: str) -> Json:
        """Block until a task has ended, and return it."""
        *_, view = self.changes(task)
        return view

    def log_tail(self, task: str, *, bytes_max: int, replica: int = 0) -> str:
        """The newest ``bytes_max`` bytes of a replica's output so far."""
        output = Output(self._transport, replica=replica)
        return output.page(task, offset=-bytes_max, limit=bytes_max)["text"]

    def logs(
        self,
        task: str,
        *,
        replica: int | None = None,
        rank: int | None = None,
        generation: int | None = None,
        offset: int = 0,
        tail_lines: int | None = None,
        follow: bool = True,
    ) -> Iterator[str]:
        """A replica's output, or one rank's lines in it, piece by piece.

        Args:
            replica: Default: the first, or that of the rank.
            rank: A rank of the whole gang, also of those that torchrun starts in one replica.
            generation: Which attempt; default the newest. Following without it goes on with the
                next attempt when the task is started again.
            offset: The first byte; a negative one counts from the end.
            tail_lines: Begin with the last lines instead, as far as they lie in the last 8 MiB.
            follow: Wait for more until the task has ended. Otherwise stop at what there is now.
        """
        output = Output(self._transport, replica=replica, rank=rank)
        return output.read(
            task,
            generation=generation,
            offset=offset,
            tail_lines=tail_lines,
            follow=follow,
            starts_again=self._starts_again,
        )

    def _starts_again(self, task: str, attempt: int | None) -> bool:
        """After an attempt: True once there is another, False when the task has ended."""
        return any(view["generation"] > (attempt or 0) for view in self.changes(task))

    def nodes(self) -> Iterator[Json]:
        """Nodes with their devices and who holds them, by name."""
        return self._pages("/api/v1/nodes")

    def node(self, name: str) -> Json:
        """One node."""
        return self._transport.call("GET", f"/api/v1/nodes/{part_of_path(name)}")

    def cordon(self, name: str) -> Json:
        """Give a node nothing new; what runs there stays."""
        return self._set_schedulable(name, schedulable=False)

    def uncordon(self, name: str) -> Json:
        """Let a node take tasks again."""
        return self._set_schedulable(name, schedulable=True)

    def _set_schedulable(self, name: str, *, schedulable: bool) -> Json:
        return self._transport.call(
            "PATCH", f"/api/v1/nodes/{part_of_path(name)}", body={"schedulable": schedulable}
        )

    def drain(self, name: str, *, deadline_seconds: float, reason: str = "") -> Json:
        """Have a node's tasks leave it, checkpoint first; what is there at the deadline is
        killed.
        """
        return self._node_order(name, "drain", deadline_seconds=deadline_seconds, reason=reason)

    def maintenance(self, name: str, *, deadline_seconds: float, reason: str) -> Json:
        """Drain a node; its silence means nothing until it's uncordoned."""
        form = {"deadline_seconds": deadline_seconds, "reason": reason}
        return self._node_order(name, "maintenance", **form)

    def declare_lost(self, name: str) -> Json:
        """Say that a silent node is gone for good: its tasks may be placed elsewhere."""
        return self._transport.call("POST", f"/api/v1/nodes/{part_of_path(name)}/declare-lost")

    def _node_order(self, name: str, order: str, **form: Any) -> Json:
        return self._transport.call(
            "POST", f"/api/v1/nodes/{part_of_path(name)}/{order}", body=form
        )

    @property
    def join_tokens(self) -> JoinTokens:
        """Tokens with which machines join."""
        return JoinTokens(self._transport)

    @property
    def queues(self) -> Queues:
        """Who tasks belong to, and what is theirs."""
        return Queues(self._transport)

    @property
    def bookings(self) -> Bookings:
        """Nodes that are one queue's, or nobody's, for a while."""
        return Bookings(self._transport)

    def remove_node(self, name: str) -> None:
        """Forget a node that is gone and holds no task."""
        self._transport.call("DELETE", f"/api/v1/nodes/{part_of_path(name)}")

    def quarantines(self, *, everything: bool = False) -> Iterator[Json]:
        """Devices that take no new task, newest first; or all that ever did."""
        return self._pages("/api/v1/quarantines", limit=None, all=everything)

    def quarantine(self, node: str, device: str, *, reason: str) -> Json:
        """Give a device (its index or UUID) no new task; what runs there stays."""
        form = {"node": node, "device": device, "reason": reason}
        return self._transport.call("POST", "/api/v1/quarantines", body=form)

    def release(self, quarantine: int) -> Json:
        """End a quarantine, by its id."""
        return self._transport.call("POST", f"/api/v1/quarantines/{quarantine}/release")

    def findings(self) -> list[Json]:
        """What is amiss now: idle tasks, devices out of service, nodes that measure nothing."""
        return self._transport.call("GET", "/api/v1/findings")["items"]

    def usage(self, task: str) -> Json:
        """What a task's last attempt used: peaks and percentiles. None is "not measured"."""
        return self._transport.call("GET", f"/api/v1/tasks/{part_of_path(task)}/usage")

    def advice(self, *, days: float = 7.0) -> Iterator[Json]:
        """Tasks that ask for more than they use, of those that run or ended lately."""
        return self._pages("/api/v1/advice", limit=None, page=_ADVICE_PAGE, days=days)

    def plans(self, *, limit: int | None = None) -> Iterator[Json]:
        """Rounds of planning, newest first; at most ``limit`` of them."""
        return self._pages("/api/v1/plans", limit=limit)

    def plan(self, plan: str) -> Json:
        """One round, with the plan in the contract's form."""
        return self._transport.call("GET", f"/api/v1/plans/{part_of_path(plan)}")

    def problem(self, plan: str) -> Json:
        """The problem that a plan answers, in the contract's form: `stowplan solve` gives the plan
        again.
        """
        return self._transport.call("GET", f"/api/v1/plans/{part_of_path(plan)}/problem")

    def solve(self, problem: Mapping[str, Any]) -> Json:
        """Solve a problem of the contract's form on the server, outside its own planning."""
        return self._transport.call(
            "POST", "/api/v1/solve", body=dict(problem), wait_seconds=_SOLVE_SECONDS_MAX
        )

    def allocate(self, jobs: Mapping[str, Any], policy: str | None = None) -> Json:
        """Shares over time for jobs of the contract's form; without ``policy`` by the form's own,
        else max-min fairness.
        """
        return self._transport.call(
            "POST",
            "/api/v1/allocate",
            params={"policy": policy} if policy else None,
            body=dict(jobs),
            wait_seconds=_SOLVE_SECONDS_MAX,
        )

    def solve_program(self, program: Mapping[str, Any]) -> Json:
        """The optimum of a linear program (`stowplan schema program`), or what conflicts in it."""
        return self._transport.call(
            "POST", "/api/v1/lp", body=dict(program), wait_seconds=_SOLVE_SECONDS_MAX
        )

    @property
    def telemetry(self) -> Measurements:
        """What is measured: charts, lists, sums, files."""
        return Measurements(self._transport)

    def latest(self, node: str | None = None) -> list[Json]:
        """The newest sample of each node and its devices. None in it is "unknown", not zero."""
        return self.telemetry.latest(node)

    def events(
        self,
        *,
        after: int = 0,
        task: str | None = None,
        node: str | None = None,
        follow: bool = False,
    ) -> Iterator[Json]:
        """What happened after the event ``after``, oldest first; with ``follow`` it never ends.

        A broken stream is taken up again behind the last event that was seen: none is lost, none
        comes twice.
        """
        query = {"task": task, "node": node}
        if follow:
            yield from self._event_stream(after, query)
            return
        while True:
            page = self._transport.call(
                "GET", "/api/v1/events", params={**query, "after": after, "limit": _PAGE}
            )
            yield from page["items"]
            if len(page["items"]) < _PAGE:
                return
            after = page["next_after"]

    def _event_stream(self, after: int, query: Mapping[str, Any]) -> Iterator[Json]:
        back_off = None
        while True:
            try:
                with self._transport.stream(
                    "/api/v1/events",
                    params={**query, "after": after},
                    silence_seconds=_EVENT_SILENCE_SECONDS,
                ) as source:
                    back_off = None
                    for message in source:
                        event = json.loads(message.data)
                        after = event["id"]
                        yield event
                broken = httpx2.RemoteProtocolError("the stream of events ended")
            except httpx2.TransportError as error:
                broken = error
            # The patience begins when the stream breaks, however long it was open before.
            back_off = back_off or self._transport.back_off()
            self._transport.reconnect(back_off, broken)

    def _pages(
        self, path: str, *, limit: int | None = None, page: int = _PAGE, **query: Any
    ) -> Iterator[Json]:
        cursor, left = None, limit
        while left is None or left > 0:
            size = page if left is None else min(left, page)
            answer = self._transport.call(
                "GET", path, params={**query, "limit": size, "cursor": cursor}
            )
            yield from answer["items"]
            left = None if left is None else left - len(answer["items"])
            cursor = answer["next_cursor"]
            if cursor is None:
                return
