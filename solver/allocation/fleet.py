"""The question as arrays: what every policy computes with.

Sizes: m jobs, k types. Types of which there are none are left out.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from solver.allocation.jobs import Job, Jobs

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Throughputs, gangs and counts."""

    types: tuple[str, ...]
    throughput: Floats
    """[m, k] steps a second; 0 where a job can't run."""
    gpus: Floats
    """[m]"""
    weight: Floats
    """[m]"""
    count: Floats
    """[k] accelerators, all above 0."""

    @classmethod
    def of(cls, asked: Jobs) -> Self:
        types = tuple(name for name, count in asked.accelerators.items() if count > 0)
        jobs = asked.jobs
        flat = [job.throughput.get(name, 0.0) for job in jobs for name in types]
        return cls(
            types=types,
            throughput=np.array(flat, dtype=np.float64).reshape(len(jobs), len(types)),
            gpus=np.array([job.gpus for job in jobs], dtype=np.float64),
            weight=np.array([job.weight for job in jobs], dtype=np.float64),
            count=np.array([asked.accelerators[name] for name in types], dtype=np.float64),
        )

    @property
    def fastest(self) -> Floats:
        """[m] steps a second with all the time on the fastest type."""
        return self.throughput.max(axis=1)

    def speed(self, shares: Floats) -> Floats:
        """[m] steps a second that shares [m, k] give (A2)."""
        return (self.throughput * shares).sum(axis=1)

    def usage(self, shares: Floats) -> Floats:
        """[k] the part of each type that shares [m, k] take (A1)."""
        return self.gpus @ shares / self.count

    def proportional_speed(self) -> Floats:
        """[m] steps a second of a job whose time is spread over the types by their counts (A3)."""
        return self.throughput @ (self.count / self.count.sum())

    def norm_per_step(self) -> Floats:
        """[m] what one step a second adds to a job's normalised throughput (A3)."""
        return self.gpus / self.proportional_speed()

    def isolated_speed(self) -> Floats:
        """[m] steps a second with a 1/m share of every type, at most all of the time (A4)."""
        shares = self.count / len(self.gpus) / self.gpus[:, None]
        return self.speed(shares / np.maximum(1.0, shares.sum(axis=1, keepdims=True)))


def steps_of(jobs: tuple[Job, ...]) -> Floats:
    """[m] steps that are left; 0 where the document doesn't say."""
    return np.array([job.steps or 0.0 for job in jobs], dtype=np.float64)


def elapsed_of(jobs: tuple[Job, ...]) -> Floats:
    """[m] seconds since submission."""
    return np.array([job.elapsed_seconds for job in jobs], dtype=np.float64)


def needed_speed(jobs: tuple[Job, ...]) -> Floats:
    """[m] steps a second by which each job keeps its deadline; 0 without one (A7)."""
    return np.array(
        [
            (job.steps or 0.0) / job.deadline_seconds if job.deadline_seconds else 0.0
            for job in jobs
        ],
        dtype=np.float64,
    )
