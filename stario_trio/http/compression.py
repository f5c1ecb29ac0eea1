"""Content codings for responses: which one a client wants (RFC 9110 section 12.5.3), and the bytes of it.

The libraries are loaded when the first app that offers their codings is made: importing the package loads none, and no
request waits for an import. A coding without its library is not offered; gzip is always there.
"""

from __future__ import annotations

import re
import sys
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Final

from stario_trio.exceptions import StarioError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CompressionConfig", "Compressor", "is_compressed", "negotiate"]

#: Characters of an Accept-Encoding that are read; browsers send about 30. A longer one gets no coding, which is always
#: right to send, and costs no work.
MAX_ACCEPT: Final = 1024

#: `OWS ";" OWS "q=" qvalue` without what stands around the `q` (RFC 9110 section 12.4.2).
WEIGHT: Final = re.compile(r"[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")

#: Other names for codings, which a recipient should take for the same (RFC 9110 section 8.4.1.3).
ALIASES: Final = {"x-gzip": "gzip"}

#: Content types whose bytes are compressed already, by their beginning; more work would make them no smaller.
COMPRESSED: Final = (
    b"image/",
    b"video/",
    b"audio/",
    b"font/woff",
    b"application/zip",
    b"application/gzip",
    b"application/x-gzip",
    b"application/zstd",
    b"application/x-brotli",
    b"application/brotli",
    b"application/x-7z-compressed",
    b"application/x-bzip",
    b"application/x-xz",
    b"application/x-rar-compressed",
    b"application/vnd.rar",
    b"application/pdf",
    b"application/java-archive",
    b"application/vnd.openxmlformats-",
    b"application/vnd.oasis.opendocument.",
)
#: The exceptions: images that are text, or rows of plain pixels.
UNCOMPRESSED_IMAGES: Final = frozenset({b"image/svg+xml", b"image/bmp", b"image/x-icon", b"image/vnd.microsoft.icon"})

#: Log2 of the bytes a stream remembers: 128 KiB, more than most pages, so that an event like the last one stays small.
#: It is kept for as long as a tab is open; more would make few streams smaller and every stream dearer.
BROTLI_STREAM_WINDOW: Final = 17
#: The same for zstd, and its tables. By default those are sized for megabytes: 800 KiB a stream at level 3, 80 MiB at
#: level 19. With these, repeated events become as small, in half the time.
ZSTD_STREAM: Final = {"window_log": 17, "hash_log": 14, "chain_log": 13}
#: Above this level zstd would make clients use more memory than the 8 MiB they must have (RFC 9659 section 3).
ZSTD_MODEST_LEVEL: Final = 19
ZSTD_MAX_WINDOW: Final = 23

#: zlib's largest window, 32 KiB, with 16 added for a gzip header and trailer.
GZIP_WINDOW: Final = 15 + 16


def negotiate(accept_encoding: str | None, offered: Sequence[str]) -> str | None:
    """Choose a content coding by the client's Accept-Encoding.

    The coding with the highest weight wins; among equals, the first one offered. `*` stands for what the field does not
    name, and a weight of 0 excludes. A member that breaks the grammar counts as absent, and of a coding that is named
    twice the lower weight counts.

    Args:
        accept_encoding: the value of the field, its lines joined by commas; None if there is none.
        offered: lower-case names of codings, the preferred one first.

    Returns:
        One of `offered`. None for no coding: the client accepts none of them, or names `identity` with a higher weight
        than any, or the field is longer than `MAX_ACCEPT` characters. No coding is also the answer where the client
        excludes everything (section 12.5.3 prefers it to an error).
    """
    if not accept_encoding or len(accept_encoding) > MAX_ACCEPT:
        return None
    weights: dict[str, float] = {}
    for member in accept_encoding.lower().split(","):
        name, semicolon, parameter = member.partition(";")
        name = name.strip(" \t")
        weight = 1.0
        if semicolon:
            match = WEIGHT.fullmatch(parameter.strip(" \t"))
            if match is None:
                continue
            weight = float(match[1])
        name = ALIASES.get(name, name)
        weights[name] = min(weight, weights.get(name, 1.0))
    rest = weights.get("*", 0.0)
    best = max(offered, key=lambda coding: weights.get(coding, rest), default=None)  # the first of equals
    if best is None:
        return None
    weight = weights.get(best, rest)
    # Only a named identity is a wish: `*` says that anything will do.
    return best if weight > 0 and weight >= weights.get("identity", 0.0) else None


def is_compressed(content_type: bytes) -> bool:
    """Whether bytes of this type are compressed already, as those of most images are."""
    if content_type.startswith((b"text/", b"application/json")):  # nearly all
        return False
    essence = content_type.partition(b";")[0].strip().lower()
    return (essence.startswith(COMPRESSED) or essence.endswith(b"+zip")) and essence not in UNCOMPRESSED_IMAGES


class Compressor(ABC):
    """One coding for one response: either `frame` once, or `block` for each piece and `finish` at the end.

    Args:
        level: as its library counts.
        min_size: bytes below which `compressible` says no.
    """

    __slots__ = ("_level", "_min_size", "_stream")

    encoding: ClassVar[bytes]
    """Its name in Content-Encoding."""

    def __init__(self, level: int, min_size: int) -> None:
        self._level = level
        self._min_size = min_size
        self._stream: Any = None

    def compressible(self, data: bytes) -> bool:
        """Whether a whole body is long enough."""
        return len(data) >= self._min_size

    @abstractmethod
    def frame(self, data: bytes) -> bytes:
        """The whole body, compressed."""

    @abstractmethod
    def block(self, data: bytes) -> bytes:
        """The next piece of a stream, flushed: a client can decode all of it at once."""

    @abstractmethod
    def finish(self) -> bytes:
        """The end of the stream, by which a client knows that it has everything."""


# The libraries are loaded late and are `Any` to a type checker; `bytes(...)` of bytes costs nothing and tells it.


class _Zstd(Compressor):
    """RFC 8878, within the bounds of RFC 9659."""

    __slots__ = ()
    encoding = b"zstd"

    def frame(self, data: bytes) -> bytes:
        library = _library("zstd")
        parameter = library.CompressionParameter
        options = {parameter.compression_level: self._level}
        if self._level > ZSTD_MODEST_LEVEL:
            options[parameter.window_log] = ZSTD_MAX_WINDOW
        return bytes(library.compress(data, options=options))

    def block(self, data: bytes) -> bytes:
        stream = self._open()
        return bytes(stream.compress(data, stream.FLUSH_BLOCK))

    def finish(self) -> bytes:
        return bytes(self._open().flush())

    def _open(self) -> Any:
        if self._stream is None:
            library = _library("zstd")
            parameter = library.CompressionParameter
            options = {parameter.compression_level: self._level}
            options |= {parameter[name]: value for name, value in ZSTD_STREAM.items()}
            self._stream = library.ZstdCompressor(options=options)
        return self._stream


class _Brotli(Compressor):
    """RFC 7932."""

    __slots__ = ()
    encoding = b"br"

    def frame(self, data: bytes) -> bytes:
        return bytes(_library("br").compress(data, quality=self._level))

    def block(self, data: bytes) -> bytes:
        stream = self._open()
        return bytes(stream.process(data) + stream.flush())

    def finish(self) -> bytes:
        return bytes(self._open().finish())

    def _open(self) -> Any:
        if self._stream is None:
            self._stream = _library("br").Compressor(quality=self._level, lgwin=BROTLI_STREAM_WINDOW)
        return self._stream


class _Gzip(Compressor):
    """RFC 1952; the time in its header stays 0, so equal bodies have equal bytes."""

    __slots__ = ()
    encoding = b"gzip"

    def frame(self, data: bytes) -> bytes:
        return zlib.compress(data, self._level, GZIP_WINDOW)

    def block(self, data: bytes) -> bytes:
        stream = self._open()
        return bytes(stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))

    def finish(self) -> bytes:
        return bytes(self._open().flush())

    def _open(self) -> Any:
        if self._stream is None:
            self._stream = zlib.compressobj(self._level, zlib.DEFLATED, GZIP_WINDOW)
        return self._stream


@dataclass(frozen=True, slots=True)
class CompressionConfig:
    """What an app offers to compress its responses with; zstd is preferred to brotli, and brotli to gzip.

    Raises:
        StarioError: names the first bad value and says what would be right.
    """

    min_size: int = 256
    """Bytes a whole body must have to be compressed. The events of a stream always are."""
    zstd_level: int = 3
    """1 (fast) to 22; 0 is zstd's own default, -1 offers no zstd."""
    brotli_level: int = 4
    """0 (fast) to 11; -1 offers no brotli. Above 5, it is too slow for responses that are made anew each time."""
    gzip_level: int = 6
    """1 (fast) to 9; 0 only wraps, -1 offers no gzip."""

    def __post_init__(self) -> None:
        """Check every value."""
        _check("min_size", self.min_size, 0, sys.maxsize, "Give a size in bytes, 0 or more.")
        for setting, most in (("zstd_level", 22), ("brotli_level", 11), ("gzip_level", 9)):
            _check(setting, getattr(self, setting), -1, most, f"Give a level from 0 to {most}, or -1 to switch it off.")

    def codings(self) -> list[str]:
        """What is on offer, by the names in Content-Encoding, the preferred one first.

        Codings that are switched off, or whose library is not installed, are left out.
        """
        return [name for name, level in self._levels().items() if level >= 0 and _library(name) is not None]

    def select(self, accept_encoding: str | None) -> Compressor | None:
        """A compressor for one response, by the request's Accept-Encoding; None for no coding (see `negotiate`)."""
        name = negotiate(accept_encoding, self.codings())
        return None if name is None else _COMPRESSORS[name](self._levels()[name], self.min_size)

    def _levels(self) -> dict[str, int]:
        return {"zstd": self.zstd_level, "br": self.brotli_level, "gzip": self.gzip_level}


def _check(setting: str, value: object, least: int, most: int, help_text: str) -> None:
    if type(value) is not int or not least <= value <= most:
        raise StarioError(f"Invalid {setting}", context={setting: value}, help_text=help_text)


_COMPRESSORS: Final[dict[str, type[Compressor]]] = {"zstd": _Zstd, "br": _Brotli, "gzip": _Gzip}

_LIBRARIES: Final = {
    "zstd": "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd",
    "br": "brotli",
    "gzip": "zlib",
}

#: What `_library` has found. Two threads that look for the same at the same time store the same.
_found: Final[dict[str, Any]] = {}


def _library(coding: str) -> Any:
    """The module that knows the coding, or None."""
    try:
        return _found[coding]
    except KeyError:
        try:
            module = import_module(_LIBRARIES[coding])
        except ImportError:
            module = None
        _found[coding] = module
        return module
