"""The stop sequence (decision 0005): what is done to a program, and when, once it is to stop. Pure.

drain -> ask for a checkpoint -> acknowledgement -> the grace, until it is done -> SIGTERM, and a
little more -> SIGKILL. Without a checkpoint, or an acknowledgement: SIGTERM, the grace, SIGKILL.
"""

from agent.supervision.forms import Form

# protocol.task.TERM_SECONDS: pydantic is nothing for a shim.
TERM_SECONDS = 5.0

# What the program is told.
ASK = "ask"
END = "end"
KILL = "kill"

_DRAINING = "draining"
_ASKED = "asked"
_SAVING = "saving"
_ENDING = "ending"
_KILLING = "killing"


class Stop:
    """One stop of one program. ``now`` is any clock that goes on while the machine is suspended.

    The first order says why. Orders may come again, and only shorten what is left.
    """

    def __init__(self, order: Form, sequence: Form, now: float) -> None:
        checkpoint = sequence.get("checkpoint") or {}
        self.cause: str | None = order.get("cause")
        self.reason: str = order.get("reason", "")
        self.ask_by: str | None = checkpoint.get("ask")
        self.asked = False
        """Whether the program was asked for a checkpoint."""
        self.until = now
        """When there is something to do, if the program doesn't act before."""
        # Past the lease's end every second is one in which the task may run twice.
        if order.get("cause") != "lease":
            self.until += sequence.get("drain_seconds", 0.0)
        self._ack_seconds: float = checkpoint.get("ack_seconds", 0.0)
        self._grace_seconds: float = sequence["grace_seconds"]
        self._stage = _DRAINING
        self.shorten(order, now)

    @property
    def awaits_words(self) -> bool:
        """Whether the program may say something now that changes what's next."""
        return self._stage in (_ASKED, _SAVING)

    def shorten(self, order: Form, now: float) -> None:
        """Take in an order, the first or a further one. No grace means: kill at once."""
        grace_seconds = order.get("grace_seconds")
        self.cause = self.cause or order.get("cause")
        if grace_seconds is None:
            return  # in the task's own time
        self._grace_seconds = min(self._grace_seconds, grace_seconds)
        if grace_seconds <= 0:
            self._stage, self.until = _ENDING, now
        elif self._stage in (_SAVING, _ENDING):
            self.until = min(self.until, now + grace_seconds)

    def advance(self, now: float, *, acknowledged: bool, done: bool) -> str | None:
        """What the program is to be told now; to be called until that is nothing."""
        if self._stage == _DRAINING and now >= self.until:
            if self.ask_by is None:
                return self._end(now, self._grace_seconds)
            self._stage, self.until, self.asked = _ASKED, now + self._ack_seconds, True
            return ASK
        if self._stage == _ASKED and (acknowledged or done):
            self._stage, self.until = _SAVING, now + self._grace_seconds
        if self._stage == _ASKED and now >= self.until:
            return self._end(now, self._grace_seconds)
        if self._stage == _SAVING and (done or now >= self.until):
            return self._end(now, TERM_SECONDS)
        if self._stage == _ENDING and now >= self.until:
            self._stage, self.until = _KILLING, now
            return KILL
        return None

    def _end(self, now: float, seconds: float) -> str | None:
        """SIGTERM, unless that is how it was asked already: a second one ends it half-way."""
        self._stage, self.until = _ENDING, now + seconds
        if self.asked and self.ask_by == "SIGTERM":
            return self.advance(now, acknowledged=False, done=False)
        return END
