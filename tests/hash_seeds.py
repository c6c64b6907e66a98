"""What a script prints under different hash seeds: no order of a set may show in it."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SEEDS = ("0", "1", "4242")


def outputs_of(script: str) -> set[bytes]:
    """The different outputs of the script, run in a fresh interpreter for each seed."""
    return {
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in SEEDS
    }
