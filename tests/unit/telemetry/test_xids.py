"""Whose error an Xid is."""

import pytest

from telemetry.xids import XidClass, classify, describe


@pytest.mark.parametrize("code", [13, 31, 43, 45, 68, 109])
def test_a_programs_mistake_leaves_the_device_healthy(code: int) -> None:
    assert classify(code) is XidClass.APPLICATION


@pytest.mark.parametrize("code", [48, 63, 74, 79, 95, 119, 154])
def test_a_devices_trouble_is_the_hardwares(code: int) -> None:
    assert classify(code) is XidClass.HARDWARE


def test_a_number_that_nobody_knows_is_the_hardwares() -> None:
    assert classify(9999) is XidClass.HARDWARE
    assert describe(9999) == "Xid 9999: unknown error (hardware)"


def test_an_xid_is_said_in_words() -> None:
    assert describe(31) == "Xid 31: memory page fault (application)"
