"""The chunks of a PNG file, read without decoding its pixels."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO

__all__ = ["chunks", "inflate", "significant_bits"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNK = 16 << 20  # bytes of one that is read


def chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of each chunk that is whole, but for the pixels.

    Parameters
    ----------
    file : binary file
        Read from its beginning. If it is no PNG file, there are none.
    """
    file.seek(0)
    if file.read(8) != SIGNATURE:
        return
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4]), head[4:]
        if kind in (b"IDAT", b"fdAT") or length > MAX_CHUNK:
            file.seek(length + 4, 1)
            continue
        content, checksum = file.read(length), file.read(4)
        if checksum == zlib.crc32(kind + content).to_bytes(4):
            yield kind, content
        if kind == b"IEND":
            return


def inflate(data: bytes) -> bytes:
    """Return what was compressed; raise ValueError if it is broken or has more than 16 MB."""
    decompressor = zlib.decompressobj()
    try:
        content = decompressor.decompress(data, MAX_CHUNK)
    except zlib.error:
        raise ValueError("broken") from None
    if not decompressor.eof:
        raise ValueError("cut off, or too large")
    return content


def significant_bits(file: BinaryIO) -> int | None:
    """Return how many bits of a grey PNG file's pixels count (sBIT); None if it does not say."""
    for kind, content in chunks(file):
        if kind == b"sBIT" and len(content) in (1, 2):  # grey, or grey and alpha
            return content[0]
        if kind == b"PLTE":
            return None
    return None
