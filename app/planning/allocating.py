"""Allocations as they're asked for: jobs, and a policy that may be named beside them."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from app.planning import documents
from solver.allocation.allocation import Allocation
from solver.allocation.jobs import Jobs, Policy, policy_faults, unknown_policy
from solver.allocation.policies import allocate
from solver.errors import Fault, InvalidProblem
from solver.reading import fault_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Jobs and the policy by which to share."""

    jobs: Jobs
    policy: Policy


def asked(document: bytes, policy: str | None, *, path: str) -> Asked:
    """The question in a document. ``policy`` is what was said beside it, at ``path``.

    Raises :class:`InvalidProblem` with every fault, of what was said too.
    """
    faults: tuple[Fault, ...] = unknown_policy(policy, path)
    try:
        jobs: Jobs = documents.parse("jobs", document)
    except InvalidProblem as error:
        raise InvalidProblem((*faults, *error.faults)) from None
    if policy is not None and jobs.policy is not None and policy != jobs.policy:
        faults = (*faults, fault_at(path, policy, f"isn't the document's policy, {jobs.policy}"))
    if faults:
        raise InvalidProblem(faults)
    chosen = Policy(policy or jobs.policy or Policy.MAX_MIN_FAIRNESS)
    if missing := policy_faults(jobs, chosen):
        raise InvalidProblem(missing)
    return Asked(jobs=jobs, policy=chosen)


def question(document: bytes, policy: str | None) -> bytes:
    """Both in one message to the solver's process."""
    return json.dumps(policy).encode() + b"\n" + document


def read(message: bytes) -> Asked:
    """What :func:`question` wrote."""
    policy, _, document = message.partition(b"\n")
    return asked(document, json.loads(policy), path="query.policy")


def answer(question: Asked, clock: Callable[[], float]) -> Allocation:
    """Raises :class:`InvalidProblem` with the deadlines that can't be kept."""
    return allocate(question.jobs, question.policy, clock=clock)
