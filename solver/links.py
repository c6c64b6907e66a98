"""How far apart two devices of one node are, for a replica that computes on both."""

from solver.problem import Device

FAST, SAME_SOCKET, FAR = 0, 1, 2


def pair_cost(first: Device, second: Device) -> int:
    """0 over a fast link, 1 on one NUMA node or over another link, 2 across (model.md, O4).

    A link counts from whichever end names it. Kinds start with ``nv`` when they are fast; ``sys``
    and ``none`` say that the way goes through the processors' interconnect, as no link at all does.
    """
    kinds = {
        kind.lower()
        for kind in (first.links.get(second.id), second.links.get(first.id))
        if kind is not None
    }
    if any(kind.startswith("nv") for kind in kinds):
        return FAST
    if kinds - {"sys", "none"}:
        return SAME_SOCKET
    if first.numa is not None and first.numa == second.numa:
        return SAME_SOCKET
    return FAR
