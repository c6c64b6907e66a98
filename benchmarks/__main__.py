"""``python -m benchmarks [NAME...]``: these suites, or all but the soak.

Exit code 0: every case with a must is ok; 1: one is not; 2: there is no such suite.
"""

import sys
from collections.abc import Mapping, Sequence

from rich.console import Console

from benchmarks import (
    allocation_suite,
    scheduling_suite,
    service_suite,
    soak_suite,
    solver_suite,
    telemetry_suite,
)
from benchmarks.harness import Suite, run_suite

SUITES: Mapping[str, Suite] = {
    "solver": solver_suite.run,
    "service": service_suite.run,
    "telemetry": telemetry_suite.run,
    "allocation": allocation_suite.run,
    "scheduling": scheduling_suite.run,
}
SOAK: Mapping[str, Suite] = {"soak": soak_suite.run}
"""Only when it's named: it takes an hour."""


def main(names: Sequence[str]) -> int:
    """Run the suites named, in the order given; gives the exit code."""
    suites = {**SUITES, **SOAK}
    unknown = [name for name in names if name not in suites]
    if unknown:
        print(
            f"no such suite: {', '.join(unknown)} (there are: {', '.join(suites)})",
            file=sys.stderr,
        )
        return 2
    # A file or a pipe has no width of its own: keep a row on one line there.
    console = Console(width=None if sys.stdout.isatty() else 130)
    good = [run_suite(name, suites[name], console) for name in names or SUITES]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
