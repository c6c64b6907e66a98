"""What no rule asks for and every search needs: implied constraints, and one order instead of all.

They cut nothing off that a plan could want, and prove in seconds what took minutes without.
"""

from collections import defaultdict
from itertools import pairwise

from ortools.sat.python.cp_model import IntVar, LinearExpr

from solver.cpsat.constraints import load_of, sum_in_bin, whole_on
from solver.cpsat.fillings import Filling, share_of
from solver.cpsat.layout import POOL, twins
from solver.cpsat.variables import Variables
from solver.deadline import Deadline
from solver.problem import WHOLE_DEVICE_MILLI


def tighten(variables: Variables, deadline: Deadline) -> None:
    """All that is implied, and the orders that break symmetry."""
    for family in (tighten_shares, count_fillings, order_bins, order_twins):
        deadline.enforce()
        family(variables)


def tighten_shares(variables: Variables) -> None:
    """Rounded shares fit too: of those above a k-th of a device, fewer than k share it.

    The dual feasible functions of Fekete and Schepers (Mathematical Programming 91, 2001), for k up
    to 4. They cut off the half-used devices with which a linear relaxation would look better than
    any packing.
    """
    for (node, index, b), is_open in variables.open.items():
        kind = variables.layout.classes[node][index]
        if kind.is_broken:
            continue
        shares = {
            group.task.request.gpu_milli
            for group in variables.groups_on(node)
            if group.task.request.is_share
        }
        for k in range(1, 5):
            if all(_round_share(s, k) * WHOLE_DEVICE_MILLI <= s * k * (k + 1) for s in shares):
                continue
            rounded = sum_in_bin(
                variables, kind, b, lambda request, k=k: _round_share(request.gpu_milli, k)
            )
            variables.model.add(rounded <= k * (k + 1) * is_open)


def _round_share(gpu_milli: int, k: int) -> int:
    """k (k+1) times the dual feasible function of the share."""
    steps, rest = divmod((k + 1) * gpu_milli, WHOLE_DEVICE_MILLI)
    return steps * (k if rest == 0 else k + 1)


def count_fillings(variables: Variables) -> None:
    """The same counts over the whole cluster: fillings of each kind, shares of each size, devices.

    Sums of (C3) and (C4), so the relaxation gains nothing, but its integers do: how many devices
    the cluster fills in some way is settled before it matters which they are.
    """
    model, layout = variables.model, variables.layout
    chosen: dict[Filling, list[IntVar]] = defaultdict(list)
    for key, ways in layout.fillings.items():
        for filling, count in zip(ways, variables.filled[key], strict=True):
            chosen[filling].append(count)
    if not chosen:
        return
    kinds = [kind for of_node in layout.classes for kind in of_node if not kind.is_broken]
    devices = sum(kind.size for kind in kinds)
    totals: dict[Filling, IntVar] = {}
    for filling, counts in chosen.items():
        totals[filling] = counts[0]
        if len(counts) > 1:
            totals[filling] = model.new_int_var(0, devices, "")
            model.add(totals[filling] == LinearExpr.sum(counts))
    for share in sorted({share for filling in totals for share, _ in filling}):
        held = [
            sum_in_bin(variables, kind, POOL, lambda r, s=share: int(share_of(r) == s))
            for kind in kinds
            if (kind.node, kind.index) in layout.fillings
        ]
        room = [dict(filling).get(share, 0) for filling in totals]
        model.add(LinearExpr.sum(held) <= LinearExpr.weighted_sum(list(totals.values()), room))
    whole = model.new_int_var(0, devices, "")
    model.add(whole == LinearExpr.sum([whole_on(variables, kind) for kind in kinds]))
    model.add(whole + LinearExpr.sum(list(totals.values())) <= devices)


def order_bins(variables: Variables) -> None:
    """Of interchangeable shared devices the fuller comes first: one order instead of all."""
    for of_node in variables.layout.classes:
        for kind in of_node:
            bins = variables.layout.bins[kind.node, kind.index]
            for b in range(1, bins):
                fuller = load_of(variables, kind, b - 1, "gpu_milli")
                variables.model.add(load_of(variables, kind, b, "gpu_milli") <= fuller)
                earlier = variables.open[kind.node, kind.index, b - 1]
                variables.model.add_implication(variables.open[kind.node, kind.index, b], earlier)


def order_twins(variables: Variables) -> None:
    """Of gangs that differ only in their ids, those that come first run with no fewer replicas."""
    for alike in twins(variables.layout):
        for first, second in pairwise(alike):
            variables.model.add(variables.count[first.index] >= variables.count[second.index])
