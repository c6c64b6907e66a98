"""What the error numbers of the NVIDIA driver (Xid) mean for the device.

An application's mistake ends that application and leaves the device as it was; anything else is the
device's own trouble. The division is the one of NVIDIA's device plugin for Kubernetes, and a number
that nobody here has heard of counts as trouble.
"""

from enum import StrEnum


class XidClass(StrEnum):
    """Whose error it is."""

    APPLICATION = "application"
    """The program's: the device stays healthy."""
    HARDWARE = "hardware"
    """The device's or its driver's: nothing new should be placed there."""


_APPLICATION = {
    13: "graphics engine exception",
    31: "memory page fault",
    43: "GPU stopped processing a program's work",
    45: "work removed after its program ended or failed",
    68: "video decoder exception",
    109: "context switch timed out",
}
_HARDWARE = {
    32: "invalid or corrupted push buffer stream",
    38: "driver firmware error",
    48: "double bit ECC error",
    61: "internal microcontroller breakpoint or warning",
    62: "internal microcontroller halt",
    63: "memory page retired or row remapped",
    64: "memory page could not be retired or row not remapped",
    69: "graphics engine class error",
    74: "NVLink error",
    79: "GPU has fallen off the bus",
    92: "high rate of single bit ECC errors",
    94: "contained ECC error",
    95: "uncontained ECC error",
    110: "security fault",
    119: "the GPU's system processor (GSP) doesn't answer",
    120: "error of the GPU's system processor (GSP)",
    140: "unrecovered ECC error",
    143: "GPU could not be initialised",
    145: "NVLink RLW error",
    149: "NVLink NETIR error",
    154: "the GPU needs a reset or a reboot",
}


def classify(code: int) -> XidClass:
    """The class of an Xid; an unknown one is the hardware's."""
    return XidClass.APPLICATION if code in _APPLICATION else XidClass.HARDWARE


def describe(code: int) -> str:
    """An Xid in words, with its class: ``Xid 79: GPU has fallen off the bus (hardware)``."""
    words = _APPLICATION.get(code) or _HARDWARE.get(code) or "unknown error"
    return f"Xid {code}: {words} ({classify(code)})"
