"""`stowplan probe` over the stand-in NVML: one document, and the tables that are made of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from client.commands import agent, node
from client.output import Table, plain
from client.probe_view import probe_tables, reading_text
from telemetry.columns import DEVICE
from tests.nvml.build import CONSUMER_CARD, EIGHT_GPUS, MIG_BOX, PCIE_BOX, build, write_script

cli = typer.Typer(pretty_exceptions_enable=False)
node.register(cli)
agent.register(cli)

Probe = Callable[..., str]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return build(tmp_path_factory.mktemp("nvml"))
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture
def probe(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Probe:
    """Runs the command over a world; one look is enough for most."""

    def run(world: tuple[str, ...], *options: str) -> str:
        write_script(tmp_path / "script", *world)
        monkeypatch.setenv("STANDIN_NVML_SCRIPT", str(tmp_path / "script"))
        options = options or ("--wait", "0")
        result = CliRunner().invoke(cli, ["probe", "--nvml-library", str(library), *options])
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


def section(text: str, first: str) -> list[str]:
    """The lines of the table whose first column has this name, without its head."""
    [found] = [part for part in text.split("\n\n") if part.startswith(first + " ")]
    return found.splitlines()[1:]


def test_table_has_every_part_of_a_machine(probe: Probe) -> None:
    text = probe(PCIE_BOX)
    heads = [part.split(maxsplit=1)[0] for part in text.split("\n\n")]
    wanted = ["HOST", "DEVICE", "TOPOLOGY", "LINK", "READING", "NOT"]
    assert [head for head in heads if head not in {"DISK", "NETWORK"}] == wanted
    assert max(len(line) for line in text.splitlines()) <= 100


def test_topology_is_a_matrix_with_a_legend_of_the_words_in_it(probe: Probe) -> None:
    text = probe(PCIE_BOX)
    assert [line.split() for line in section(text, "TOPOLOGY")] == [
        ["GPU", "0", "X", "PIX", "NODE", "SYS"],
        ["GPU", "1", "PIX", "X", "SYS", "SYS"],
        ["GPU", "2", "NODE", "SYS", "X", "PXB"],
        ["GPU", "3", "SYS", "SYS", "PXB", "X"],
    ]
    assert [line.split()[0] for line in section(text, "LINK")] == ["PIX", "PXB", "NODE", "SYS"]


def test_documents_example_is_what_the_command_prints(probe: Probe) -> None:
    page = (Path(__file__).parents[3] / "docs/probe.md").read_text()
    parts = probe((*PCIE_BOX, "process 0 4242 900", "used 0 4242 87")).split("\n\n")
    stable = [
        part.rstrip() for part in parts if part.startswith(("DEVICE", "TOPO", "LINK", "PROC"))
    ]
    assert len(stable) == 4
    assert [part for part in stable if part not in page] == []


def test_readings_of_many_devices_fit_the_line_in_two_tables(probe: Probe) -> None:
    text = probe(EIGHT_GPUS)
    parts = [part for part in text.split("\n\n") if part.startswith("READING")]
    assert [part.splitlines()[0].split()[-1] for part in parts] == ["5", "7"]
    assert max(len(line) for line in text.splitlines()) <= 100
    assert section(text, "PROCESS")[0].split() == ["4242", "GPU", "0", "1.0", "GiB", "87%"]


def test_what_a_device_has_no_sensor_for_is_said(probe: Probe) -> None:
    gaps = dict(line.split(maxsplit=1) for line in section(probe(CONSUMER_CARD), "NOT KNOWN"))
    assert gaps["ecc_corrected"] == "no such sensor: GPU 0"
    assert "fan_percent" not in gaps


def test_sensors_that_all_devices_lack_are_named_once(probe: Probe) -> None:
    gaps = section(probe(EIGHT_GPUS), "NOT KNOWN")
    assert "no such sensor: all devices" in [line.split(maxsplit=1)[1] for line in gaps]


def test_wide_tells_which_gpu_a_mig_device_is_a_part_of(probe: Probe) -> None:
    assert "MIG-a" not in probe(MIG_BOX)
    first, _, whole = section(probe(MIG_BOX, "--wait", "0", "-o", "wide"), "IDENTITY")
    assert first.split()[2] == "MIG-a"
    assert first.split()[-1] == "GPU-0"
    assert whole.split()[-1] == "-"


@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_document_has_all_that_was_measured(
    probe: Probe, form: str, read: Callable[[str], Any]
) -> None:
    document = read(probe(EIGHT_GPUS, "--wait", "0", "-o", form))
    assert {"inventory", "host", "devices", "events", "faults", "missing"} <= document.keys()
    assert len(document["inventory"]["devices"][0]["links"]) == 7
    assert document["devices"][0]["processes"] == [
        {"pid": 4242, "memory_mib": 1024, "utilization_percent": 87}
    ]
    assert document["host"]["disks"] is not None
    columns = {column.source for column in DEVICE}
    assert columns <= document["devices"][7].keys()
    unknown = {name for name, value in document["host"].items() if value is None}
    assert unknown == {field for gap in document["missing"] for field in gap["fields"]}


def test_sensors_that_compare_two_looks_are_waited_for(probe: Probe) -> None:
    """GPM's second look at the first of eight devices is due after 0.6 s, at the last after 5 s."""
    once = json.loads(probe(EIGHT_GPUS, "--wait", "0", "-o", "json"))
    later = json.loads(probe(EIGHT_GPUS, "--wait", "1", "-o", "json"))
    assert once["devices"][0]["sm_active_percent"] is None
    assert later["devices"][0]["sm_active_percent"] == 61


def test_device_that_fell_off_the_bus_is_shown_with_its_fault() -> None:
    result = CliRunner().invoke(cli, ["probe", "--simulated-devices", "2", "-o", "json"])
    document = json.loads(result.stdout)
    document["inventory"]["devices"][1] |= {"healthy": False, "fault": "GPU is lost"}
    del document["devices"][1]
    [devices] = [t for t in probe_tables(document, wide=False) if t.columns[0] == "DEVICE"]
    assert [row[-1] for row in devices.rows] == ["healthy", "unhealthy: GPU is lost"]
    assert devices.rows[1][3] == "-"


def test_machine_whose_host_could_not_be_read_says_so() -> None:
    document = json.loads(CliRunner().invoke(cli, ["probe", "--no-nvml", "-o", "json"]).stdout)
    broken = document | {"host": None, "missing": [], "faults": ["host: no answer within 5 s"]}
    tables = probe_tables(broken, wide=False)
    assert [table.columns[0] for table in tables] == ["HOST", "NOT KNOWN"]
    assert "host: no answer within 5 s" in plain(tables[1])


def test_tables_have_rows_only() -> None:
    document = json.loads(CliRunner().invoke(cli, ["probe", "--no-nvml", "-o", "json"]).stdout)
    tables: list[Table] = probe_tables(document, wide=True)
    assert all(table.rows for table in tables)


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("read_bytes", 3 << 30, "3.0 GiB"),
        ("memory_mib", 512.4, "512 MiB"),
        ("busy_seconds", 65.0, "1m05s"),
        ("utilization_percent", 12.5, "12.5%"),
        ("power_watts", 300.0, "300 W"),
        ("temperature_celsius", 41, "41 °C"),
        ("clock_sm_mhz", 1980, "1980 MHz"),
        ("energy_joules", 900.0, "900 J"),
        ("energy_joules", 3.6e6, "1.000 kWh"),
        ("throttle_reasons", 132, "0x84"),
        ("pcie_width", 16, "16"),
        ("pcie_width", None, "-"),
    ],
)
def test_reading_is_shown_in_the_unit_of_its_name(
    field: str, value: float | None, text: str
) -> None:
    assert reading_text(field, value) == text
