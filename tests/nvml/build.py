"""Builds the stand-in NVML, and writes the scripts it follows."""

import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent / "standin.c"

GPU_0 = (
    "gpu 0 uuid=GPU-a name=H100 bus=00000000:0A:00.0 total=81920 used=1024 reserved=512 util=37"
    " power=250500 energy=9000 temperature=41 sm=1980 memory=2619 reasons=4"
)
GPU_1 = (
    "gpu 1 uuid=GPU-b name=H100 bus=00000000:0B:00.0 total=81920 used=0 reserved=512 util=0"
    " power=70000 energy=1000 temperature=30 sm=345 memory=2619 reasons=1"
)
NVLINK_BOX = (
    "driver 570.86.15",
    "cuda 12080",
    GPU_0,
    GPU_1,
    "nvlink 0 0 00000000:0B:00.0",
    "nvlink 1 0 00000000:0A:00.0",
    "process 0 4242 1024",
)


def build(folder: Path, *, old_driver: bool = False) -> Path:
    """Compile the stand-in into ``folder``.

    Raises:
        FileNotFoundError: there is no C compiler.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise FileNotFoundError("no C compiler (cc): the stand-in NVML can't be built")
    library = folder / "libnvidia-ml.so.1"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Wl,-soname,libnvidia-ml.so.1"]
    command += ["-DOLD_DRIVER"] if old_driver else []
    subprocess.run([*command, "-o", str(library), str(SOURCE)], check=True)
    return library


def write_script(path: Path, *lines: str) -> None:
    """Put a new world in place of the old one, in one step."""
    fresh = path.with_suffix(".new")
    fresh.write_text("\n".join(lines) + "\n")
    fresh.replace(path)
