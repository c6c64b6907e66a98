"""Water-filling: a quantity shared by weight, above floors and below ceilings, in whole units."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one of several has a right to, could use at most, and its weight in what is left."""

    floor: int
    ceiling: int
    """At least the floor."""
    weight: int


def fill(amount: int, claims: Sequence[Claim]) -> list[int]:
    """What each gets of ``amount`` (Q2): x = min(ceiling, floor + level * weight), with one level
    for all, as high as the amount allows. A weight of 0 gets its floor.

    Where not even the floors fit, they are scaled down: each gets of the amount in proportion to
    its floor. Units that can't be split go to the largest remainders, the first of equals.
    """
    floors = sum(claim.floor for claim in claims)
    if floors > amount:
        return _by_weight(amount, [claim.floor for claim in claims], [c.floor for c in claims])
    rooms = [claim.ceiling - claim.floor for claim in claims]
    more = _by_weight(amount - floors, rooms, [claim.weight for claim in claims])
    return [claim.floor + extra for claim, extra in zip(claims, more, strict=True)]


def _by_weight(amount: int, rooms: Sequence[int], weights: Sequence[int]) -> list[int]:
    given = [0] * len(rooms)
    takers = [i for i, room in enumerate(rooms) if room > 0 and weights[i] > 0]
    # Who is full at the lowest level comes first. Products of integers, no quotients: exact.
    takers.sort(key=lambda i: rooms[i] / weights[i])
    total = sum(weights[i] for i in takers)
    for place, i in enumerate(takers):
        if rooms[i] * total > amount * weights[i]:
            _split(amount, takers[place:], rooms, weights, total, given)
            return given
        given[i] = rooms[i]
        amount -= rooms[i]
        total -= weights[i]
    return given


def _split(
    amount: int,
    takers: Sequence[int],
    rooms: Sequence[int],
    weights: Sequence[int],
    total: int,
    given: list[int],
) -> None:
    """Share out what is left among takers that have room for their part of it."""
    for i in takers:
        given[i] = min(amount * weights[i] // total, rooms[i])
    left = amount - sum(given[i] for i in takers)
    by_remainder = sorted(takers, key=lambda i: (-(amount * weights[i] % total), i))
    for i in by_remainder:
        if not left:
            break
        if given[i] < rooms[i]:
            given[i] += 1
            left -= 1
