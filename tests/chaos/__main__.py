"""``python -m tests.chaos [FIRST COUNT]``: schedules on several stands at once, a JSON line each.

``SOAK_STANDS`` says how many stands (as many as there are cores). The benchmarks run it as a
process of its own: nothing imports ``tests``.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from types import FrameType

from tests.chaos.running import Outcome, run
from tests.chaos.schedule import schedule_of
from tests.chaos.stand import Stand

# What others wrote to the stand's disk and database grows; a fresh one now and then is cheap.
_SCHEDULES_A_STAND = 100


def main(arguments: Sequence[str]) -> int:
    """Run the seeds FIRST .. FIRST + COUNT - 1; 1 when one of them found a fault."""
    signal.signal(signal.SIGTERM, _leave)  # so that stands are taken down
    match arguments:
        case ["stand", first, end, step]:
            return _run_all(range(int(first), int(end), int(step)))
        case [first, count]:
            return _spread(int(first), int(count))
        case _:
            print(__doc__, file=sys.stderr)
            return 2


def _spread(first: int, count: int) -> int:
    stands = int(os.environ.get("SOAK_STANDS", "0")) or len(os.sched_getaffinity(0))
    stands = min(stands, count)
    ranges = [(first + index, first + count, stands) for index in range(stands)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.chaos", "stand", *map(str, numbers)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for numbers in ranges
    ]
    # A line is written whole: those of several stands come one after the other.
    lock = threading.Lock()
    try:
        readers = [threading.Thread(target=_hand_on, args=(each, lock)) for each in processes]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    except BaseException:
        for process in processes:
            process.terminate()
        raise
    finally:
        codes = [process.wait() for process in processes]
    return max(codes, key=abs)


def _hand_on(process: "subprocess.Popen[str]", lock: "threading.Lock") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        with lock:
            print(line, end="", flush=True)


def _run_all(seeds: Sequence[int]) -> int:
    faulty = False
    for start in range(0, len(seeds), _SCHEDULES_A_STAND):
        with Stand() as stand:
            for seed in seeds[start : start + _SCHEDULES_A_STAND]:
                outcome = run(schedule_of(seed), stand)
                faulty |= bool(outcome.findings)
                print(json.dumps(form(outcome)), flush=True)
    return 1 if faulty else 0


def form(outcome: Outcome) -> dict[str, object]:
    """As a line of JSON."""
    return asdict(outcome)


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(143)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
