"""What tells a file from another one that comes to its path later."""

from __future__ import annotations

import os
from hashlib import blake2b
from typing import BinaryIO, Final, NamedTuple

__all__ = ["CHUNK_BYTES", "Identity", "digest_of", "identity_of"]

#: 64 bits, 16 hexadecimal digits: as long as upstream's xxHash64, from the standard library.
_DIGEST_BYTES: Final = 8
CHUNK_BYTES: Final = 4 * 1024 * 1024


class Identity(NamedTuple):
    """Two that are equal are of the same content.

    The device is no part of it: a network file system that is mounted again (by an automounter) gets another number.
    """

    inode: int = 0
    size: int = 0
    """Bytes."""
    mtime_ns: int = 0
    """Modification time."""
    ctime_ns: int = 0
    """Nobody can set it, so it tells of what keeps the time of modification (`cp -p` over the file). But it changes
    with the mode, the owner and the number of hard links as well, so only the content can tell what has happened."""


def identity_of(fd: int) -> Identity:
    """The identity of an open file, as it is now."""
    stat = os.fstat(fd)
    return Identity(stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def digest_of(file: BinaryIO, chunk_size: int = CHUNK_BYTES) -> str:
    """The hash of what is left to read: BLAKE2b of 8 bytes, as 16 lower-case hexadecimal digits.

    Args:
        file: open for reading.
        chunk_size: bytes read at a time.

    Raises:
        OSError: it cannot be read.
    """
    hasher = blake2b(digest_size=_DIGEST_BYTES, usedforsecurity=False)
    while chunk := file.read(chunk_size):
        hasher.update(chunk)
    return hasher.hexdigest()
