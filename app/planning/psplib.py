"""PSPLIB's single-mode files (``.sm``): a project of numbered jobs, as text.

Kolisch and Sprecher, PSPLIB - A project scheduling problem library, EJOR 96 (1997). Bytes in, a
:class:`~solver.scheduling.projects.project.Project` out; each fault names its line.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from app.planning import documents
from solver.errors import Fault, InvalidProblem, shorten
from solver.problem import QUANTITY_MAX
from solver.scheduling.projects.project import Project, Task

MOST_JOBS = 1_000_000
_JOBS = re.compile(r"jobs\s*\(incl\. supersource/sink\s*\)\s*:\s*(\S+)", re.IGNORECASE)
_RENEWABLE = re.compile(r"-\s*renewable\s*:\s*(\S+)", re.IGNORECASE)
_OTHERS = re.compile(r"-\s*(nonrenewable|doubly constrained)\s*:\s*(\S+)", re.IGNORECASE)
_SECTIONS = {
    "PRECEDENCE RELATIONS": "order",
    "REQUESTS/DURATIONS": "requests",
    "RESOURCEAVAILABILITIES": "capacities",
    "PROJECT INFORMATION": "information",
}
_WHOLE = re.compile(r"[+-]?\d{1,18}")


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    words: tuple[str, ...]


def looks_like(data: bytes) -> bool:
    """True for text that is rather a ``.sm`` file than JSON."""
    return data.lstrip()[:1] not in {b"{", b"["} and b"PRECEDENCE RELATIONS" in data.upper()


def parse_project(data: bytes) -> Project:
    """The project in these bytes: JSON, or a ``.sm`` file if it looks like one. Raises
    :class:`InvalidProblem` with every fault.
    """
    return parse_sm(data) if looks_like(data) else documents.parse("project", data)


def parse_sm(data: bytes) -> Project:
    """The project; its tasks are the jobs "1" to the sink, its resources "R1", "R2", ...

    Raises :class:`InvalidProblem` with every fault.
    """
    return _Reader(data).project()


class _Reader:
    """One file, cut into its sections; the faults found on the way."""

    def __init__(self, data: bytes) -> None:
        self.faults: list[Fault] = []
        self.sections: dict[str, list[_Line]] = {"head": []}
        self.heading_of: dict[str, int] = {}
        section = "head"
        for number, line in enumerate(self._text(data).splitlines(), start=1):
            heading = line.strip().upper().rstrip(":")
            if heading in _SECTIONS:
                section = _SECTIONS[heading]
                if section in self.sections:
                    self._fault(number, heading, "begins a section for the second time")
                self.sections.setdefault(section, [])
                self.heading_of[section] = number
            elif line.strip() and not set(line.strip()) <= {"*", "-"}:
                words = (line,) if section == "head" else tuple(line.split())
                self.sections[section].append(_Line(number, words))

    def project(self) -> Project:
        jobs, resources = self._head()
        for name, section in _SECTIONS.items():
            if section != "information" and section not in self.sections:
                self.faults.append(Fault(path="", value="nothing", reason=f"has no {name}"))
        self._stop_at_faults()
        behind = self._order(jobs)
        durations, requests = self._requests(jobs, resources)
        capacities = self._capacities(resources)
        self._stop_at_faults()
        after: dict[int, list[str]] = {job: [] for job in range(1, jobs + 1)}
        for job, others in behind.items():
            for other in others:
                after[other].append(str(job))
        names = [f"R{k + 1}" for k in range(resources)]
        return Project(
            version=1,
            resources=dict(zip(names, capacities, strict=True)),
            tasks=tuple(
                Task(
                    id=str(job),
                    duration=durations[job],
                    request={
                        name: need for name, need in zip(names, requests[job], strict=True) if need
                    },
                    after=tuple(after[job]),
                )
                for job in range(1, jobs + 1)
            ),
        )

    def _text(self, data: bytes) -> str:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            fault = Fault(
                path=f"byte {error.start}", value=shorten(data), reason="is not UTF-8 text"
            )
            raise InvalidProblem((fault,)) from None

    def _head(self) -> tuple[int, int]:
        """The numbers of jobs, with source and sink, and of renewable resources."""
        jobs = resources = None
        for line in self.sections["head"]:
            (text,) = line.words
            if found := _JOBS.search(text):
                jobs = self._whole(line, found[1], least=1, most=MOST_JOBS)
            elif found := _OTHERS.search(text):
                if self._whole(line, found[2]):
                    reason = f"{found[1].lower()} resources are no part of a single-mode project"
                    self._fault(line.number, found[2], reason)
            elif found := _RENEWABLE.search(text):
                resources = self._whole(line, found[1], most=1000)
        if jobs is None:
            reason = "doesn't say how many jobs there are"
            self.faults.append(Fault(path="", value="nothing", reason=reason))
        if resources is None:
            reason = "doesn't say how many renewable resources there are"
            self.faults.append(Fault(path="", value="nothing", reason=reason))
        return jobs or 0, resources or 0

    def _order(self, jobs: int) -> dict[int, list[int]]:
        behind: dict[int, list[int]] = {}
        for line in self._jobs_of("order", jobs, behind):
            job = int(line.words[0])
            if len(line.words) < 3:
                self._fault(line.number, " ".join(line.words), "needs modes and successors")
                continue
            if self._whole(line, line.words[1]) != 1:
                self._fault(line.number, line.words[1], "has to be the one mode of the job")
            count = self._whole(line, line.words[2])
            others = [self._whole(line, word, least=1, most=jobs) for word in line.words[3:]]
            if count != len(others):
                reason = f"has to be the number of successors listed, {len(others)}"
                self._fault(line.number, line.words[2], reason)
            for twice in sorted({other for other in others if others.count(other) > 1}):
                self._fault(line.number, twice, "is listed twice as a successor")
            behind[job] = others
        return behind

    def _requests(self, jobs: int, resources: int) -> tuple[dict[int, int], dict[int, list[int]]]:
        durations: dict[int, int] = {}
        requests: dict[int, list[int]] = {}
        for line in self._jobs_of("requests", jobs, durations):
            job = int(line.words[0])
            if len(line.words) != 3 + resources:
                reason = f"needs job, mode, duration and {resources} requests"
                self._fault(line.number, " ".join(line.words), reason)
            numbers = [self._whole(line, word) for word in line.words[1:]]
            durations[job] = numbers[1] if len(numbers) > 1 else 0
            requests[job] = numbers[2:]
        return durations, requests

    def _jobs_of(self, section: str, jobs: int, seen: Mapping[int, object]) -> Iterator[_Line]:
        """The lines of a section that begin with a job; afterwards, those that are missing."""
        for line in self.sections[section]:
            if not _WHOLE.fullmatch(line.words[0]):
                if line.words[0][0].isdigit():
                    self._whole(line, line.words[0])
                continue  # the heading of the columns
            job = self._whole(line, line.words[0], least=1, most=jobs)
            if job in seen:
                self._fault(line.number, job, "is the number of an earlier job of this section")
            elif 1 <= job <= jobs:
                yield line
        missing = [job for job in range(1, jobs + 1) if job not in seen]
        if missing:
            shown = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
            reason = f"lacks {len(missing)} of {jobs} jobs: {shown}"
            self._fault(self.heading_of[section], len(seen), reason)

    def _capacities(self, resources: int) -> list[int]:
        lines = [line for line in self.sections["capacities"] if not line.words[0][0].isalpha()]
        words = [(line, word) for line in lines for word in line.words]
        if len(words) != resources:
            reason = f"has to list what there is of {resources} resources"
            self._fault(self.heading_of["capacities"], len(words), reason)
        return [self._whole(line, word) for line, word in words]

    def _whole(self, line: _Line, word: str, *, least: int = 0, most: int = QUANTITY_MAX) -> int:
        if not _WHOLE.fullmatch(word):
            self._fault(line.number, word, "is no whole number")
            return least
        number = int(word)
        if not least <= number <= most:
            self._fault(line.number, number, f"has to be between {least} and {most}")
            return min(max(number, least), most)
        return number

    def _fault(self, number: int, value: object, reason: str) -> None:
        self.faults.append(Fault(path=f"line {number}", value=shorten(value), reason=reason))

    def _stop_at_faults(self) -> None:
        if self.faults:
            raise InvalidProblem(tuple(self.faults))
