"""Gaps in a sample of a host are explained."""

from dataclasses import fields
from pathlib import Path

import pytest

from telemetry.probes.host import HostReader
from telemetry.probes.host_sources import missing_sources
from telemetry.samples import HostSample
from tests.machine import LEAST, machine


def test_every_field_that_can_be_unknown_has_a_source(tmp_path: Path) -> None:
    optional = {field.name: None for field in fields(HostSample) if field.default is None}
    required = dict.fromkeys(
        (field.name for field in fields(HostSample) if field.name not in optional), 0
    )
    nothing = HostSample(**(required | {"disks": (), "networks": ()} | optional))  # type: ignore[arg-type]
    found = [name for gap in missing_sources(nothing, root=tmp_path) for name in gap.fields]
    assert sorted(found) == sorted({*optional} - {"disk_total_mib", "disk_free_mib"})


def test_only_what_is_unknown_is_named(tmp_path: Path) -> None:
    pressure = {"proc/pressure/cpu": "some avg10=1.00 avg60=0 avg300=0 total=1\n"}
    root = machine(tmp_path, LEAST | pressure)
    gaps = missing_sources(HostReader(disk=root, root=root).sample(), root=root)
    sources = [gap.source for gap in gaps]
    assert "/proc/pressure/memory" in sources
    assert "/proc/pressure/cpu" not in sources
    assert "/proc/stat" not in sources


def test_file_that_may_not_be_read_is_told_from_one_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = machine(tmp_path, LEAST | {"proc/pressure/io": ""})
    sample = HostReader(disk=root, root=root).sample()
    (root / "proc/pressure/io").chmod(0)
    reasons = {gap.source: gap.reason for gap in missing_sources(sample, root=root)}
    assert "PSI" in reasons["/proc/pressure/memory"]
    if (root / "proc/pressure/io").stat().st_uid != 0:  # root may read everything
        assert reasons["/proc/pressure/io"] == "no right to read it"
