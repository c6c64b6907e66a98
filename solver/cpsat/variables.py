"""The decisions: which running replicas stay, and how many new ones go where in which pattern."""

from collections import defaultdict
from dataclasses import dataclass, field, replace

from ortools.sat.python import cp_model
from ortools.sat.python.cp_model import IntVar, LinearExprT

from solver.cpsat.layout import POOL, DeviceClass, Group, Layout, Pattern
from solver.deadline import Deadline
from solver.eligibility import room_of_empty_node
from solver.objective import NODE_DOMAIN
from solver.problem import WHOLE_DEVICE_MILLI


@dataclass
class Variables:
    """The decisions and the sums of them that constraints and objective speak of."""

    layout: Layout
    model: cp_model.CpModel
    new: dict[tuple[int, Pattern], IntVar] = field(default_factory=dict)
    """(group, pattern) -> how many replicas start there."""
    stays: dict[str, tuple[IntVar, ...]] = field(default_factory=dict)
    """Running task -> whether each of its replicas stays where it is."""
    touched: dict[str, LinearExprT] = field(default_factory=dict)
    """Running task -> at least 1 when one of its replicas doesn't stay."""
    open: dict[tuple[int, int, int], IntVar] = field(default_factory=dict)
    """(node, class, bin) -> whether a device of the class is shared."""
    filled: dict[tuple[int, int], tuple[IntVar, ...]] = field(default_factory=dict)
    """(node, class) -> how many of its devices are filled in each of its ways."""
    on: dict[tuple[int, int], LinearExprT] = field(default_factory=dict)
    """(group, node) -> how many of its replicas run there; absent where none can."""
    count: dict[int, LinearExprT] = field(default_factory=dict)
    """Group -> how many of its replicas run."""
    runs: dict[int, IntVar] = field(default_factory=dict)
    """Gang -> whether any of it runs."""
    as_is: dict[int, IntVar] = field(default_factory=dict)
    """Gang that is broken at the start -> whether it is left exactly as it is."""
    present: dict[tuple[int, int], IntVar] = field(default_factory=dict)
    """(group, node) -> at least 1 where any of it runs; made on demand."""

    starts: dict[tuple[int, int], list[tuple[Group, Pattern, int]]] = field(default_factory=dict)
    """(node, class) -> who may start there, in which pattern, on how many devices of the class."""
    on_node: dict[int, list[Group]] = field(default_factory=dict)
    most: dict[tuple[int, int], int] = field(default_factory=dict)

    def groups_on(self, node: int) -> list[Group]:
        """The groups that may run on the node."""
        return self.on_node.get(node, [])

    def nodes_of(self, group: Group) -> list[int]:
        """The nodes that the group may run on."""
        return [i for i in range(len(self.layout.problem.nodes)) if (group.index, i) in self.on]

    def starts_in(self, kind: DeviceClass) -> list[tuple[Group, Pattern, int]]:
        """Who may start on devices of the class: group, pattern, devices of the class it takes."""
        return self.starts.get((kind.node, kind.index), [])

    def most_on(self, group: Group, node: int) -> int:
        """The most replicas of the group that the node could ever hold."""
        if group.task.pack_within == NODE_DOMAIN:
            return self.most_on_one(group, node)
        return min(group.most, self.layout.copies[node] * self.most_on_one(group, node))

    def most_on_one(self, group: Group, node: int) -> int:
        """The most of them that one of the nodes could hold for which a merged node stands."""
        key = (group.index, node)
        if key not in self.most:
            task = replace(group.task, replicas=group.most, min_replicas=1)
            room = room_of_empty_node(task, self.layout.problem.nodes[node])
            self.most[key] = min(group.most, room + self.layout.placed_on(group, node))
        return self.most[key]

    def presence(self, group: Group, node: int) -> IntVar:
        """A literal that is true where any replica of the group runs on the node."""
        key = (group.index, node)
        if key not in self.present:
            literal = self.model.new_bool_var("")
            self.model.add(self.on[key] <= self.most_on(group, node) * literal)
            self.present[key] = literal
        return self.present[key]


def make_variables(layout: Layout, model: cp_model.CpModel, deadline: Deadline) -> Variables:
    """All decisions of a layout, without any rule but their ranges."""
    variables = Variables(layout=layout, model=model)
    sums: dict[tuple[int, int], list[IntVar]] = defaultdict(list)
    for group in layout.groups:
        deadline.enforce()
        for pattern in group.patterns:
            decision = model.new_int_var(0, _most_in(layout, group, pattern), "")
            variables.new[group.index, pattern] = decision
            sums[group.index, pattern.node].append(decision)
            for index, number in pattern.take:
                here = variables.starts.setdefault((pattern.node, index), [])
                here.append((group, pattern, number))
        task = group.task
        if task.placed:
            stays = tuple(model.new_bool_var("") for _ in task.placed)
            variables.stays[task.id] = stays
            variables.touched[task.id] = _touched(model, stays)
            for stay, slot in zip(stays, task.placed, strict=True):
                sums[group.index, layout.node_index[slot.node]].append(stay)
        if group.is_gang:
            variables.runs[group.index] = model.new_bool_var("")
    for (i, kind), ways in layout.fillings.items():
        size = layout.classes[i][kind].size
        variables.filled[i, kind] = tuple(model.new_int_var(0, size, "") for _ in ways)
    for (i, kind), bins in layout.bins.items():
        for b in range(bins):
            variables.open[i, kind, b] = model.new_bool_var("")
    counted: dict[int, list[IntVar]] = {group.index: [] for group in layout.groups}
    for (g, node), parts in sums.items():
        variables.on[g, node] = cp_model.LinearExpr.sum(parts)
        counted[g] += parts
    for group in layout.groups:
        variables.count[group.index] = cp_model.LinearExpr.sum(counted[group.index])
    for g, node in sorted(sums):
        variables.on_node.setdefault(node, []).append(layout.groups[g])
    return variables


def _touched(model: cp_model.CpModel, stays: tuple[IntVar, ...]) -> LinearExprT:
    if len(stays) == 1:
        return 1 - stays[0]
    touched = model.new_bool_var("")
    for stay in stays:
        model.add_implication(~stay, touched)
    return touched


def _most_in(layout: Layout, group: Group, pattern: Pattern) -> int:
    most = group.most
    for index, number in pattern.take:
        kind = layout.classes[pattern.node][index]
        if pattern.bin is None:
            most = min(most, kind.copies * (len(kind.devices) // number))
        else:
            devices = kind.size if pattern.bin == POOL else 1
            most = min(most, devices * (WHOLE_DEVICE_MILLI // group.task.request.gpu_milli))
    return most
