"""Who may lose to whom (model.md, C12): what ties one task's loss to another's gain."""

from dataclasses import dataclass, field

from ortools.sat.python.cp_model import IntVar, LinearExpr

from solver.cpsat.constraints import queue_use
from solver.cpsat.layout import Group
from solver.cpsat.variables import Variables
from solver.eligibility import queue_chains, queue_need
from solver.problem import Queue


def justify_losses(variables: Variables) -> None:
    """(C12) A task loses replicas only on a node where one that may take its place gains some."""
    gains = _Gains(variables)
    for group in variables.layout.groups:
        task = group.task
        if not task.placed or not task.preemptible:
            continue
        count, model = variables.count[group.index], variables.model
        grounds: list[IntVar] = []
        for i in variables.nodes_of(group):
            before = variables.layout.placed_on(group, i)
            if before == 0:
                continue
            takers = [
                gains.on_node(other, i)
                for other in variables.groups_on(i)
                if other.task.priority > task.priority
            ]
            takers += gains.reclaimed_from(group, i)
            if not takers:
                continue
            # Linear on purpose, here and below: the relaxation would be blind to conditions.
            ground = model.new_bool_var("")
            most = variables.most_on(group, i)
            model.add(variables.on[group.index, i] <= most - (most - before + 1) * ground)
            model.add(LinearExpr.sum(takers) >= ground)
            grounds.append(ground)
        held = len(task.placed)
        if not grounds:
            model.add(count >= held)
            continue
        loses = model.new_bool_var("")
        model.add(count >= held - held * loses)
        model.add(LinearExpr.sum(grounds) >= loses)


@dataclass
class _Gains:
    """Literals that may be true only when somebody gains; each made once, on demand."""

    variables: Variables
    node_gains: dict[tuple[int, int], IntVar] = field(default_factory=dict)
    total_gains: dict[int, IntVar] = field(default_factory=dict)
    claims: dict[tuple[str, str, str], IntVar] = field(default_factory=dict)
    claimed: dict[tuple[int, int, str, str, str], IntVar] = field(default_factory=dict)

    def on_node(self, group: Group, node: int) -> IntVar:
        """True only if the group has more replicas on the node than before."""
        key = (group.index, node)
        if key not in self.node_gains:
            gain = self.variables.model.new_bool_var("")
            before = self.variables.layout.placed_on(group, node)
            self.variables.model.add(self.variables.on[key] >= (before + 1) * gain)
            self.node_gains[key] = gain
        return self.node_gains[key]

    def in_all(self, group: Group) -> IntVar:
        """True only if the group has more replicas than before."""
        if group.index not in self.total_gains:
            gain = self.variables.model.new_bool_var("")
            more = len(group.task.placed) + 1
            self.variables.model.add(self.variables.count[group.index] >= more * gain)
            self.total_gains[group.index] = gain
        return self.total_gains[group.index]

    def reclaimed_from(self, victim: Group, node: int) -> list[IntVar]:
        """For each task and guarantee: true only if the task gains on the node within that
        guarantee.
        """
        chains = queue_chains(self.variables.layout.problem)
        theirs = chains[victim.task.queue]
        found = []
        for group in self.variables.groups_on(node):
            if group is victim or group.task.priority > victim.task.priority:
                continue
            for queue in chains[group.task.queue]:
                for dimension, guaranteed in queue.guaranteed.items():
                    mine = queue_need(group.task.request, dimension)
                    lost = queue_need(victim.task.request, dimension)
                    if queue not in theirs and 0 < mine <= guaranteed and lost:
                        found.append(self._claimed(group, node, queue, dimension, victim))
        return found

    def _claimed(
        self, group: Group, node: int, queue: Queue, dimension: str, victim: Group
    ) -> IntVar:
        key = (group.index, node, queue.id, dimension, victim.task.queue)
        if key not in self.claimed:
            model = self.variables.model
            literal = model.new_bool_var("")
            conditions = (
                self.on_node(group, node),
                self.in_all(group),
                self._claim(group, queue, dimension, victim),
            )
            for condition in conditions:
                model.add_implication(literal, condition)
            self.claimed[key] = literal
        return self.claimed[key]

    def _claim(self, group: Group, queue: Queue, dimension: str, victim: Group) -> IntVar:
        """True only if the queue stays within its guarantee and the victim's queues keep theirs."""
        key = (queue.id, dimension, f"{group.task.queue}/{victim.task.queue}")
        if key not in self.claims:
            model = self.variables.model
            chains = queue_chains(self.variables.layout.problem)
            claim = model.new_bool_var("")
            use = queue_use(self.variables, queue, dimension)
            model.add(use <= queue.guaranteed[dimension]).only_enforce_if(claim)
            for other in chains[victim.task.queue]:
                if other not in chains[group.task.queue] and dimension in other.guaranteed:
                    kept = queue_use(self.variables, other, dimension)
                    model.add(kept >= other.guaranteed[dimension]).only_enforce_if(claim)
            self.claims[key] = claim
        return self.claims[key]
