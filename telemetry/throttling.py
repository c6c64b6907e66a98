"""Why a device holds its clocks down, in words: NVML's bits (nvmlClocksEventReason*)."""

from functools import lru_cache

REASONS = {
    0x1: "idle",
    0x2: "application clocks",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "heat, by the driver",
    0x40: "heat, by the hardware",
    0x80: "power brake",
    0x100: "display clocks",
}
HARMLESS = 0x1 | 0x2 | 0x10 | 0x100
"""Idle, or as somebody has set it: nothing that costs a task time unexpectedly."""


@lru_cache(maxsize=1024)
def reasons(mask: int) -> tuple[str, ...]:
    """The reasons in a mask, lowest bit first; a bit that isn't known is named by its number."""
    named = tuple(word for bit, word in REASONS.items() if mask & bit)
    unknown = mask & ~sum(REASONS)
    return (*named, f"unknown reason {unknown:#x}") if unknown else named


def is_throttled(mask: int) -> bool:
    """Whether clocks are held down by something that costs a task time."""
    return bool(mask & ~HARMLESS)
