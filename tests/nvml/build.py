"""Builds the stand-in NVML, and writes the scripts it follows (see world.c)."""

import shutil
import subprocess
from pathlib import Path

SOURCES = tuple(Path(__file__).parent / name for name in ("world.c", "calls.c", "watching.c"))

GPU_0 = (
    "gpu 0 uuid=GPU-a name=H100 bus=00000000:0A:00.0 total=81920 used=1024 reserved=512 util=37"
    " power=250500 energy=9000 temperature=41 sm=1980 memory=2619 reasons=4"
)
GPU_1 = (
    "gpu 1 uuid=GPU-b name=H100 bus=00000000:0B:00.0 total=81920 used=0 reserved=512 util=0"
    " power=70000 energy=1000 temperature=30 sm=345 memory=2619 reasons=1"
)
DRIVER = ("driver 570.86.15", "cuda 12080")
NVLINK_BOX = (
    *DRIVER,
    GPU_0,
    GPU_1,
    "nvlink 0 0 00000000:0B:00.0",
    "nvlink 1 0 00000000:0A:00.0",
    "process 0 4242 1024",
)

# Xid (8) and MIG reconfiguration (256), as nvmlDeviceGetSupportedEventTypes says it.
_EVENTS = "events=264"
_H100 = (
    "name=NVIDIA_H100_80GB_HBM3 total=81559 reserved=600 busy=12 pstate=0 limit=700000 sm_max=1980"
    " gen=5 gen_max=5 width=16 width_max=16 memory=2619 reasons=4 memory_temperature=48 replays=2"
    " pcie_tx=5000000000 pcie_rx=7000000000 power_violation=2500000000 thermal_violation=0"
    " ecc_corrected=3 ecc_uncorrected=0 remapped=1 repair_pending=0 repair_failed=0"
)
_GPM = "gpm_sm=61 gpm_occupancy=40 gpm_tensor=33 gpm_dram=52"


def h100(index: int, *more: str) -> str:
    """A whole H100 with every sensor but a fan; ``more`` are further ``key=value`` words."""
    words = (
        f"gpu {index} uuid=GPU-{index} bus=00000000:{16 + index:02X}:00.0 serial=16534{index}",
        f"used={1000 * (index + 1)} util={10 * index} power={300000 + index} sm={1500 + index}",
        f"energy={5000 * (index + 1)} temperature={40 + index} mig=0",
        _H100,
        _GPM,
        _EVENTS,
        *more,
    )
    return " ".join(words)


EIGHT_GPUS = (
    *DRIVER,
    *(h100(i, "nvlink_tx=1024 nvlink_rx=2048") for i in range(8)),
    *(f"nvlink {i} {link} switch" for i in range(8) for link in range(18)),
    "process 0 4242 1024",
    "used 0 4242 87",
)
"""Eight H100, every NVLink of which ends in an NVSwitch."""

PCIE_BOX = (
    *DRIVER,
    *(h100(i) for i in range(4)),
    "ancestor 0 1 10",
    "ancestor 2 3 20",
    "ancestor 0 2 40",
)
"""Four H100 without NVLink: two below one switch, two below two; 1-2, 0-3 and 1-3 cross sockets."""

MIG_BOX = (
    *DRIVER,
    h100(0).replace("mig=0", "mig=1").replace(_GPM, "").replace("util=0", ""),
    "mig 0 0 uuid=MIG-a gi=1 ci=0 gi_slices=3 ci_slices=3 total=40448 used=2000 reserved=0"
    f" name=NVIDIA_H100_80GB_HBM3_MIG_3g.40gb {_GPM}",
    "mig 0 2 uuid=MIG-b gi=9 ci=0 gi_slices=1 ci_slices=1 total=9984 used=10 reserved=0",
    "process 0/0 4242 1900",
    h100(1),
)
"""One H100 in two MIG devices, with a hole between their slots and one that the driver has no name
for, and one whole H100."""

CONSUMER_CARD = (
    *DRIVER,
    "gpu 0 uuid=GPU-c name=NVIDIA_GeForce_RTX_4090 bus=00000000:01:00.0 total=24564 used=800"
    " reserved=400 util=3 busy=1 power=22000 energy=700 temperature=35 sm=210 memory=405 reasons=1"
    " pstate=8 limit=450000 sm_max=3105 gen=1 gen_max=4 width=16 width_max=16 fan=30 capability=89",
)
"""No ECC, no NVLink, no MIG, no GPM, no events, no serial number."""

WRONG_PIDS = (
    *DRIVER,
    GPU_0,
    "process 0 4242 1024",
    "process 0 4243 512",
    "used 0 4242 55 900",  # older than the next
    "used 0 4242 60 100",
    "used 0 4242 4000000000 0",  # the newest, and it can't be
    "used 0 3735928559 99 0",  # a process that nobody has listed
    "used 0 4243 70 60000",  # older than what was asked for
)
"""A driver that lists stale and impossible uses of its device."""

SCRAMBLED_LIST = (*DRIVER, GPU_0, "process 0 4242 1024", "process 0 4294967295 0")
"""A driver that lists a process that can't be."""


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
    subprocess.run([*command, "-o", str(library), *map(str, SOURCES)], check=True)
    return library


def write_script(path: Path, *lines: str) -> None:
    """Put a new world in place of the old one, in one step."""
    fresh = path.with_suffix(".new")
    fresh.write_text("\n".join(lines) + "\n")
    fresh.replace(path)
