"""One rank of a gang that needs six seconds to save: it says when it was asked, and when done.

Its files are those of docs/tasks.md, by hand: what is measured is the agent, not our own module.
Each rank writes its part, and rank 0 says that all is saved once it sees all parts.
"""

import os
import time
from pathlib import Path

SAVE_SECONDS = 6.0
_STEP_SECONDS = 0.05


def main() -> None:
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    control = Path(os.environ["STOWPLAN_CONTROL"])
    parts = Path(os.environ["STOWPLAN_ARTIFACTS"])
    print(f"rank {rank} of {size} trains", flush=True)
    while not (control / "checkpoint.asked").exists():
        time.sleep(_STEP_SECONDS)
    if rank == 0:
        (control / "checkpoint.acknowledged").touch()
    time.sleep(SAVE_SECONDS)
    (parts / f"part-{rank}").write_text("whole")
    if rank == 0:
        while not all((parts / f"part-{each}").exists() for each in range(size)):
            time.sleep(_STEP_SECONDS)
        (control / "checkpoint.done").touch()
    print(f"rank {rank} has saved", flush=True)


if __name__ == "__main__":
    main()
