"""What the free part of a device is worth, from the linear program of cutting stock (model.md, I2).

Devices are filled by the shares that are asked for with as few devices as possible. The program is
solved by column generation (Gilmore and Gomory, Operations Research 9, 1961): its columns are ways
to fill a device, and the best new one is a knapsack.
"""

import numba
import numpy as np
from numba import types

WHOLE = 1000
MOST_ROUNDS = 400
"""Rounds are many times fewer; this bounds the time should rounding errors go in circles."""
TOLERANCE = 1e-9

_I1, _F1 = types.int64[::1], types.float64[::1]


@numba.njit(cache=True)
def _fill(sizes, price, worth, choice):
    """The dearest set of shares for each number of free milli, as its price and its last share."""
    worth[0], choice[0] = 0.0, -1
    for free in range(1, WHOLE + 1):
        best, chosen = worth[free - 1], -1
        for i in range(len(sizes)):
            if sizes[i] <= free and worth[free - sizes[i]] + price[i] > best + TOLERANCE:
                best, chosen = worth[free - sizes[i]] + price[i], i
        worth[free], choice[free] = best, chosen


@numba.njit(cache=True)
def _enter(sizes, price, worth, choice, column):
    """Fills ``column`` with the column that saves most; its cost, negative if none saves anything.

    Either the surplus of a share with a negative price, or the dearest filling of a device.
    """
    lowest = 0
    for j in range(len(sizes)):
        column[j] = 0.0
        if price[j] < price[lowest]:
            lowest = j
    if price[lowest] < -TOLERANCE:
        column[lowest] = -1.0
        return 0.0
    _fill(sizes, price, worth, choice)
    if worth[WHOLE] <= 1.0 + TOLERANCE:
        return -1.0
    free = WHOLE
    while free > 0:
        if choice[free] < 0:
            free -= 1
        else:
            column[choice[free]] += 1.0
            free -= sizes[choice[free]]
    return 1.0


@numba.njit(cache=True)
def _leave(inverse, amount, column, direction):
    """Fills ``direction`` with the column in terms of the basis; the row that it drives out, or
    -1.
    """
    leaving = -1
    for i in range(len(amount)):
        direction[i] = 0.0
        for j in range(len(amount)):
            direction[i] += inverse[i, j] * column[j]
        if direction[i] > TOLERANCE and (
            leaving < 0 or amount[i] / direction[i] < amount[leaving] / direction[leaving]
        ):
            leaving = i
    return leaving


@numba.njit(cache=True)
def _pivot(inverse, amount, direction, leaving):
    share = amount[leaving] / direction[leaving]
    for j in range(len(amount)):
        inverse[leaving, j] /= direction[leaving]
    for i in range(len(amount)):
        if i != leaving and direction[i] != 0.0:
            amount[i] = max(0.0, amount[i] - direction[i] * share)
            for j in range(len(amount)):
                inverse[i, j] -= direction[i] * inverse[leaving, j]
    amount[leaving] = share


@numba.njit(types.void(_I1, _F1, _F1), cache=True)
def price_rests(sizes, demand, worth):
    """Fills ``worth`` [1001] with the part of a device that so many free milli are worth.

    ``sizes`` are milli, each once, ``demand`` how much of each is asked for. ``worth[1000]`` is 1
    if anything is.
    """
    m = len(sizes)
    inverse, amount, cost = np.zeros((m, m)), np.empty(m), np.ones(m)
    for i in range(m):
        copies = WHOLE // sizes[i]
        inverse[i, i] = 1.0 / copies
        amount[i] = demand[i] / copies
    price, column, direction = np.zeros(m), np.empty(m), np.empty(m)
    choice = np.empty(WHOLE + 1, np.int64)
    for _ in range(MOST_ROUNDS):
        for j in range(m):
            price[j] = 0.0
            for i in range(m):
                price[j] += cost[i] * inverse[i, j]
        entering_cost = _enter(sizes, price, worth, choice, column) if m > 0 else -1.0
        leaving = _leave(inverse, amount, column, direction) if entering_cost >= 0.0 else -1
        if leaving < 0:
            break
        _pivot(inverse, amount, direction, leaving)
        cost[leaving] = entering_cost
    for j in range(m):
        price[j] = max(price[j], 0.0)
    _fill(sizes, price, worth, choice)
    whole = max(worth[WHOLE], TOLERANCE)
    for free in range(WHOLE + 1):
        worth[free] /= whole
