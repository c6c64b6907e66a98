"""Fair share over time: who has held more than its part lately weighs less for a while."""

from collections.abc import Mapping

from solver.shares.entitlements import ONE, Tree

LEAST = 2.0**-10
"""However much a queue has held, its weight isn't lost."""


def faded_weights(tree: Tree, usage: Mapping[str, float]) -> dict[str, int]:
    """The queues' weights, in units of ``ONE``, by what they have used lately (Q6):
    w * 2^-(u / s), with u and s a queue's part of the usage and of the weight of its siblings. This
    is Slurm's classic fair-share factor (Multifactor Priority Plugin). ``usage`` is by queue, of
    its own tasks, in any unit.
    """
    used = {queue: usage.get(queue, 0.0) for queue in tree.queues}
    for queue in tree.bottom_up():
        if queue.parent in used:
            used[queue.parent] += used[queue.id]
    weights: dict[str, int] = {}
    for siblings in tree.below.values():
        all_used = sum(used[queue.id] for queue in siblings)
        all_weight = sum(queue.weight for queue in siblings)
        for queue in siblings:
            factor = 1.0
            if all_used > 0 and queue.weight:
                part = used[queue.id] / all_used
                # Alone in having used anything at equal weights: 2^-n among n. Siblings that don't
                # want anything now have no say in what is shared out, so that is no loss.
                factor = max(2.0 ** -(part * all_weight / queue.weight), LEAST)
            weights[queue.id] = round(queue.weight * ONE * factor)
    return weights
