"""What a shim asks of the kernel: signals, and what Python has no function for, prctl(2)."""

import _ctypes
import os

TYPE_CHECKING = False  # typing's own would cost each shim half a MiB
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # the same functions and numbers, not dressed up as enums

__all__ = ["SET_CHILD_SUBREAPER", "SET_NO_NEW_PRIVS", "SET_PDEATHSIG", "prctl", "signal"]

SET_PDEATHSIG = 1
SET_CHILD_SUBREAPER = 36
SET_NO_NEW_PRIVS = 38

# Those that this process has loaded.
_LIBRARIES = _ctypes.dlopen(None, os.RTLD_NOW)  # pyright: ignore[reportArgumentType]
_prctl = _ctypes.dlsym(_LIBRARIES, "prctl")


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process.

    Raises:
        OSError: the kernel refuses.
    """
    if _ctypes.call_function(_prctl, (option, value, 0, 0, 0)):
        raise OSError(f"the kernel refuses prctl option {option}")
