"""What a directory holds for the web: found once, hashed, and, if small, kept in memory with compressed variants."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stario_trio.exceptions import StarioError
from stario_trio.http.compression import CompressionConfig
from stario_trio.http.staticassets.identity import CHUNK_BYTES, Identity, digest_of, identity_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CONTENT_TYPES", "CachedFile", "fingerprint", "load", "published_files"]

#: By lower-case suffix.
CONTENT_TYPES: Final[dict[str, bytes]] = {
    ".html": b"text/html; charset=utf-8",
    ".htm": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"application/javascript; charset=utf-8",
    ".mjs": b"application/javascript; charset=utf-8",
    ".json": b"application/json; charset=utf-8",
    ".xml": b"application/xml; charset=utf-8",
    ".txt": b"text/plain; charset=utf-8",
    ".md": b"text/markdown; charset=utf-8",
    ".png": b"image/png",
    ".jpg": b"image/jpeg",
    ".jpeg": b"image/jpeg",
    ".gif": b"image/gif",
    ".svg": b"image/svg+xml; charset=utf-8",
    ".ico": b"image/x-icon",
    ".webp": b"image/webp",
    ".avif": b"image/avif",
    ".woff": b"font/woff",
    ".woff2": b"font/woff2",
    ".ttf": b"font/ttf",
    ".otf": b"font/otf",
    ".eot": b"application/vnd.ms-fontobject",
    ".pdf": b"application/pdf",
    ".zip": b"application/zip",
    ".gz": b"application/gzip",
    ".br": b"application/brotli",
    ".mp3": b"audio/mpeg",
    ".mp4": b"video/mp4",
    ".webm": b"video/webm",
    ".wasm": b"application/wasm",
}
_UNKNOWN_TYPE: Final = b"application/octet-stream"

#: What is compressed already, by suffix: trying would only make the start longer.
_COMPRESSED: Final = frozenset(
    {
        *(".gz", ".br", ".zst", ".zip", ".7z", ".rar", ".tar"),
        *(".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif"),
        *(".mp3", ".mp4", ".webm", ".ogg", ".flac"),
        *(".woff", ".woff2", ".pdf"),
    }
)

#: Names that begin with a dot are not for the web (`.git`, `.env`), but for the one that is (RFC 8615).
_PUBLIC_DOT_NAME: Final = ".well-known"


@dataclass(slots=True)
class CachedFile:
    """One file as it is served.

    A small file is here with its content, a large one with its path. The fields from `etag` on are not upstream's.
    """

    size: int
    """Bytes of the content itself."""
    content_type: bytes
    content: bytes | None = None
    """None for a large file."""
    path: Path | None = None
    """None for a small file."""
    zstd: bytes | None = None
    """The compressed variants; None where it would not be smaller, or cannot be made."""
    brotli: bytes | None = None
    gzip: bytes | None = None
    etag: bytes = b""
    """Of the content itself, with its quotes; each variant has its own (see `etag_of`)."""
    modified: int = 0
    """Unix seconds of the last modification."""
    last_modified: bytes = b""
    """The same as an HTTP date."""
    known: tuple[Identity, ...] = ()
    """What the file at `path` is if it has this content, the last found first."""
    refused: Identity | None = None
    """The last one that was found with another content."""
    variants: dict[str, bytes] = field(init=False, repr=False)
    """The compressed variants by coding, the preferred one first."""
    codings: tuple[str, ...] = field(init=False)
    """Their names."""

    def __post_init__(self) -> None:
        """Collect the variants."""
        found = {"zstd": self.zstd, "br": self.brotli, "gzip": self.gzip}
        self.variants = {coding: body for coding, body in found.items() if body is not None}
        self.codings = tuple(self.variants)

    def etag_of(self, coding: str | None) -> bytes:
        """The strong entity tag of one variant (RFC 9110 section 8.8.3.3), or of the content itself."""
        return self.etag if coding is None else b'%s-%s"' % (self.etag[:-1], coding.encode())


def fingerprint(path: Path, *, chunk_size: int = CHUNK_BYTES) -> str:
    """The hash of a file's content: BLAKE2b of 8 bytes, as 16 lower-case hexadecimal digits.

    Args:
        path: of the file.
        chunk_size: bytes read at a time.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return digest_of(file, chunk_size)


def published_files(directory: Path) -> Iterator[tuple[Path, Path]]:
    """Find what a resolved directory publishes, in a fixed order.

    Left out are hidden files and directories, but for `.well-known`; links to directories, and links to files outside
    of the directory; what is no regular file; and names that are not UTF-8, which no URL can ask for here.

    Yields:
        The path relative to the directory, and the absolute one without links.

    Raises:
        OSError: a directory cannot be read.
    """
    for folder, subfolders, names in os.walk(directory, onerror=_raise):
        subfolders[:] = sorted(name for name in subfolders if _is_public(name))
        for name in sorted(filter(_is_public, names)):
            path = Path(folder, name)
            target = Path(os.path.realpath(path))  # `Path.resolve` raises for a link to itself
            if target.is_relative_to(directory) and target.is_file():
                yield path.relative_to(directory), target


def _raise(error: OSError) -> None:
    raise error


def _is_public(name: str) -> bool:
    if name.startswith(".") and name != _PUBLIC_DOT_NAME:
        return False
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def load(path: Path, suffix: str, cache_max_size: int) -> tuple[str, CachedFile]:
    """Read a file: for good if it is small, otherwise only to know it again.

    Args:
        path: without links.
        suffix: of its public name.
        cache_max_size: bytes; a larger file stays on the disk.

    Returns:
        Its fingerprint and what is served.

    Raises:
        OSError: it cannot be read.
    """
    suffix = suffix.lower()  # BUG 53
    content_type = CONTENT_TYPES.get(suffix, _UNKNOWN_TYPE)
    with path.open("rb") as file:
        # Taken before the hash: a file that changes meanwhile is not taken for the hashed one later.
        identity = identity_of(file.fileno())
        size = identity.size
        # No later than now, and so than the Date of any response (RFC 9110 section 8.8.2.1).
        modified = min(max(identity.mtime_ns // 10**9, 0), int(time.time()))
        content = None
        variants = dict[str, bytes]()
        if size > cache_max_size:
            digest = digest_of(file)
        else:
            content = file.read()
            size = len(content)
            digest = digest_of(BytesIO(content))
            if suffix not in _COMPRESSED:
                variants = _compress(content)
    return digest, CachedFile(
        size,
        content_type,
        content,
        path if content is None else None,
        variants.get("zstd"),
        variants.get("br"),
        variants.get("gzip"),
        etag=b'"%s"' % digest.encode(),
        modified=modified,
        last_modified=formatdate(modified, usegmt=True).encode(),
        known=(identity,),
    )


def _compress(content: bytes) -> dict[str, bytes]:
    """The variants that are smaller than the content itself, with the levels of `CompressionConfig`."""
    config = CompressionConfig()
    variants = dict[str, bytes]()
    for coding in config.codings():
        compressor = config.select(coding)
        assert compressor is not None, "on offer"
        if compressor.compressible(content):
            variant = compressor.frame(content)
            if len(variant) < len(content):
                variants[coding] = variant
    return variants


def load_all(directory: Path, cache_max_size: int) -> Iterator[tuple[Path, str, CachedFile]]:
    """Load everything a resolved directory publishes.

    Yields:
        The path relative to the directory, the fingerprint, and what is served.

    Raises:
        StarioError: something cannot be read.
    """
    try:
        for relative, path in published_files(directory):
            digest, file = load(path, relative.suffix, cache_max_size)
            yield relative, digest, file
    except OSError as exc:
        raise StarioError(
            "Static file cannot be read",
            context={"path": exc.filename or str(directory), "error": exc.strerror},
            help_text="Let the server's user read it, or move it out of the directory.",
        ) from exc
