"""What is true in the played world (tests/chaos/world.py), whoever knows of it."""

from dataclasses import dataclass

from protocol.report import Exit

LEASE_SECONDS = 20.0
GRACE_SECONDS = 2.0
SLACK_SECONDS = 1.0
"""What a shim leaves its agent beyond the lease's end."""
GIVEN_UP_SECONDS = LEASE_SECONDS + SLACK_SECONDS + GRACE_SECONDS + 1.0
CODES = (0, 0, 3)
IDS: tuple[str, ...] = ("a", "b")


@dataclass(slots=True)
class Life:
    """What has truly become of an attempt, whoever knows of it."""

    begun: int = 0
    code: int | None = None
    shim_killed: bool = False
    recorded: Exit | None = None
    given_up: bool = False
