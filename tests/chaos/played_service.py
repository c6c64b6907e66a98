"""The service of the played world (tests/chaos/world.py): it assigns, stops, gives up, settles."""

from typing import TYPE_CHECKING

from agent.events import Key
from protocol.desired import DesiredAllocation, DesiredSet, Gang, Launch, Phase, StopCause
from protocol.desired import Stop as StopOrder
from protocol.report import AllocationReport
from tests.chaos.life import GIVEN_UP_SECONDS, GRACE_SECONDS, IDS

if TYPE_CHECKING:
    from tests.chaos.played_node import Node
    from tests.chaos.world import World


class Service:
    """Places each id on one node at a time, and elsewhere only when the lease says so."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.generation = dict.fromkeys(IDS, 0)
        self.wanted: dict[str, tuple[Node, DesiredAllocation]] = {}
        self.heard: dict[str, float] = {node.name: 0.0 for node in world.nodes}
        self.revision: dict[str, int] = {}
        self.history: dict[str, list[DesiredSet]] = {node.name: [] for node in world.nodes}
        for node in world.nodes:
            self._publish(node)

    def assign(self, id_: str, node: "Node") -> None:
        """A new attempt, unless there is one; that is made to run."""
        if id_ in self.wanted:
            self._change(id_, Phase.RUN)
            return
        self.generation[id_] += 1
        phase = self._world.rng.choice((Phase.PREPARE, Phase.RUN, Phase.RUN))
        allocation = DesiredAllocation(
            id=id_,
            task=id_,
            task_name=id_,
            generation=self.generation[id_],
            phase=phase,
            devices=("GPU-0",) if id_ == "a" else (),
            launch=Launch(argv=("true",), grace_seconds=GRACE_SECONDS),
            gang=Gang(rank=0, size=1, master_address="h"),
        )
        self.wanted[id_] = (node, allocation)
        self._publish(node)

    def stop(self, id_: str) -> None:
        self._change(id_, Phase.STOP)

    def replace(self, id_: str) -> None:
        """Give an attempt up without waiting for its end, and make the next one where it is: there
        the node itself keeps one from beginning beside the other.
        """
        if id_ in self.wanted:
            node, allocation = self.wanted.pop(id_)
            self._world.life(Key(id=id_, generation=allocation.generation)).given_up = True
            if self._world.rng.random() < 0.5:
                self._publish(node)
            self.assign(id_, node)

    def _change(self, id_: str, phase: Phase) -> None:
        if id_ not in self.wanted or self.wanted[id_][1].phase in {phase, Phase.STOP}:
            return
        node, allocation = self.wanted[id_]
        stop = StopOrder(cause=StopCause.CANCELLED, reason="") if phase is Phase.STOP else None
        changed = allocation.model_copy(update={"phase": phase, "stop": stop})
        self.wanted[id_] = (node, changed)
        self._publish(node)

    def take(self, node: "Node", reports: tuple[AllocationReport, ...]) -> tuple[str, ...]:
        """Record exits; gives those that the node may forget."""
        self.heard[node.name] = self._world.seconds
        settled = []
        for report in reports:
            if report.exit is None:
                continue
            settled.append(report.id)
            key = Key(id=report.id, generation=report.generation)
            life = self._world.life(key)
            if life.recorded is None:
                life.recorded = report.exit
            if self._is_wanted(key, node):
                del self.wanted[report.id]
                self._publish(node)
        return tuple(settled)

    def _is_wanted(self, key: Key, node: "Node") -> bool:
        where, allocation = self.wanted.get(key.id, (None, None))
        return where is node and allocation is not None and allocation.generation == key.generation

    def give_up_silent(self) -> None:
        """A node that wasn't heard for lease, grace and margin has stopped its tasks by itself."""
        for node in self._world.nodes:
            if self._world.seconds - self.heard[node.name] < GIVEN_UP_SECONDS:
                continue
            for id_, (where, allocation) in list(self.wanted.items()):
                if where is node:
                    del self.wanted[id_]
                    key = Key(id=id_, generation=allocation.generation)
                    self._world.life(key).given_up = True
                    self._publish(node)

    def _publish(self, node: "Node") -> None:
        self.revision[node.name] = self.revision.get(node.name, 0) + 1
        allocations = tuple(each for where, each in self.wanted.values() if where is node)
        desired = DesiredSet(
            node=node.name, revision=self.revision[node.name], allocations=allocations
        )
        self.history[node.name].append(desired)
