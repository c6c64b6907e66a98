"""Quantities as people write them (``4GiB``, ``2.5``, ``1h30m``) to the integers of the forms, and
back.
"""

import math
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation

_MIB_BYTES = 1 << 20
_UNIT_BYTES = {
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
_UNIT_BYTES |= {unit[0]: _UNIT_BYTES[f"{unit[0]}iB"] for unit in ("KiB", "MiB", "GiB", "TiB")}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", re.ASCII)
_DURATION = re.compile(
    r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?",
    re.ASCII,
)
_DURATION_UNIT_SECONDS = (86_400.0, 3_600.0, 60.0, 1.0)


def memory_mib(text: str) -> int:
    """``4GiB``, ``512MiB`` or ``4G`` (the same as GiB) to MiB, rounded up: a task gets no less than
    it asked.

    Raises:
        ValueError: no size, or no unit: a bare number could be bytes or MiB.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("a size needs a number and a unit, such as 512MiB or 4GiB")
    number, unit = match.groups()
    if unit not in _UNIT_BYTES:
        raise ValueError(f"unknown unit {unit!r}: use one of {', '.join(_UNIT_BYTES)}")
    return math.ceil(Decimal(number) * _UNIT_BYTES[unit] / _MIB_BYTES)


def cpu_milli(text: str) -> int:
    """``2``, ``0.5`` or ``500m`` cores to thousandths of a core.

    Raises:
        ValueError: no such number, or one finer than a thousandth.
    """
    number = text.strip()
    scale = 1000
    if number.endswith("m"):
        number, scale = number[:-1], 1
    try:
        milli = Decimal(number) * scale
    except InvalidOperation:
        raise ValueError("a number of cores is wanted, such as 2, 0.5 or 500m") from None
    if not milli.is_finite() or milli != milli.to_integral_value():
        raise ValueError("a core is shared in thousandths: at most three decimals")
    return int(milli)


def seconds(text: str) -> float:
    """``90``, ``90s``, ``15m``, ``1h30m`` or ``2d`` to seconds.

    Raises:
        ValueError: no such duration.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise ValueError("a duration is wanted, such as 90, 90s, 15m, 1h30m or 2d")
    return sum(
        float(number) * unit
        for number, unit in zip(match.groups(), _DURATION_UNIT_SECONDS, strict=True)
        if number
    )


def assignment(text: str) -> tuple[str, str]:
    """``NAME=VALUE``, where the value may hold further ``=`` and may be empty.

    Raises:
        ValueError: there is no ``=``, or no name before it.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError("NAME=VALUE is wanted")
    return name, value


def selector(text: str) -> tuple[str, tuple[str, ...]]:
    """``zone=a,b`` to the label and the values of which a node has to have one.

    Raises:
        ValueError: no label, or an empty value.
    """
    label, values = assignment(text)
    parts = tuple(values.split(","))
    if not all(parts):
        raise ValueError("LABEL=VALUE[,VALUE...] is wanted, no value empty")
    return label, parts


def share(text: str) -> tuple[str, int | None]:
    """``gpu_milli=16000``, ``gpu_milli:H100=8000``, ``memory_mib=64GiB`` to the dimension of a
    queue's share and its quantity. ``none`` is None: no such share.

    Raises:
        ValueError: no dimension, or no whole number; memory may have a unit.
    """
    # A model's name may hold an equals sign; a quantity doesn't.
    dimension, equals, quantity = text.rpartition("=")
    if not equals or not dimension:
        raise ValueError("DIMENSION=QUANTITY is wanted, such as gpu_milli=16000")
    if quantity == "none":
        return dimension, None
    if quantity.isascii() and quantity.isdigit():
        return dimension, int(quantity)
    if dimension.endswith("_mib"):
        return dimension, memory_mib(quantity)
    raise ValueError("a whole number is wanted: of GPUs and cores, thousandths")


def moment_text(text: str, *, now: datetime | None = None) -> str:
    """``+2h`` or ``2026-12-01T08:00``, in this machine's zone unless it has its own, as ISO 8601
    with an offset. ``now`` is for ``+``; default: this machine's clock.

    Raises:
        ValueError: no such moment.
    """
    if text.startswith("+"):
        ahead = seconds(text[1:])
        try:
            return ((now or datetime.now(UTC)) + timedelta(seconds=ahead)).isoformat()
        except OverflowError:
            raise ValueError("that is too far ahead") from None
    try:
        return datetime.fromisoformat(text).astimezone().isoformat()
    except (ValueError, OverflowError):
        raise ValueError(
            "a moment is wanted, such as +2h, 2026-12-01T08:00 or 2026-12-01T08:00+01:00"
        ) from None


def duration_text(duration_seconds: float | None) -> str:
    """``8.2s``, ``1m05s``, ``2h10m`` or ``3d04h``; ``-`` for what is unknown."""
    if duration_seconds is None:
        return "-"
    if duration_seconds < 59.95:
        return f"{duration_seconds:.1f}s"
    whole = round(duration_seconds)
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h{minutes:02d}m"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours:02d}h"


def memory_text(size_mib: int | None) -> str:
    """``512 MiB`` or ``15.6 GiB``; ``-`` for what is unknown."""
    if size_mib is None:
        return "-"
    return f"{size_mib} MiB" if size_mib < 1024 else f"{size_mib / 1024:.1f} GiB"


def cores_text(milli: int) -> str:
    """``1500`` to ``1.5``."""
    return f"{milli / 1000:g}"


def percent_text(percent: float | None) -> str:
    """``42%``; ``-`` for what is unknown."""
    return "-" if percent is None else f"{percent:.0f}%"
