"""PSPLIB's files: what they say, and every fault with its line."""

from pathlib import Path

import pytest

from app.planning.psplib import looks_like, parse_project, parse_sm
from solver.errors import InvalidProblem
from solver.scheduling.projects.pipeline import schedule

TINY = (Path(__file__).parents[2] / "data" / "tiny.sm").read_text()


def faults(text: str) -> list[str]:
    with pytest.raises(InvalidProblem) as error:
        parse_sm(text.encode())
    return [str(fault) for fault in error.value.faults]


def test_a_file_becomes_a_project_of_numbered_tasks() -> None:
    project = parse_project(TINY.encode())
    assert [task.id for task in project.tasks] == ["1", "2", "3", "4", "5", "6"]
    assert dict(project.resources) == {"R1": 4, "R2": 2}
    assert project.tasks[5].after == ("3", "4", "5")
    assert dict(project.tasks[2].request) == {"R1": 3}
    assert schedule(project).makespan == 11  # 3 of R1 beside 2 don't fit: 7 + 4


def test_line_ends_of_any_kind_are_read() -> None:
    assert parse_sm(TINY.replace("\n", "\r\n").encode()) == parse_sm(TINY.encode())


def test_json_is_not_taken_for_a_file() -> None:
    assert looks_like(TINY.encode())
    assert not looks_like(b'  {"note": "PRECEDENCE RELATIONS:"}')
    with pytest.raises(InvalidProblem, match="is no JSON"):
        parse_project(b"hello")


@pytest.mark.parametrize(
    ("found", "instead", "expected"),
    [
        ("  3      1     4       3    0", "  3      1     x       3    0", "line 31: is no whole"),
        ("  3      1     4       3    0", "  3      1    -4       3    0", "line 31: has to be"),
        ("  3      1     4       3    0", "  3      1     4       3", "line 31: needs job, mode"),
        ("  3      1     4       3    0\n", "", "lacks 1 of 6 jobs: 3"),
        ("   5        1          1           6", "   5        1          2           6", "line 23"),
        ("   5        1          1           6", "   5        1          1           7", "line 23"),
        ("   5        1          1           6", "   5        2          1           6", "line 23"),
        ("   5        1          1           6", "   4        1          1           6", "earlier"),
        ("   5        1          1           6", "   5        1          1           2", "ring"),
        ("nonrenewable              :  0", "nonrenewable              :  2", "no part of a single"),
        ("    4    2\n", "    4\n", "has to list what there is of 2 resources"),
        ("    4    2\n", "    4    2    3\n", "has to list what there is of 2 resources"),
        ("    4    2\n", "    1    2\n", "is more than there is: 1"),
        ("RESOURCEAVAILABILITIES:\n", "", "has no RESOURCEAVAILABILITIES"),
        ("jobs (incl. supersource/sink ):  6\n", "", "doesn't say how many jobs"),
        ("  - renewable                 :  2   R\n", "", "how many renewable"),
        ("incl. supersource/sink ):  6", "incl. supersource/sink ):  99999999999", "line 6"),
    ],
)  # fmt: skip
def test_each_fault_is_told_with_its_line(found: str, instead: str, expected: str) -> None:
    assert found in TINY
    assert expected in "; ".join(faults(TINY.replace(found, instead, 1)))


def test_all_faults_of_a_file_come_together() -> None:
    wrong = TINY.replace("  3      1     4 ", "  3      1     x ").replace("    4    2\n", "  q\n")
    assert len(faults(wrong)) >= 2


@pytest.mark.parametrize("length", range(0, len(TINY) - 160, 97))
def test_a_file_that_ends_early_is_refused(length: int) -> None:
    with pytest.raises(InvalidProblem):
        parse_sm(TINY[:length].encode())


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(InvalidProblem, match="is not UTF-8"):
        parse_sm(b"PRECEDENCE RELATIONS:\n\xff")
