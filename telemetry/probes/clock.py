"""Whether the kernel's clock follows another one (NTP, PTP), asked of the kernel."""

import ctypes
import functools
from collections.abc import Callable

_UNSYNCHRONIZED = 0x0040
"""STA_UNSYNC of <sys/timex.h>."""


class _Timex(ctypes.Structure):
    """The beginning of ``struct timex``, and room for its rest on any machine."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("frequency", ctypes.c_long),
        ("error_max", ctypes.c_long),
        ("error_estimated", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 512),
    ]


def clock_synchronized() -> int | None:
    """1 or 0 as in ``HostSample``; None where the kernel doesn't say. With ``modes`` of 0 the call
    changes nothing and needs no right.
    """
    adjtimex = _adjtimex()
    if adjtimex is None:
        return None
    timex = _Timex(modes=0)
    if adjtimex(ctypes.byref(timex)) == -1:
        return None
    return 0 if timex.status & _UNSYNCHRONIZED else 1


@functools.cache
def _adjtimex() -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), "adjtimex", None)
