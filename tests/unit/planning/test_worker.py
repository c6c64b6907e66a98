"""What the solver's child process says, and in which order."""

import json
from pathlib import Path

from app.planning.framing import ANSWER, FAULTS, READY
from app.planning.worker import answer

EXAMPLE = Path(__file__).parents[3] / "examples" / "problems" / "contract.json"


def test_the_deadline_counts_from_ready_and_the_plan_follows() -> None:
    parts = answer(b"S" + EXAMPLE.read_bytes(), longest_seconds=60)
    assert next(parts) == READY
    (plan,) = parts
    assert plan[:1] == ANSWER
    assert json.loads(plan[1:])["status"] == "optimal"


def test_what_can_not_be_solved_is_never_ready() -> None:
    document = json.loads(EXAMPLE.read_bytes())
    for change in ({"version": 2}, {"budget": {"seconds": 61}}):
        (faults,) = answer(b"S" + json.dumps(document | change).encode(), longest_seconds=60)
        assert faults[:1] == FAULTS
        assert len(json.loads(faults[1:])) == 1
