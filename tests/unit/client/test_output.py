"""Data on standard output, and nothing else there."""

import json

import pytest
import yaml
from rich.console import Console

from client.errors import Fault, InvalidInputError
from client.output import Format, Table, error_lines, plain, rich_table, show, show_lines

TABLE = Table(columns=("ID", "WHY"), rows=(("t-1", "waits:\nno room"), ("t-22", "")))
DATA = [{"id": "t-1", "name": "größe"}]


def test_plain_table_has_one_line_a_row_and_aligned_columns() -> None:
    assert plain(TABLE) == "ID    WHY\nt-1   waits: no room\nt-22\n"


def test_row_with_a_missing_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        Table(columns=("A", "B"), rows=(("x",),))


def test_markup_in_a_name_is_shown_as_it_is() -> None:
    console = Console(width=80)
    with console.capture() as capture:
        console.print(rich_table(Table(columns=("NAME",), rows=(("[red]x[/red]",),))))
    assert "[red]x[/red]" in capture.get()


@pytest.mark.parametrize(
    ("output", "read"), [(Format.JSON, json.loads), (Format.YAML, yaml.safe_load)]
)
def test_data_formats_give_the_servers_data_back(
    output: Format, read, capsys: pytest.CaptureFixture[str]
) -> None:
    show(DATA, output, table=TABLE)
    printed = capsys.readouterr()
    assert read(printed.out) == DATA
    assert "größe" in printed.out
    assert printed.err == ""


def test_lines_are_for_people_and_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    show_lines({"a": 1}, Format.TABLE, lines=["one", "two"])
    assert capsys.readouterr().out == "one\ntwo\n"
    show_lines({"a": 1}, Format.JSON, lines=["one", "two"])
    assert json.loads(capsys.readouterr().out) == {"a": 1}


def test_every_fault_has_a_line_with_path_value_and_reason() -> None:
    error = InvalidInputError(
        "2 faults",
        faults=[
            Fault(path="request.gpus", value=-1, reason="must not be negative"),
            Fault(path="name", value="a\nb" + "x" * 500, reason="too long"),
        ],
    )
    first, gpus, name = error_lines(error)
    assert first == "stowplan: 2 faults"
    assert gpus == "  request.gpus: -1: must not be negative"
    assert name.startswith("  name: 'a\\nb")
    assert name.endswith("...: too long")
    assert len(name) < 250
