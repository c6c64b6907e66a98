"""Whom a waiting task could have evicted (C12): less urgent tasks, and who borrows its share."""

from collections import Counter
from collections.abc import Collection, Iterable
from functools import cached_property

from solver.eligibility import queue_chains, queue_need
from solver.explain.room import Running
from solver.problem import Queue, Task

Share = tuple[str, str]
"""(queue, dimension) of a guarantee."""


class Reclaiming:
    """What queues hold of their guaranteed shares in the final state."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.chains = queue_chains(running.problem)

    @cached_property
    def _held(self) -> Counter[Share]:
        """What the running tasks of a queue, and of those below it, hold of a guarantee."""
        held: Counter[Share] = Counter()
        for t, replicas in enumerate(self.running.replicas.tolist()):
            task = self.running.tasks[t]
            for queue in self.chains[task.queue] if replicas else ():
                for dimension in queue.guaranteed:
                    held[queue.id, dimension] += replicas * queue_need(task.request, dimension)
        return held

    def may_evict(self, task: Task, victims: Collection[int]) -> bool:
        """True when the task could take the place of all of these: each is less urgent, or is
        in another queue, which keeps its own guarantee while the task gets to its.
        """
        tasks = self.running.tasks
        return all(
            tasks[victim].priority < task.priority or self._reclaims(task, tasks[victim], victims)
            for victim in victims
        )

    def _reclaims(self, task: Task, victim: Task, victims: Collection[int]) -> bool:
        mine, theirs = self.chains[task.queue], self.chains[victim.queue]
        others = [queue for queue in theirs if queue not in mine]
        for queue in mine:
            for dimension, guaranteed in queue.guaranteed.items() if queue not in theirs else ():
                need = queue_need(task.request, dimension)
                gets = self._left(queue, dimension, victims) + task.fewest * need
                both_ask = need > 0 and queue_need(victim.request, dimension) > 0
                if both_ask and gets <= guaranteed and self._keep(others, dimension, victims):
                    return True
        return False

    def _keep(self, queues: Iterable[Queue], dimension: str, victims: Collection[int]) -> bool:
        """True when these queues still hold their guarantees when the victims have ended."""
        return all(
            self._left(queue, dimension, victims) >= queue.guaranteed[dimension]
            for queue in queues
            if dimension in queue.guaranteed
        )

    def _left(self, queue: Queue, dimension: str, victims: Collection[int]) -> int:
        """What the queue holds when these have ended."""
        gone = 0
        for victim in victims:
            task = self.running.tasks[victim]
            if queue in self.chains[task.queue]:
                gone += int(self.running.replicas[victim]) * queue_need(task.request, dimension)
        return self._held[queue.id, dimension] - gone
