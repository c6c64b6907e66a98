"""Rows as CSV, as an Arrow stream or as Parquet, piece by piece."""

import csv
import io
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Protocol, assert_never

from app.db.samples.pages import NAMES
from app.db.samples.tables import Kind
from app.errors import ServiceError

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A text that begins so is a formula to a spreadsheet: one quote before it makes it text again."""


class Format(StrEnum):
    CSV = "csv"
    ARROW = "arrow"
    PARQUET = "parquet"


MEDIA_TYPES = {
    Format.CSV: "text/csv; charset=utf-8",
    Format.ARROW: "application/vnd.apache.arrow.stream",
    Format.PARQUET: "application/vnd.apache.parquet",
}


class NotInstalledError(ServiceError):
    status = 501
    code = "not_installed"


class Encoder(Protocol):
    """Gives bytes for rows; the pieces in their order are the file."""

    def start(self) -> bytes: ...

    def rows(self, rows: Sequence[Sequence[Any]]) -> bytes: ...

    def end(self) -> bytes: ...


def encoder(format_: Format, kind: Kind, columns: Sequence[str]) -> Encoder:
    """An encoder for rows of these columns.

    Raises:
        NotInstalledError: the format needs a package that isn't there.
    """
    match format_:
        case Format.CSV:
            return _Csv(columns)
        case Format.ARROW | Format.PARQUET:
            try:
                import pyarrow  # noqa: PLC0415  large, and only wanted here
            except ImportError:
                raise NotInstalledError(
                    f"{format_.value} needs the package pyarrow where the service runs: install "
                    "stowplan[server], or ask for format=csv"
                ) from None
            schema = pyarrow.schema([(name, _arrow_type(pyarrow, kind, name)) for name in columns])
            return _Arrow(schema) if format_ is Format.ARROW else _Parquet(schema)
        case _:
            assert_never(format_)


def _arrow_type(pyarrow: Any, kind: Kind, name: str) -> Any:
    if name in NAMES:
        return pyarrow.string()
    whole = {"taken_at_ms", "readings", *(c.name for c in kind.columns if c.whole)}
    return pyarrow.int64() if name in whole else pyarrow.float64()


class _Csv:
    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns

    def start(self) -> bytes:
        return self._written([self._columns])

    def rows(self, rows: Sequence[Sequence[Any]]) -> bytes:
        names = len(NAMES)
        return self._written([(*map(_as_text, row[:names]), *row[names:]) for row in rows])

    def end(self) -> bytes:
        return b""

    def _written(self, rows: Sequence[Sequence[Any]]) -> bytes:
        text = io.StringIO()
        csv.writer(text).writerows(rows)
        return text.getvalue().encode()


def _as_text(name: str) -> str:
    return f"'{name}" if name.startswith(_FORMULA) else name


class _Pipe(io.RawIOBase):
    """A file that is only written; what was is taken out piece by piece."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self._at += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._at

    def taken(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


class _Arrow:
    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._pipe = _Pipe()
        self._writer: Any = None

    def start(self) -> bytes:
        import pyarrow  # noqa: PLC0415

        self._writer = pyarrow.ipc.new_stream(self._pipe, self._schema)
        return self._pipe.taken()

    def rows(self, rows: Sequence[Sequence[Any]]) -> bytes:
        self._writer.write_table(_table(self._schema, rows))
        return self._pipe.taken()

    def end(self) -> bytes:
        self._writer.close()
        return self._pipe.taken()


class _Parquet(_Arrow):
    def start(self) -> bytes:
        from pyarrow import parquet  # noqa: PLC0415

        self._writer = parquet.ParquetWriter(self._pipe, self._schema, compression="zstd")
        return self._pipe.taken()


def _table(schema: Any, rows: Sequence[Sequence[Any]]) -> Any:
    import pyarrow  # noqa: PLC0415

    columns = zip(*rows, strict=True)
    arrays = [
        pyarrow.array(values, field.type) for values, field in zip(columns, schema, strict=True)
    ]
    return pyarrow.Table.from_arrays(arrays, schema=schema)
