"""How commands show what they were asked for: data on standard output, everything else on standard
error.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, assert_never

from client.errors import StowplanError


class Format(StrEnum):
    """What ``-o`` takes."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Columns and rows of text, before anything is known of the screen. Each row has a cell a
    column.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{len(row)} cells for {len(self.columns)} columns: {row}")


STATE_STYLES = {
    "succeeded": "green",
    "running": "cyan",
    "starting": "cyan",
    "ready": "green",
    "pending": "yellow",
    "stopping": "yellow",
    "unreachable": "yellow",
    "failed": "red",
    "lost": "red",
    "cancelled": "dim",
}


def show(data: Any, output: Format, *, table: Table) -> None:
    """Print ``data`` as JSON or YAML, or its ``table``."""
    if not _shown_as_data(data, output):
        print_table(table)


def show_tables(data: Any, output: Format, *, tables: Sequence[Table]) -> None:
    """Print ``data`` as JSON or YAML, or several tables about it, a blank line between."""
    if _shown_as_data(data, output):
        return
    for number, table in enumerate(tables):
        if number:
            sys.stdout.write("\n")
        print_table(table)


def show_lines(data: Any, output: Format, *, lines: Sequence[str]) -> None:
    """Print ``data`` as JSON or YAML, or ``lines`` of text about it."""
    if not _shown_as_data(data, output):
        sys.stdout.write("".join(f"{line}\n" for line in lines))


def _shown_as_data(data: Any, output: Format) -> bool:
    match output:
        case Format.JSON:
            print_json(data)
            return True
        case Format.YAML:
            import yaml

            sys.stdout.write(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
            return True
        case Format.TABLE | Format.WIDE:
            return False
        case _:
            assert_never(output)


def print_json(data: Any) -> None:
    """Print as JSON that a person can read too."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def print_table(table: Table) -> None:
    """Print a table: with colours and folded cells on a terminal, one line a row anywhere else."""
    if not sys.stdout.isatty():
        sys.stdout.write(plain(table))
        return
    from rich.console import Console

    Console().print(rich_table(table))


def rich_table(table: Table) -> Any:
    """The table for a rich console. Only the last column folds; the others are never cut."""
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in table.columns:
        last = name == table.columns[-1]
        shown.add_column(name, no_wrap=not last, overflow="fold" if last else "ellipsis")
    for row in table.rows:
        shown.add_row(*(Text(cell, style=_style(cell)) for cell in row))
    return shown


def plain(table: Table) -> str:
    """The table as text: columns padded to their widest cell, two spaces between, no trailing
    blanks.
    """
    lines = [table.columns, *(tuple(_one_line(cell) for cell in row) for row in table.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.columns))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in lines
    )


def _style(cell: str) -> str:
    return STATE_STYLES.get(cell.partition(",")[0], "")


def _one_line(cell: str) -> str:
    return " ".join(cell.split())


def say(text: str) -> None:
    """Tell the person something that isn't the data they asked for."""
    sys.stderr.write(text + "\n")


def complain(error: StowplanError) -> None:
    """Print an error: what is wrong, then every fault on a line of its own."""
    for line in error_lines(error):
        say(line)


def error_lines(error: StowplanError) -> Sequence[str]:
    """The error as lines: ``stowplan: ...`` and then ``  path: value: reason`` for each fault."""
    return [f"stowplan: {error.detail}", *(f"  {fault}" for fault in error.faults)]
