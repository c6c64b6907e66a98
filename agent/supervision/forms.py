"""The JSON files by which an agent and a shim talk, whole on disk or not there at all."""

# ruff: noqa: PTH105, PTH108

import os
from _json import encode_basestring_ascii as _quoted
from _json import make_scanner as _make_scanner

Form = dict  # of JSON; typing itself would cost each shim half a MiB

_MODE = 0o600
_CHUNK_BYTES = 65_536
# More than any form that a shim writes, save for the longest of reasons.
_ROOM_BYTES = 4096


class _Plain:
    """JSON as it is, to values as they are: what ``json.JSONDecoder`` tells its scanner."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


_scan = _make_scanner(_Plain)  # pyright: ignore[reportArgumentType]  any object with these will do


def read(name: str) -> Form:
    """One form.

    Raises:
        OSError: there is none, or it can't be read.
        ValueError: it isn't one.
    """
    text = read_bytes(name).decode()
    try:
        form, _ = _scan(text.strip(), 0)
    except (StopIteration, ImportError) as error:  # it imports `json` for the words of an error
        raise ValueError(f"{name} is not JSON") from error
    if not isinstance(form, dict):
        raise ValueError(f"{name} is not a form")  # noqa: TRY004  the caller asks for one fault
    return form


def read_if_there(name: str) -> Form | None:
    """One form; None while it can't be had: whoever needs it looks again."""
    try:
        return read(name)
    except (OSError, ValueError):
        return None


def read_bytes(name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY)
    try:
        return read_all(fd)
    finally:
        os.close(fd)


def read_all(fd: int) -> bytes:
    """What can be read until its end."""
    parts = []
    while part := os.read(fd, _CHUNK_BYTES):
        parts.append(part)
    return b"".join(parts)


def reserve(name: str) -> None:
    """Take the room on disk that :func:`write` will need for this form.

    The program may have filled the disk by the time that it ends, and its exit code must not be
    lost for that.
    """
    _put(name + ".new", b" " * _ROOM_BYTES)


def write(name: str, form: Form) -> None:
    """Put a form on disk for good; what was there before goes when this one is whole."""
    _put(name + ".new", _encoded(form))
    os.replace(name + ".new", name)
    _sync_directory()


def write_if_none(name: str, form: Form) -> None:
    """Put a form on disk unless there is one already, of whoever was faster."""
    _put(name + ".mine", _encoded(form))
    try:
        os.link(name + ".mine", name)
    finally:
        os.unlink(name + ".mine")
    _sync_directory()


def _put(name: str, data: bytes) -> None:
    """Not truncated before it's written: the room that was reserved is used, not given back."""
    fd = os.open(name, os.O_CREAT | os.O_WRONLY, _MODE)
    try:
        rest = data
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.ftruncate(fd, len(data))
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_directory() -> None:
    directory = os.open(".", os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _encoded(form: Form) -> bytes:
    pairs = (f"{_quoted(name)}: {_value(value)}" for name, value in form.items())
    return ("{" + ", ".join(pairs) + "}").encode()


def _value(value: "str | float | bool | None") -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _quoted(value) if isinstance(value, str) else repr(value)
