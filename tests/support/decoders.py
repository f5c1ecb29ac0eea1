"""The other side of `stario_trio.http.compression`: decoders that say whether a stream is complete."""

from __future__ import annotations

import sys
import zlib
from importlib import import_module
from typing import Any

import pytest

__all__ = ["CODINGS", "Decoder", "decode", "library_of"]


def library_of(coding: str) -> Any:
    """The module for a coding, None if it is not installed."""
    zstd = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    try:
        return import_module({"zstd": zstd, "br": "brotli", "gzip": "zlib"}[coding])
    except ImportError:
        return None


CODINGS = [
    pytest.param(
        coding, marks=pytest.mark.skipif(library_of(coding) is None, reason=f"no library for {coding} is installed")
    )
    for coding in ("zstd", "br", "gzip")
]
"""Each coding, as a parameter of a test; one without a library is skipped."""


class Decoder:
    """Reads one stream, piece by piece."""

    def __init__(self, coding: str) -> None:
        library = library_of(coding)
        if coding == "gzip":
            self._decoder: Any = zlib.decompressobj(31)
        else:
            self._decoder = library.ZstdDecompressor() if coding == "zstd" else library.Decompressor()

    def feed(self, data: bytes | bytearray) -> bytes:
        """All that `data` makes readable."""
        if not data:
            return b""
        read = getattr(self._decoder, "process", None) or self._decoder.decompress
        return bytes(read(data))

    @property
    def ended(self) -> bool:
        """Whether the end of the stream was there."""
        if hasattr(self._decoder, "is_finished"):
            return bool(self._decoder.is_finished())
        return bool(self._decoder.eof)

    @property
    def rest(self) -> bytes:
        """What came behind the end."""
        return bytes(getattr(self._decoder, "unused_data", b""))


def decode(coding: str, data: bytes | bytearray) -> bytes:
    """The content of one whole stream, and nothing behind it."""
    decoder = Decoder(coding)
    content = decoder.feed(data)
    assert decoder.ended, "cut short"
    assert decoder.rest == b""
    return content
