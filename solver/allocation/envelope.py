"""The cheapest way for each job to reach a speed, at given prices.

A job that may idle or run on any of k types reaches, by dividing its time, every point of the
convex hull of (speed, cost) of those choices. What matters is the hull's lower edge from its lowest
point rightwards (docs/model.md, A10): a chain of at most k + 1 choices, the same for all speeds, so
it is found once for a price and then read at as many speeds as one likes.
"""

import numpy as np

from solver.allocation.fleet import Flags, Floats, Ints


class Envelope:
    """The lower edges of m jobs. S = links of the longest chain; shorter ones have links of
    length 0.
    """

    def __init__(self, throughput: Floats, cost: Floats) -> None:
        """``throughput`` and ``cost``, both [m, k]: of all the time on a type. A cost may be
        negative: then running there is worth something.
        """
        jobs, types = throughput.shape
        self._width = types
        # Choice 0 is to idle.
        speed = np.hstack([np.zeros((jobs, 1)), throughput])
        price = np.hstack([np.zeros((jobs, 1)), cost])
        rows = np.arange(jobs)
        cheapest = price <= price.min(axis=1, keepdims=True)
        at = np.where(cheapest, speed, -1.0).argmax(axis=1)
        chain: list[Ints] = [at]
        for _ in range(types):
            gain = speed - speed[rows, at][:, None]
            faster: Flags = gain > 0
            if not faster.any():
                break
            slope = np.full_like(gain, np.inf)
            np.divide(price - price[rows, at][:, None], gain, out=slope, where=faster)
            least = slope.min(axis=1, keepdims=True)
            # Of choices in one line the farthest; where none is faster, gain is nowhere positive.
            onward = np.where((slope <= least) & faster, gain, 0.0)
            at = np.where(faster.any(axis=1), onward.argmax(axis=1), at)
            chain.append(at)
        self._choice = np.array(chain)
        self._speed = speed[rows, self._choice]
        height = price[rows, self._choice]
        self._base = height[0]
        self._length = np.diff(self._speed, axis=0)
        self._slope = np.zeros_like(self._length)
        np.divide(np.diff(height, axis=0), self._length, out=self._slope, where=self._length > 0)

    def cost(self, needed: Floats) -> float:
        """What all jobs pay at least when each reaches its ``needed`` [m] speed."""
        return float(self.costs(needed).sum())

    def costs(self, needed: Floats) -> Floats:
        """[m] what each of them pays."""
        return self._base + (self._slope * self._covered(needed)).sum(axis=0)

    def slope_above(self, needed: Floats) -> Floats:
        """[m] what one step a second more costs; infinite for who can't get faster."""
        open_ = (self._speed[1:] > needed) & (self._length > 0)
        slope = np.where(open_, self._slope, np.inf).min(axis=0, initial=np.inf)
        return np.where(needed < self._speed[0], 0.0, slope)

    def slope_below(self, needed: Floats) -> Floats:
        """[m] what one step a second less saves."""
        begun = (self._speed[:-1] < needed) & (self._length > 0)
        return np.where(begun, self._slope, -np.inf).max(axis=0, initial=0.0)

    def shares(self, needed: Floats) -> Floats:
        """[m, k] the fractions of the time with which jobs reach ``needed`` at that cost."""
        jobs = len(needed)
        reached = np.zeros((len(self._choice) + 1, jobs))
        reached[0] = 1.0
        np.divide(self._covered(needed), self._length, out=reached[1:-1], where=self._length > 0)
        part = reached[:-1] - reached[1:]
        shares = np.zeros((jobs, self._width + 1))
        rows = np.arange(jobs)
        for choice, fraction in zip(self._choice, part, strict=True):
            shares[rows, choice] += fraction
        return shares[:, 1:]

    def _covered(self, needed: Floats) -> Floats:
        """[S, m] how much of each link lies below ``needed``."""
        return np.clip(needed - self._speed[:-1], 0.0, self._length)
