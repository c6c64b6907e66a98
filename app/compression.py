"""Bodies that come compressed, unpacked up to a bound: a small body may hide a huge one."""

import zlib

from fastapi import Request

from app.errors import ServiceError

_GZIP_WINDOW = 31  # zlib's word for "with a gzip header"


class UnsupportedEncodingError(ServiceError):
    status = 415
    code = "unsupported_encoding"


class UnpackedTooLargeError(ServiceError):
    status = 413
    code = "body_too_large"


class BrokenEncodingError(ServiceError):
    status = 400
    code = "broken_encoding"


async def unpacked_body(request: Request, *, bytes_max: int) -> bytes:
    """The request's body as it was before it was compressed.

    Raises:
        UnpackedTooLargeError: there is more of it than ``bytes_max``; no more was unpacked.
        BrokenEncodingError: it's not what its header says.
        UnsupportedEncodingError: another encoding than gzip.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    data = await request.body()
    if encoding == "identity":
        return data
    if encoding != "gzip":
        raise UnsupportedEncodingError(f"Content-Encoding {encoding!r} isn't known here: use gzip")
    unpacker = zlib.decompressobj(_GZIP_WINDOW)
    try:
        unpacked = unpacker.decompress(data, bytes_max)
    except zlib.error as error:
        raise BrokenEncodingError(f"the body is no gzip: {error}") from None
    if unpacker.unconsumed_tail:
        raise UnpackedTooLargeError(
            f"the body unpacks to more than the {bytes_max} bytes allowed here"
        )
    if not unpacker.eof or unpacker.unused_data:
        raise BrokenEncodingError("the body is no whole gzip member")
    return unpacked
