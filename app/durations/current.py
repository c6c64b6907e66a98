"""The model in use, as the service's parts share it."""

from app.durations.model import Model


class Durations:
    """Before the history has been read the model knows nothing."""

    def __init__(self) -> None:
        self.model = Model.fit(())
        self.ended = 0
        """Runs that have ended since the service started: when to look again."""
