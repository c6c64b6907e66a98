"""The ways to fill one shared device: the patterns of cutting-stock, for shares and their memory.

Choosing how many devices are filled in which way has a far tighter linear relaxation than deciding
for each share and device, and no two devices to swap.
"""

from collections.abc import Iterator, Mapping

from solver.problem import WHOLE_DEVICE_MILLI, Request

Share = tuple[int, int]
"""(gpu_milli, gpu_memory_mib): shares of one size are interchangeable on a device."""
Filling = tuple[tuple[Share, int], ...]
"""How many shares of each size the device holds; no further share of the demand would fit."""


def share_of(request: Request) -> Share:
    """The size of a request's share."""
    return request.gpu_milli, request.gpu_memory_mib


def fillings(demand: Mapping[Share, int], memory_mib: int, most: int) -> tuple[Filling, ...] | None:
    """All maximal fillings of a device with so much memory, None if more than ``most``."""
    shares = sorted(demand, reverse=True)
    found: list[Filling] = []
    for counts in _counts(shares, demand, WHOLE_DEVICE_MILLI, memory_mib):
        found.append(tuple((share, n) for share, n in zip(shares, counts, strict=True) if n))
        if len(found) > most:
            return None
    return tuple(found)


def covers(filling: Filling, content: Mapping[Share, int]) -> bool:
    """True when a device filled like this has room for that content."""
    room = dict(filling)
    return all(room.get(share, 0) >= count for share, count in content.items())


def _counts(
    shares: list[Share], demand: Mapping[Share, int], milli: int, memory_mib: int
) -> Iterator[tuple[int, ...]]:
    """Depth first over the sizes, largest first; yields only what can't be added to."""

    def fits(share: Share, milli: int, memory_mib: int) -> int:
        room = milli // share[0]
        return min(room, memory_mib // share[1]) if share[1] else room

    def descend(
        i: int, milli: int, memory_mib: int, taken: tuple[int, ...]
    ) -> Iterator[tuple[int, ...]]:
        if i == len(shares):
            # What is left over only shrinks on the way down, so a share that was passed over may
            # still fit.
            if not any(
                taken[j] < demand[share] and fits(share, milli, memory_mib)
                for j, share in enumerate(shares)
            ):
                yield taken
            return
        share = shares[i]
        for n in range(min(demand[share], fits(share, milli, memory_mib)), -1, -1):
            yield from descend(i + 1, milli - n * share[0], memory_mib - n * share[1], (*taken, n))

    return descend(0, milli, memory_mib, ())
