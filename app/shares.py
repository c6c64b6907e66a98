"""What each queue may hold now, as the last round of planning reckoned it. In memory: the next
round reckons it anew."""

from collections.abc import Mapping


class SharesBoard:
    """Written whole by planning, read by whoever shows queues."""

    def __init__(self) -> None:
        self.entitlements: Mapping[str, Mapping[str, int]] = {}
        """By queue, with the queues below it: dimension -> quantity. A queue that isn't here has
        been in no round yet."""
