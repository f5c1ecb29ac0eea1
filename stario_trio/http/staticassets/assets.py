"""The handler that serves a directory, and where to find its names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from stario_trio.exceptions import StarioError
from stario_trio.http.coding import accept_encoding, vary_by_coding
from stario_trio.http.compression import negotiate
from stario_trio.http.headers import encode_value
from stario_trio.http.staticassets.conditions import failed_precondition, requested_range, same_as_before
from stario_trio.http.staticassets.disk import DiskFile
from stario_trio.http.staticassets.files import load_all
from stario_trio.http.staticassets.threads import DiskThreads
from stario_trio.http.unmatched import location, not_found

if TYPE_CHECKING:
    from stario_trio.http.headers import Headers
    from stario_trio.http.request import Request
    from stario_trio.http.staticassets.files import CachedFile
    from stario_trio.http.types import Context
    from stario_trio.http.writer import Writer

__all__ = ["REGISTRY", "StaticAssets", "asset"]

# The name of a file changes with its content, so a browser need never ask again (RFC 8246).
_FOR_A_YEAR: Final = "public, max-age=31536000, immutable"
_MEBIBYTE: Final = 1024 * 1024
#: Bytes up to which a body is joined to its head, which saves a call of the kernel. A larger one is never copied: all
#: peers that take their time wait for the same bytes.
_ONE_SEND: Final = 64 * 1024
#: Seconds until a client is told that its file cannot be read now, and how long it is told to wait. A disk that slept
#: has woken up by then, and proxies in front of a server mostly wait for 60.
_DISK_PATIENCE: Final = 30
#: Names shown when one is not found.
_SHOWN: Final = 5

#: Collections by name. Set and read one key at a time, which needs no lock, also on free-threaded builds.
REGISTRY: Final[dict[str, StaticAssets]] = {}


def asset(filename: str, collection: str = "static") -> str:
    """The name under which a file is served now: `asset("js/app.js")` is `"js/app.<hash>.js"`.

    Put the path of the mount in front of it; a name with spaces or the like needs `urllib.parse.quote` as well.

    Args:
        filename: relative to the directory, with slashes.
        collection: which directory, as named when it was mounted.

    Raises:
        KeyError: no such collection.
        StarioError: no such file in it.
    """
    try:
        assets = REGISTRY[collection]
    except KeyError:
        known = list(REGISTRY)
        raise KeyError(f"Collection '{collection}' not registered. Available: {known}") from None
    return assets.url(filename)


class StaticAssets:
    """Serves the files of a directory under names that hold a hash of their content.

    `router.assets("/static", "static")` mounts one. Everything is found, hashed and compressed when it is made; files
    that come later are not served, and changed ones not before the next start. Hidden files (but for `.well-known`) and
    links that leave the directory are not published.

    Args:
        directory: what to serve, with everything below it.
        collection: the name for `asset`; a later one of the same name replaces this one there.
        cache_control: sent with the files.
        cache_max_size: bytes; larger files are read from the disk for each request, and not compressed.

    Raises:
        StarioError: the directory is missing, or something in it cannot be read; a setting makes no sense.
        ValueError: `cache_control` cannot be a header value.
    """

    __slots__ = ("_cache", "_cache_control", "_path_to_hash", "_threads", "cache_max_size", "collection", "directory")

    def __init__(
        self,
        directory: Path | str = "./static",
        collection: str = "static",
        cache_control: str = _FOR_A_YEAR,
        cache_max_size: int = _MEBIBYTE,
    ) -> None:
        _check_settings(directory, cache_max_size)
        self.directory: Path = Path(os.path.realpath(directory))
        self.collection: str = collection
        self.cache_max_size: int = cache_max_size
        self._cache_control = encode_value(cache_control)
        if not self.directory.is_dir():
            raise StarioError(
                f"Static files directory not found: {self.directory}",
                context={"path": str(self.directory), "exists": self.directory.exists()},
                help_text="Create the directory, or check the path: a relative one counts from the working directory.",
                example='app.assets("/static", Path(__file__).parent / "static")',
            )
        self._threads = DiskThreads()
        self._path_to_hash: dict[str, str] = {}  # "js/app.js" to "app.<hash>.js"
        self._cache: dict[str, CachedFile] = {}  # by "js/app.<hash>.js"
        for path, digest, file in load_all(self.directory, cache_max_size):
            name = f"{path.stem}.{digest}{path.suffix}"
            self._path_to_hash[path.as_posix()] = name
            self._cache[path.with_name(name).as_posix()] = file
        REGISTRY[collection] = self

    def url(self, filename: str) -> str:
        """The name of a file, with its hash: see `asset`.

        Raises:
            StarioError: no such file.
        """
        filename = filename.strip("/")
        if filename in self._path_to_hash:
            folder, slash, _ = filename.rpartition("/")
            return folder + slash + self._path_to_hash[filename]
        known = list(self._path_to_hash)
        more = "..." if len(known) > _SHOWN else ""
        raise StarioError(
            f"Static file not found: '{filename}'",
            context={"filename": filename, "collection": self.collection},
            help_text=(
                f"Available files: {known[:_SHOWN]}{more} Hidden files, links that leave the directory, and files that "
                "came after the start are not served."
            ),
        )

    async def __call__(self, c: Context, w: Writer) -> None:
        """Answer a GET or HEAD for `c.req.tail`.

        What is served is what the scan found: the tail is looked up, never joined to a path, so no spelling of it
        leads out of the directory.
        """
        name = c.req.tail
        if name in self._cache:
            await self._serve(c, w, self._cache[name])
        elif name in self._path_to_hash:
            # 307, which nobody keeps: the next version has another name. BUG 56: from the mount on, since a relative
            # target would count from a slash that is encoded in the request.
            mount = c.req.path.removesuffix(name).rstrip("/")
            w.redirect(location(f"{mount}/{self.url(name)}", c.req.query_bytes), 307)
        else:
            await not_found(c, w)

    async def _serve(self, c: Context, w: Writer, file: CachedFile) -> None:
        """Answer for one file, in the order of RFC 9110 section 13.2.2."""
        w.offer = None  # what is worth compressing is compressed, and the tags are of these very bytes
        wanted = c.req.headers
        part = _part(c.req, file)
        # A part is always one of the content itself, as its etag tells.
        coding = negotiate(accept_encoding(wanted), file.codings) if file.codings and part is None else None
        failed = failed_precondition(wanted, file.etag_of(coding), file.modified)
        if failed == 304:
            self._set_cache_fields(w.headers, file, coding)
            w.empty(304)
        elif failed is not None:
            w.text("Precondition Failed", failed)
        elif part is not None and not part:
            w.headers.rset(b"content-range", b"bytes */%d" % file.size)
            w.text("Range Not Satisfiable", 416)
        elif file.content is None:
            await self._serve_from_disk(c, w, file, part)
        else:
            body = file.content if coding is None else file.variants[coding]
            if part is not None:
                body = body[part.start : part.stop]
            status = self._describe(w.headers, file, coding, part)
            if len(body) <= _ONE_SEND:
                w.respond(body, file.content_type, status)
            else:
                _start(w, status, file.content_type, len(body))
                w.end(body)

    async def _serve_from_disk(self, c: Context, w: Writer, file: CachedFile, part: range | None) -> None:
        """Answer with a large file, or tell that it is not what it was while that can still be told (BUG 55)."""
        sent = range(file.size) if part is None else part
        size = 0 if c.req.method == "HEAD" else len(sent)
        with DiskFile(file, self._threads) as opened:
            try:
                with trio.move_on_after(_DISK_PATIENCE) as patience:
                    await opened.open(sent.start, size)
            except (FileNotFoundError, NotADirectoryError) as exc:
                c(exc)
                await not_found(c, w)
                return
            if patience.cancelled_caught:
                c.span.error = f"Static file cannot be read: the disk has not answered for {_DISK_PATIENCE} seconds"
                w.headers.rset(b"retry-after", b"%d" % _DISK_PATIENCE)
                w.text("Service Unavailable", 503)
                return
            _start(w, self._describe(w.headers, file, None, part), file.content_type, len(sent))
            await opened.send(w, size)

    def _describe(self, headers: Headers, file: CachedFile, coding: str | None, part: range | None) -> int:
        """Set the fields of a 200 or 206, but for type and length. Returns the status."""
        self._set_cache_fields(headers, file, coding)
        headers.rset(b"last-modified", file.last_modified)
        if coding is not None:
            headers.rset(b"content-encoding", coding.encode())
        else:
            headers.rset(b"accept-ranges", b"bytes")
        if part is None:
            return 200
        headers.rset(b"content-range", b"bytes %d-%d/%d" % (part.start, part.stop - 1, file.size))
        return 206

    def _set_cache_fields(self, headers: Headers, file: CachedFile, coding: str | None) -> None:
        """What a 304 must say as well (RFC 9110 section 15.4.5)."""
        headers.rset(b"cache-control", self._cache_control)
        headers.rset(b"etag", file.etag_of(coding))
        if file.codings:
            vary_by_coding(headers)


def _check_settings(directory: object, cache_max_size: object) -> None:
    """Raise a StarioError for settings that cannot be meant."""
    if directory == "":
        raise StarioError(
            "Static files directory is empty",
            context={"directory": directory},
            help_text='It would publish the working directory. Name a directory; is a setting missing? Write "." if '
            "the working directory is meant.",
            example='app.assets("/static", Path(__file__).parent / "static")',
        )
    if isinstance(cache_max_size, bool) or not isinstance(cache_max_size, int) or cache_max_size < 0:
        raise StarioError(
            f"cache_max_size must be a number of bytes, not {cache_max_size!r}",
            context={"cache_max_size": cache_max_size},
            help_text="Larger files are read from the disk for each request: 0 holds none in memory.",
            example='StaticAssets("downloads", cache_max_size=64 * 1024)',
        )


def _start(w: Writer, status: int, content_type: bytes, size: int) -> None:
    """Send the head of a body that follows by itself."""
    w.headers.rset(b"content-type", content_type).rset(b"content-length", b"%d" % size)
    w.write_headers(status)


def _part(req: Request, file: CachedFile) -> range | None:
    """The part of the content to send: None for all of it, empty if there is no such part."""
    headers = req.headers
    if req.method != "GET" or headers.rget(b"range") is None:
        return None
    return requested_range(headers, file.size) if same_as_before(headers, file.etag, file.modified) else None
