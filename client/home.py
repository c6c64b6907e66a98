"""Where a service on this machine leaves its address and tokens for the commands."""

import os
from pathlib import Path

HOME_VARIABLE = "STOWPLAN_HOME"


def home_dir() -> Path:
    """``$STOWPLAN_HOME``, else ``stowplan`` in the user's data directory. It need not exist."""
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    data = os.environ.get("XDG_DATA_HOME")
    # The specification has relative paths ignored, not guessed at.
    base = Path(data) if data and Path(data).is_absolute() else Path.home() / ".local" / "share"
    return base / "stowplan"


def read_token(name: str) -> str | None:
    """The content of a file there (``user.token``, ``join.token``, ``server.url``); None without
    it.

    A file that may not be read counts as absent: it is another user's.
    """
    try:
        return (home_dir() / name).read_text().strip() or None
    except (FileNotFoundError, PermissionError, NotADirectoryError):
        return None
