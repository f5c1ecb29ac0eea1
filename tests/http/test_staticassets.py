"""Static files: their names, what is answered for them, and what happens when they change under the server."""

from __future__ import annotations

import gc
import gzip
import io
import os
import re
import sys
import threading
import time
import weakref
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

import stario_trio
from stario_trio import NoopTracer, Router, Stario, StarioError, StaticAssets, asset
from stario_trio.http import staticassets
from stario_trio.http.compression import CompressionConfig
from stario_trio.http.headers import Headers
from stario_trio.http.staticassets import CONTENT_TYPES, CachedFile, conditions, disk, fingerprint
from stario_trio.http.staticassets.identity import digest_of
from stario_trio.http.staticassets.threads import THREADS, DiskThreads
from stario_trio.http.unmatched import location
from stario_trio.testing import RecordingTracer
from tests.support.peer import FakePeer, Response

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from stario_trio import Context, Handler, Request, Span, Writer

CSS = b"body { color: black }\n" * 100
JS = b"console.log(1)\n" * 100
VARIANTS = CompressionConfig().codings()
FOR_A_YEAR = "public, max-age=31536000, immutable"


@pytest.fixture(autouse=True)
def _no_collections() -> Iterator[None]:
    staticassets._collections.clear()
    yield
    staticassets._collections.clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`style.css` (with variants), `js/app.js` (the same), `tiny.txt`, `logo.PNG`, and `empty`."""
    (tmp_path / "style.css").write_bytes(CSS)
    (tmp_path / "js").mkdir()
    (tmp_path / "js/app.js").write_bytes(JS)
    (tmp_path / "tiny.txt").write_bytes(b"0123456789")
    (tmp_path / "logo.PNG").write_bytes(b"\x89PNG" * 200)
    (tmp_path / "empty").write_bytes(b"")
    return tmp_path


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Site:
    """A router with assets at `/static`, asked without a server."""

    def __init__(self, assets: StaticAssets, tracer: Callable[[str], Span] | None = None) -> None:
        self.assets = assets
        self.app = Stario(tracer or NoopTracer())
        self.app.get("/static/*", assets)
        self.app.head("/static/*", assets)

    def path(self, name: str) -> str:
        return f"/static/{self.assets.url(name)}"

    async def ask(self, path: str, *fields: tuple[str, str], method: str = "GET", query: bytes = b"") -> Answer:
        peer = FakePeer()
        request = peer.request(method, path, *fields)
        request.query_bytes = query
        await self.app.handle_request(request, peer.writer(method))
        response = Response(peer.sent, method=method, closed=peer.aborted)
        assert response.complete is not peer.aborted
        assert response.rest == b""
        return Answer(response.status, response.headers, bytes(response.body))

    async def ask_for(self, name: str, *fields: tuple[str, str], method: str = "GET") -> Answer:
        return await self.ask(self.path(name), *fields, method=method)


@pytest.fixture
def site(folder: Path) -> Site:
    return Site(StaticAssets(folder))


@pytest.fixture
def on_disk(folder: Path) -> Site:
    """The same files, none of them in memory but the empty one."""
    return Site(StaticAssets(folder, cache_max_size=0))


@pytest.fixture(params=["memory", "disk"])
def either(request: pytest.FixtureRequest, folder: Path) -> Site:
    return Site(StaticAssets(folder, cache_max_size=0 if request.param == "disk" else 1 << 20))


# Names


def test_names_hold_a_hash_of_the_content(folder: Path) -> None:
    assets = StaticAssets(folder)
    digest = fingerprint(folder / "style.css")
    assert re.fullmatch("[0-9a-f]{16}", digest)
    assert assets.url("style.css") == f"style.{digest}.css"
    assert assets.url("/js/app.js/") == f"js/app.{fingerprint(folder / 'js/app.js')}.js"
    assert assets.url("empty") == f"empty.{fingerprint(folder / 'empty')}"


def test_a_fingerprint_is_of_the_content_alone(tmp_path: Path) -> None:
    one, other = tmp_path / "a.css", tmp_path / "b.js"
    one.write_bytes(CSS)
    other.write_bytes(CSS)
    assert fingerprint(one) == fingerprint(other) == fingerprint(one, chunk_size=7)
    other.write_bytes(CSS + b" ")
    assert fingerprint(one) != fingerprint(other)


@pytest.mark.parametrize(
    ("name", "served"),
    [
        ("a.tar.gz", r"a\.tar\.<>\.gz"),
        ("LICENSE", r"LICENSE\.<>"),
        ("ü b%.css", r"ü b%\.<>\.css"),
        ("back\\slash.css", r"back\\slash\.<>\.css"),
        (".well-known/security.txt", r"\.well-known/security\.<>\.txt"),
    ],
)
async def test_odd_names_are_served(tmp_path: Path, name: str, served: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"content")
    site = Site(StaticAssets(tmp_path))
    assert re.fullmatch(served.replace("<>", "[0-9a-f]{16}"), site.assets.url(name))
    assert (await site.ask_for(name)).body == b"content"


def test_the_names_upstreams_tests_touch(folder: Path) -> None:
    assets = StaticAssets(folder, "mine")
    assert staticassets._collections == {"mine": assets}
    assert assets._path_to_hash["js/app.js"] == Path(assets.url("js/app.js")).name
    assert isinstance(assets._cache[assets.url("js/app.js")], CachedFile)
    assert assets.directory == folder.resolve()
    assert (assets.collection, assets.cache_max_size) == ("mine", 1 << 20)


def test_asset_finds_the_name_in_its_collection(folder: Path) -> None:
    assets = StaticAssets(str(folder))
    assert asset("style.css") == assets.url("style.css")
    with pytest.raises(KeyError, match=r"Collection 'q' not registered. Available: \['static'\]"):
        asset("style.css", collection="q")


def test_a_later_collection_of_the_same_name_replaces_the_first(folder: Path) -> None:
    StaticAssets(folder)
    later = StaticAssets(folder / "js")
    assert asset("app.js") == later.url("app.js")
    with pytest.raises(StarioError, match="not found"):
        asset("style.css")


def test_an_unknown_name_is_told_with_some_that_are_there(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.css").touch()
    assets = StaticAssets(tmp_path)
    with pytest.raises(StarioError, match=r"Static file not found: 'x.css'") as caught:
        assets.url("x.css")
    assert caught.value.context == {"filename": "x.css", "collection": "static"}
    shown = "['0.css', '1.css', '2.css', '3.css', '4.css']"
    assert f"{shown} Hidden" in str(caught.value)
    (tmp_path / "5.css").touch()
    with pytest.raises(StarioError, match=re.escape(f"{shown}... Hidden")):
        StaticAssets(tmp_path).url("x.css")


@pytest.mark.parametrize("is_file", [True, False])
def test_a_missing_directory_is_an_error_at_the_start(tmp_path: Path, is_file: bool) -> None:
    path = tmp_path / "gone"
    if is_file:
        path.touch()
    with pytest.raises(StarioError, match="Static files directory not found") as caught:
        StaticAssets(path)
    assert caught.value.context == {"path": str(path.resolve()), "exists": is_file}
    assert not staticassets._collections


def test_an_empty_directory_name_does_not_publish_the_working_directory(folder: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(StarioError, match="Static files directory is empty") as caught:
        Router().assets("/static", "")
    assert 'Write "." if the working directory is meant' in str(caught.value)
    assert not staticassets._collections
    for meant in (".", Path()):
        assert StaticAssets(meant).directory == folder.resolve()


@pytest.mark.parametrize("size", [None, "1", -1, True, 1.5])
def test_a_cache_size_that_is_no_number_of_bytes_is_an_error_at_the_start(folder: Path, size: Any) -> None:
    with pytest.raises(StarioError, match="cache_max_size must be a number of bytes, not ") as caught:
        StaticAssets(folder, cache_max_size=size)
    assert caught.value.context == {"cache_max_size": size}
    assert not staticassets._collections


def test_a_cache_control_that_is_no_header_is_an_error_at_the_start(folder: Path) -> None:
    with pytest.raises(ValueError, match="control character"):
        StaticAssets(folder, cache_control="no-cache\r\nx: y")


@pytest.mark.parametrize("broken", ["os.scandir", "pathlib.Path.open"])
def test_what_cannot_be_read_is_an_error_at_the_start(folder: Path, monkeypatch: Any, broken: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "secret.css")

    monkeypatch.setattr(broken, fail)
    with pytest.raises(StarioError, match="Static file cannot be read") as caught:
        StaticAssets(folder)
    assert caught.value.context == {"path": "secret.css", "error": "Permission denied"}


def test_the_public_names() -> None:
    assert {"StaticAssets", "asset"} <= set(stario_trio.__all__)
    assert {"StaticAssets", "asset"} <= set(stario_trio.http.__all__)


# What is published


def test_hidden_files_and_directories_are_not(tmp_path: Path) -> None:
    for name in (".env", ".git/config", "js/.map", "js/app.js", ".well-known/.secret", ".well-known/a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list(StaticAssets(tmp_path)._path_to_hash) == [".well-known/a", "js/app.js"]


def test_links_that_leave_the_directory_are_not(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.txt").write_bytes(b"secret")
    (tmp_path / "file.txt").symlink_to(outside / "secret.txt")
    (tmp_path / "folder").symlink_to(outside)
    (tmp_path / "up.txt").symlink_to(f"../{outside.name}/secret.txt")
    (tmp_path / "broken.txt").symlink_to("nowhere")
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    assert StaticAssets(tmp_path)._cache == {}


def test_what_is_no_file_with_a_name_in_utf_8_is_not(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    for name in (b"bad\xff.css", b"folder\xff/a.css"):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert StaticAssets(tmp_path)._cache == {}


def test_links_that_stay_inside_are_published_under_their_own_name(tmp_path: Path) -> None:
    (tmp_path / "..v1").mkdir()  # as in a Kubernetes volume
    (tmp_path / "..v1/style.css").write_bytes(CSS)
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "main.css").symlink_to("..data/style.css")
    assert list(StaticAssets(tmp_path)._path_to_hash) == ["main.css"]


async def test_the_directory_itself_may_be_a_link(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    link = tmp_path_factory.mktemp("elsewhere") / "current"
    link.symlink_to(folder)
    assert (await Site(StaticAssets(link)).ask_for("style.css")).body == CSS


# Answers


@pytest.mark.upstream_bug(53)
@pytest.mark.parametrize(
    ("suffix", "content_type"),
    [(".css", b"text/css; charset=utf-8"), (".CSS", b"text/css; charset=utf-8"), (".x", b"application/octet-stream")],
)
def test_bug_53_the_suffix_says_the_type_in_any_case(tmp_path: Path, suffix: str, content_type: bytes) -> None:
    (tmp_path / f"a{suffix}").touch()
    assert CONTENT_TYPES.get(suffix.lower(), b"application/octet-stream") == content_type
    [file] = StaticAssets(tmp_path)._cache.values()
    assert file.content_type == content_type


async def test_a_file_is_served_whole(either: Site) -> None:
    path = either.path("tiny.txt")
    response = await either.ask(path)
    assert response.status == 200
    assert response.body == b"0123456789"
    hash_ = path.split(".")[1]
    mtime = (either.assets.directory / "tiny.txt").stat().st_mtime
    assert response.headers == {
        "date": response.headers["date"],
        "cache-control": FOR_A_YEAR,
        "content-type": "text/plain; charset=utf-8",
        "content-length": "10",
        "etag": f'"{hash_}"',
        "last-modified": formatdate(int(mtime), usegmt=True),
        "accept-ranges": "bytes",
    }


async def test_head_is_the_same_without_a_body(either: Site) -> None:
    for accepted in ("", "gzip"):
        whole = await either.ask_for("style.css", ("accept-encoding", accepted))
        head = await either.ask_for("style.css", ("accept-encoding", accepted), method="HEAD")
        assert (head.status, head.body, head.headers) == (200, b"", whole.headers)


async def test_nothing_is_read_for_a_head(on_disk: Site, monkeypatch: Any) -> None:
    sizes: list[int] = []
    read = disk.DiskFile._read

    def reading(self: disk.DiskFile, size: int, start: int | None = None) -> bytes:
        sizes.append(size)
        return read(self, size, start)

    monkeypatch.setattr(disk.DiskFile, "_read", reading)
    for method in ("HEAD", "GET"):
        await on_disk.ask_for("style.css", method=method)
    assert sizes == [0, len(CSS)]


@pytest.mark.parametrize("size", [1, disk.PIECE - 1, disk.PIECE, disk.PIECE + 1, 3 * disk.PIECE])
async def test_every_size_comes_whole_from_the_disk(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "a.bin").write_bytes(content)
    site = Site(StaticAssets(tmp_path, cache_max_size=0))
    assert site.assets._cache[site.assets.url("a.bin")].content is None
    assert (await site.ask_for("a.bin")).body == content


async def test_no_thread_is_asked_for_a_file_in_memory(site: Site, monkeypatch: Any) -> None:
    monkeypatch.setattr(trio.to_thread, "run_sync", None)
    assert (await site.ask_for("style.css")).body == CSS


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/static/style.css", "/static/style.<>.css"),
        ("/static/js/app.js", "/static/js/app.<>.js"),
        ("/static//style.css", "/static/style.<>.css"),
    ],
)
async def test_the_plain_name_redirects(site: Site, method: str, path: str, target: str) -> None:
    response = await site.ask(path, method=method)
    assert response.status == 307
    found = response.headers.pop("location")
    assert re.sub("[0-9a-f]{16}", "<>", found) == target
    assert {"cache-control", "etag"}.isdisjoint(response.headers)
    assert (await site.ask(found)).status == 200


async def test_the_redirect_keeps_the_query(site: Site) -> None:
    response = await site.ask("/static/style.css", query=b"v=1&x=%20\xff")
    assert response.headers["location"].endswith(".css?v=1&x=%20%FF")


@pytest.mark.upstream_bug(56)
async def test_bug_56_the_redirect_counts_from_the_mount(folder: Path) -> None:
    child, app = Router(), Stario(NoopTracer())
    assets = child.assets("/static", folder)
    app.mount("/v1", child)
    peer = FakePeer()
    # The path as it arrives decoded, for /v1/static/js%2Fapp.js.
    await app.handle_request(peer.request("GET", "/v1/static/js/app.js"), peer.writer())
    assert Response(peer.sent).headers["location"] == "/v1/static/" + assets.url("js/app.js")


@pytest.mark.parametrize("name", ["evil.com", "a?b#c.css", "a\r\nx: y", "a%2Fb", "\\evil.com"])
async def test_a_redirect_leads_to_this_host_whatever_the_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    app = Stario(NoopTracer())
    assets = app.assets("/", tmp_path)
    peer = FakePeer()
    await app.handle_request(peer.request("GET", "//" + name), peer.writer())
    target = Response(peer.sent).headers["location"]
    assert target == location(assets.url(name), b"")
    assert re.fullmatch(r"/[^/\\?#\s][^/\\?#\s]*", target)


@pytest.mark.parametrize("path", ["/static/x.css", "/static", "/static/js", "/static/..", "/static/STYLE.css"])
async def test_anything_else_is_not_found(site: Site, path: str) -> None:
    response = await site.ask(path)
    assert (response.status, response.body) == (404, b"Not Found")
    assert "cache-control" not in response.headers


# Mounting


async def test_assets_of_a_router_answer_get_and_head(folder: Path) -> None:
    app = Stario(NoopTracer())
    assets = app.assets("/static/", folder, cache_control="no-cache")
    path = "/static/" + asset("style.css")
    peer = FakePeer()
    await app.handle_request(peer.request("GET", path), peer.writer())
    assert Response(peer.sent).headers["cache-control"] == "no-cache"
    peer = FakePeer()
    await app.handle_request(peer.request("POST", path), peer.writer("POST"))
    response = Response(peer.sent, method="POST")
    assert (response.status, response.headers["allow"]) == (405, "GET, HEAD")
    assert isinstance(assets, StaticAssets)


@pytest.mark.parametrize(
    ("path", "collection"), [("/a/b", "a"), ("/", "static"), ("", "static"), ("x", "x"), ("/static/*", "static")]
)
def test_the_first_segment_names_the_collection(folder: Path, path: str, collection: str) -> None:
    router = Router()
    assets = router.assets(path, folder)
    assert staticassets._collections == {collection: assets}
    below = path.removesuffix("/*").strip("/")
    assert router.match("HEAD", f"/{below}/style.css") == (assets, "style.css")
    assert router.assets("/other", folder, collection="mine").collection == "mine"


async def test_middleware_surrounds_assets_in_order(folder: Path) -> None:
    seen: list[str] = []

    def note(name: str) -> Callable[[Handler], Handler]:
        def middleware(handler: Handler) -> Handler:
            async def inner(c: Context, w: Writer) -> None:
                seen.append(name)
                await handler(c, w)

            return inner

        return middleware

    app = Stario(NoopTracer())
    app.use(note("app"))
    app.assets("/static", folder, note("first"), note("second"))
    peer = FakePeer()
    await app.handle_request(peer.request("GET", "/static/" + asset("tiny.txt")), peer.writer())
    assert seen == ["app", "first", "second"]


# Variants


def decoded(response: Answer) -> bytes:
    coding = response.headers.get("content-encoding")
    if coding is None:
        return response.body
    if coding == "gzip":
        return gzip.decompress(response.body)
    if coding == "br":
        return bytes(cast("Any", pytest.importorskip("brotli")).decompress(response.body))
    zstd = pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    return bytes(cast("Any", zstd).decompress(response.body))


async def test_each_variant_is_the_file_and_has_its_own_tag(site: Site) -> None:
    responses = [await site.ask_for("style.css", ("accept-encoding", accepted)) for accepted in ("identity", *VARIANTS)]
    assert [response.headers.get("content-encoding") for response in responses] == [None, *VARIANTS]
    assert all(decoded(response) == CSS for response in responses)
    assert all(response.headers["content-length"] == str(len(response.body)) for response in responses)
    assert len({response.headers["etag"] for response in responses}) == len(responses)
    assert len(responses[-1].body) < len(CSS)
    # Ranges are of the content itself, and only that says so.
    assert [response.headers.get("accept-ranges") for response in responses] == ["bytes", *[None] * len(VARIANTS)]


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        (["gzip;q=0"], None),
        (["*"], VARIANTS[0]),
        (["gzip;q=0.5, *;q=0.1"], "gzip"),
        (["vibrant"], None),
        (["identity", "gzip"], "gzip"),
    ],
)
async def test_the_client_chooses_the_variant(site: Site, accepted: list[str], coding: str | None) -> None:
    response = await site.ask_for("style.css", *[("accept-encoding", value) for value in accepted])
    assert response.headers.get("content-encoding") == coding


@pytest.mark.upstream_bug(54)
async def test_bug_54_a_file_with_variants_varies_whichever_is_sent(site: Site) -> None:
    accepting = ("accept-encoding", "gzip")
    etag = (await site.ask_for("style.css")).headers["etag"]
    for fields in ([], [accepting], [("range", "bytes=0-1")], [("if-none-match", etag)]):
        for method in ("GET", "HEAD"):
            response = await site.ask_for("style.css", *fields, method=method)
            assert response.headers["vary"] == "accept-encoding"
    for name in ("tiny.txt", "logo.PNG", "empty"):
        response = await site.ask_for(name, accepting)
        assert "vary" not in response.headers
        assert "content-encoding" not in response.headers


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["cookie"], "cookie, accept-encoding"),
        (["cookie", "origin"], "cookie, origin, accept-encoding"),
        (["Accept-Encoding"], "Accept-Encoding"),
        (["*"], "*"),
    ],
)
async def test_vary_is_added_to_what_a_middleware_has_set(folder: Path, before: list[str], after: str) -> None:
    def varying(handler: Handler) -> Handler:
        async def inner(c: Context, w: Writer) -> None:
            for value in before:
                w.headers.add("vary", value)
            await handler(c, w)

        return inner

    app = Stario(NoopTracer())
    app.assets("/static", folder, varying)
    peer = FakePeer()
    await app.handle_request(peer.request("GET", "/static/" + asset("style.css")), peer.writer())
    assert Response(peer.sent).headers["vary"] == after


def test_a_variant_that_is_not_smaller_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "noise.css").write_bytes(os.urandom(1000))
    (tmp_path / "short.css").write_bytes(b"a" * 255)
    (tmp_path / "long.css").write_bytes(b"a" * 256)
    (tmp_path / "a.PDF").write_bytes(b"a" * 1000)
    assets = StaticAssets(tmp_path)
    assert [assets._cache[assets.url(name)].codings for name in ("noise.css", "short.css", "a.PDF")] == [()] * 3
    assert list(assets._cache[assets.url("long.css")].codings) == VARIANTS


def test_a_cached_file_can_be_made_by_hand() -> None:
    file = CachedFile(3, b"text/plain", b"abc", gzip=b"g", zstd=b"z")
    assert (file.path, file.brotli, file.codings) == (None, None, ("zstd", "gzip"))


# Preconditions


async def test_a_client_that_has_the_file_gets_304(either: Site) -> None:
    whole = await either.ask_for("style.css")
    for field in (("if-none-match", whole.headers["etag"]), ("if-modified-since", whole.headers["last-modified"])):
        for method in ("GET", "HEAD"):
            response = await either.ask_for("style.css", field, method=method)
            assert (response.status, response.body) == (304, b"")
            # RFC 9110 section 15.4.5: these and no others.
            expected = {name: whole.headers[name] for name in ("date", "etag", "cache-control")}
            assert response.headers == expected | ({"vary": "accept-encoding"} if "vary" in whole.headers else {})


async def test_a_304_is_for_the_variant_that_would_be_sent(site: Site) -> None:
    accepting = ("accept-encoding", "gzip")
    gzipped = (await site.ask_for("style.css", accepting)).headers["etag"]
    plain = (await site.ask_for("style.css")).headers["etag"]
    assert (await site.ask_for("style.css", accepting, ("if-none-match", gzipped))).status == 304
    assert (await site.ask_for("style.css", accepting, ("if-none-match", plain))).status == 200
    assert (await site.ask_for("style.css", ("if-none-match", gzipped))).status == 200
    both = await site.ask_for("style.css", accepting, ("if-none-match", f"{plain}, {gzipped}"))
    assert (both.status, both.headers["etag"]) == (304, gzipped)


async def test_no_file_is_opened_for_a_304(on_disk: Site, monkeypatch: Any) -> None:
    monkeypatch.setattr(trio.to_thread, "run_sync", None)
    assert (await on_disk.ask_for("style.css", ("if-none-match", "*"))).status == 304


async def test_a_client_that_wants_another_version_gets_412(either: Site) -> None:
    response = await either.ask_for("style.css", ("if-match", '"other"'))
    assert (response.status, response.body) == (412, b"Precondition Failed")
    assert {"cache-control", "etag"}.isdisjoint(response.headers)


ETAG = b'"0123456789abcdef"'
MODIFIED = int(datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC).timestamp())
BEFORE, SAME, AFTER = (formatdate(MODIFIED + shift, usegmt=True) for shift in (-1, 0, 1))


def fields(*pairs: tuple[str, str]) -> Headers:
    headers = Headers()
    for name, value in pairs:
        headers.add(name, value)
    return headers


@pytest.mark.parametrize(
    ("pairs", "status"),
    [
        ([], None),
        ([("if-match", "*")], None),
        ([("if-match", ETAG.decode())], None),
        ([("if-match", "W/" + ETAG.decode())], 412),  # the strong comparison
        ([("if-match", '"a", "b"')], 412),
        ([("if-match", '"a"'), ("if-match", ETAG.decode())], None),
        ([("if-unmodified-since", SAME)], None),
        ([("if-unmodified-since", BEFORE)], 412),
        ([("if-unmodified-since", "yesterday")], None),
        ([("if-match", "*"), ("if-unmodified-since", BEFORE)], None),  # the tag decides
        ([("if-none-match", "*")], 304),
        ([("if-none-match", " * ")], 304),
        ([("if-none-match", '"a", W/' + ETAG.decode())], 304),  # the weak comparison
        ([("if-none-match", '"a"'), ("if-none-match", ETAG.decode())], 304),
        ([("if-none-match", ETAG.decode().strip('"'))], None),
        ([("if-none-match", "")], None),
        ([("if-none-match", '"a"'), ("if-modified-since", SAME)], None),  # the tag decides
        ([("if-modified-since", SAME)], 304),
        ([("if-modified-since", AFTER)], 304),
        ([("if-modified-since", BEFORE)], None),
        ([("if-modified-since", "1")], None),
        ([("if-match", '"a"'), ("if-none-match", ETAG.decode())], 412),  # the first step decides
        ([("if-match", "*"), ("if-none-match", ETAG.decode())], 304),
    ],
)
def test_preconditions_in_the_order_of_rfc_9110(pairs: list[tuple[str, str]], status: int | None) -> None:
    assert conditions.failed_precondition(fields(*pairs), ETAG, MODIFIED) == status


# Commas may stand in a tag; spaces and quotes may not.
opaque = st.text("ab,W/*", max_size=5).map(lambda text: f'"{text}"')
tags = st.lists(st.tuples(st.sampled_from(["", "W/"]), opaque), min_size=1, max_size=5)


@settings(deadline=None)
@given(tags=tags, own=opaque, between=st.sampled_from([",", ", ", " ,\t", ",,"]))
def test_a_list_of_tags_is_compared_one_by_one(tags: list[tuple[str, str]], own: str, between: str) -> None:
    written = between.join(weak + tag for weak, tag in tags)
    weakly = any(tag == own for _, tag in tags)
    strongly = ("", own) in tags
    check = conditions.failed_precondition
    assert check(fields(("if-none-match", written)), own.encode(), 0) == (304 if weakly else None)
    assert check(fields(("if-match", written)), own.encode(), 0) == (None if strongly else 412)


@settings(deadline=None)
@given(st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0", exclude_categories=["Cc"])))
def test_nothing_a_client_writes_breaks_a_precondition(value: str) -> None:
    for name in ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since"):
        assert conditions.failed_precondition(fields((name, value)), ETAG, MODIFIED) in (None, 304, 412)
    conditions.requested_range(fields(("range", value)), 10)
    conditions.same_as_before(fields(("if-range", value)), ETAG, MODIFIED)


THIS_YEAR = datetime.now(UTC).year


@settings(deadline=None)
@given(st.datetimes(datetime(THIS_YEAR - 49, 1, 1), datetime(THIS_YEAR + 49, 12, 31)))
def test_all_three_formats_of_a_date_are_read(when: datetime) -> None:
    when = when.replace(microsecond=0, tzinfo=UTC)
    day = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")[when.weekday()]
    month = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[when.month - 1]
    clock = f"{when:%H:%M:%S}"
    for written in (
        f"{day[:3]}, {when.day:02} {month} {when.year} {clock} GMT",
        f"{day}, {when.day:02}-{month}-{when.year % 100:02} {clock} GMT",
        f"{day[:3]} {month} {when.day:2} {clock} {when.year}",
    ):
        assert conditions.http_date(written.encode()) == int(when.timestamp())


@pytest.mark.parametrize(
    ("now", "written", "meant"),
    [
        (2026, 94, 1994),
        (2026, 25, 2025),
        (2026, 26, 2026),
        (2026, 69, 2069),
        (2026, 75, 2075),
        (2026, 77, 1977),
        (2070, 69, 2069),
        (2070, 5, 2105),
        (2070, 21, 2021),
    ],
)
def test_a_year_of_two_digits_is_at_most_50_years_ahead(now: int, written: int, meant: int, monkeypatch: Any) -> None:
    """RFC 9110 section 5.6.7."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Clock:
            return cls(now, 11, 6, 8, 49, 37, tzinfo=tz)

    monkeypatch.setattr(conditions, "datetime", Clock)
    read = conditions.http_date(f"Sunday, 06-Nov-{written:02} 08:49:37 GMT".encode())
    assert read == int(datetime(meant, 11, 6, 8, 49, 37, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(("second", "year"), [(37, 2076), (38, 1976)])
def test_50_years_are_counted_to_the_second(second: int, year: int, monkeypatch: Any) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Clock:
            return cls(2026, 11, 6, 8, 49, 37, tzinfo=tz)

    monkeypatch.setattr(conditions, "datetime", Clock)
    read = conditions.http_date(f"Friday, 06-Nov-76 08:49:{second} GMT".encode())
    assert read == int(datetime(year, 11, 6, 8, 49, second, tzinfo=UTC).timestamp())


def test_a_leap_day_of_two_digits_is_completed_before_it_is_checked() -> None:
    leap_day = datetime(2000, 2, 29, tzinfo=UTC)
    if THIS_YEAR < 2050:
        assert conditions.http_date(b"Tuesday, 29-Feb-00 00:00:00 GMT") == int(leap_day.timestamp())


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"784111777",
        b"1994-11-06T08:49:37Z",
        b"Sun, 06 Nov 1994 08:49:37 +0200",
        b"Sun, 31 Feb 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:37 GMT" + b" " * 100 + b"x",
        b"\xb2, 06 Nov 1994 08:49:37 GMT",
    ],
)
def test_other_dates_are_ignored(value: bytes) -> None:
    assert conditions.http_date(value) is None


# Ranges


@pytest.mark.parametrize(
    ("value", "body", "content_range"),
    [
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=0-", b"0123456789", "bytes 0-9/10"),
        ("bytes=5-1000", b"56789", "bytes 5-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-1000", b"0123456789", "bytes 0-9/10"),
        ("BYTES= ,, 2-4 ,", b"234", "bytes 2-4/10"),
        (f"bytes={'0' * 30}2-{'9' * 5000}", b"23456789", "bytes 2-9/10"),
    ],
)
async def test_a_range_is_sent_alone(either: Site, value: str, body: bytes, content_range: str) -> None:
    response = await either.ask_for("tiny.txt", ("range", value))
    assert (response.status, response.body) == (206, body)
    whole = await either.ask_for("tiny.txt")
    assert response.headers == whole.headers | {
        "content-range": content_range,
        "content-length": str(len(body)),
    }


@pytest.mark.parametrize("value", ["bytes=10-", "bytes=10-11", "bytes=-0", f"bytes={'9' * 5000}-"])
async def test_a_range_outside_is_416(either: Site, value: str) -> None:
    response = await either.ask_for("tiny.txt", ("range", value))
    assert (response.status, response.headers["content-range"]) == (416, "bytes */10")
    assert {"cache-control", "etag", "accept-ranges"}.isdisjoint(response.headers)


@pytest.mark.parametrize(
    "value",
    ["", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=4-2", "bytes=0-1,3-4", "bytes=\xb2-", "items=0-1", "0-1"],
)
async def test_what_is_no_single_range_gets_the_whole(either: Site, value: str) -> None:
    response = await either.ask_for("tiny.txt", ("range", value))
    assert (response.status, response.body) == (200, b"0123456789")


async def test_two_range_fields_are_no_range(either: Site) -> None:
    assert (await either.ask_for("tiny.txt", ("range", "bytes=0-1"), ("range", "bytes=0-1"))).status == 200


async def test_head_has_no_ranges(either: Site) -> None:
    response = await either.ask_for("tiny.txt", ("range", "bytes=0-1"), method="HEAD")
    assert (response.status, response.headers["content-length"]) == (200, "10")


async def test_of_an_empty_file_there_is_no_range(either: Site) -> None:
    assert (await either.ask_for("empty", ("range", "bytes=0-"))).headers["content-range"] == "bytes */0"
    assert (await either.ask_for("empty", ("range", "bytes=-5"))).status == 200


async def test_a_range_is_of_the_content_itself(site: Site) -> None:
    response = await site.ask_for("style.css", ("range", "bytes=5-9"), ("accept-encoding", "gzip, br, zstd"))
    assert (response.status, response.body) == (206, CSS[5:10])
    assert "content-encoding" not in response.headers
    assert response.headers["etag"] == (await site.ask_for("style.css")).headers["etag"]


async def test_a_range_goes_on_only_with_the_same_file(either: Site) -> None:
    whole = await either.ask_for("tiny.txt")
    etag, modified = whole.headers["etag"], whole.headers["last-modified"]
    part = ("range", "bytes=2-4")
    for value in (etag, modified):
        assert (await either.ask_for("tiny.txt", part, ("if-range", value))).body == b"234"
    for value in ('"other"', "W/" + etag, formatdate(0, usegmt=True), "x"):
        assert (await either.ask_for("tiny.txt", part, ("if-range", value))).body == b"0123456789"


async def test_the_rest_of_a_variant_is_the_whole_variant(site: Site) -> None:
    accepting = ("accept-encoding", "gzip")
    gzipped = await site.ask_for("style.css", accepting)
    rest = ("range", "bytes=5-"), ("if-range", gzipped.headers["etag"])
    response = await site.ask_for("style.css", accepting, *rest)
    assert (response.status, response.body) == (200, gzipped.body)


async def test_preconditions_come_before_ranges(either: Site) -> None:
    part = ("range", "bytes=100-")
    assert (await either.ask_for("tiny.txt", part, ("if-none-match", "*"))).status == 304
    assert (await either.ask_for("tiny.txt", part, ("if-match", '"x"'))).status == 412


@settings(deadline=None)
@given(
    size=st.integers(0, 20),
    first=st.one_of(st.just(""), st.integers(0, 25).map(str)),
    last=st.one_of(st.just(""), st.integers(0, 25).map(str)),
)
@example(size=0, first="", last="0")
def test_ranges_are_what_a_slow_reader_of_the_rules_finds(size: int, first: str, last: str) -> None:
    positions = list(range(size))
    if not first and not last:
        expected = None
    elif not first:
        expected = positions[-int(last) :] if int(last) else []
    elif last and int(last) < int(first):
        expected = None
    else:
        expected = [position for position in positions if int(first) <= position <= int(last or size)]
    found = conditions.requested_range(fields(("range", f"bytes={first}-{last}")), size)
    if size == 0 and not first and last.strip("0"):
        assert found is None
    else:
        assert (found if found is None else list(found)) == expected


# Dates


@pytest.mark.parametrize(("mtime", "sent"), [(4_000_000_000, None), (-5, 0), (784111777, 784111777)])
async def test_no_file_is_from_the_future(tmp_path: Path, mtime: int, sent: int | None) -> None:
    path = tmp_path / "a"
    path.touch()
    os.utime(path, (mtime, mtime))
    before = int(time.time())
    [file] = StaticAssets(tmp_path)._cache.values()
    assert before <= file.modified <= time.time() if sent is None else file.modified == sent
    assert file.last_modified == formatdate(file.modified, usegmt=True).encode()


# Files that change (BUG 55)


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "big.bin"
    path.write_bytes(os.urandom(4 * disk.PIECE))
    return path


def recorded(path: Path) -> tuple[Site, RecordingTracer]:
    recorder = RecordingTracer()
    return Site(StaticAssets(path.parent, cache_max_size=0), recorder), recorder


def appended(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def rewritten(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))
    os.utime(path, ns=(1, 1))


def replaced(path: Path) -> None:
    stat = path.stat()
    twin = path.with_name("twin")
    twin.write_bytes(bytes(stat.st_size))
    os.utime(twin, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    twin.replace(path)


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.upstream_bug(55)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("change", [appended, rewritten, replaced, a_pipe])
async def test_bug_55_a_changed_file_is_500(big: Path, change: Callable[[Path], None], method: str) -> None:
    site, recorder = recorded(big)
    change(big)
    with trio.fail_after(10):
        response = await site.ask_for("big.bin", method=method)
    assert response.status == 500
    assert {"etag", "cache-control"}.isdisjoint(response.headers)
    [span] = recorder.spans
    assert "Static file has changed since the start" in str(span.error)


@pytest.mark.upstream_bug(55)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("folder_too", [False, True])
async def test_bug_55_a_removed_file_is_404(tmp_path: Path, method: str, folder_too: bool) -> None:
    path = tmp_path / "folder/a.bin"
    path.parent.mkdir()
    path.write_bytes(b"content")
    recorder = RecordingTracer()
    site = Site(StaticAssets(tmp_path, cache_max_size=0), recorder)
    path.unlink()
    if folder_too:
        path.parent.rmdir()
        path.parent.touch()
    response = await site.ask_for("folder/a.bin", method=method)
    assert (response.status, response.body) == (404, b"Not Found" if method == "GET" else b"")
    assert "cache-control" not in response.headers
    [span] = recorder.spans
    assert span.error is None
    assert [event.name for event in span.events] == ["exception"]


async def test_a_file_in_memory_may_change_and_go(site: Site) -> None:
    (site.assets.directory / "style.css").unlink()
    assert (await site.ask_for("style.css")).body == CSS


class SlowPeer(FakePeer):
    """Has no room for more, and says when it is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.room = trio.Event()
        self.waited_for = trio.Event()

    async def drain(self) -> bool:
        self.waited_for.set()
        return await super().drain()


class Held:
    """One request for `big.bin` whose peer takes the first piece and no more."""

    def __init__(self, site: Site) -> None:
        self.peer = SlowPeer()
        self.ended = trio.Event()
        self.site = site
        self.writer = self.peer.writer()
        self.request: Request = self.peer.request("GET", site.path("big.bin"))

    async def run(self) -> None:
        await self.site.app.handle_request(self.request, self.writer)
        self.ended.set()

    def response(self) -> Response:
        return Response(self.peer.sent, closed=self.peer.aborted)


@asynccontextmanager
async def held(site: Site) -> AsyncGenerator[Held]:
    """A response that waits for its peer around a block, and ends after it."""
    request = Held(site)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(request.run)
            await request.peer.waited_for.wait()
            yield request
            request.peer.room.set()


async def test_a_slow_peer_costs_one_piece(big: Path) -> None:
    site, _ = recorded(big)
    async with held(site) as request:
        await trio.testing.wait_all_tasks_blocked()
        assert disk.PIECE <= len(request.peer.sent) <= disk.PIECE + 1000
    assert request.response().body == big.read_bytes()


@pytest.mark.upstream_bug(55)
@pytest.mark.parametrize("change", [appended, rewritten])
async def test_bug_55_a_file_that_changes_on_the_way_is_cut(big: Path, change: Callable[[Path], None]) -> None:
    site, recorder = recorded(big)
    original = big.read_bytes()
    async with held(site) as request:
        change(big)
    response = request.response()
    assert request.peer.aborted
    assert not response.complete
    assert response.body == original[: disk.PIECE]
    [span] = recorder.spans
    assert "Static file has changed since the start" in str(span.error)


async def test_a_response_on_its_way_outlives_a_new_version(big: Path) -> None:
    site, _ = recorded(big)
    original = big.read_bytes()
    async with held(site) as request:
        replaced(big)
    assert request.response().body == original


async def test_a_file_that_ends_too_early_is_cut(big: Path, monkeypatch: Any) -> None:
    site, recorder = recorded(big)
    async with held(site) as request:
        monkeypatch.setattr(disk.DiskFile, "_check", lambda self, file: None)
        os.truncate(big, disk.PIECE)
    assert request.peer.aborted
    [span] = recorder.spans
    assert f"{big} ended {3 * disk.PIECE} bytes early" in str(span.error)


# Files that only seem to change, and those that hide it


def until_seen(path: Path, change: Callable[[Path], None]) -> None:
    """Do something to a file until its ctime tells: the clock of the kernel has steps of some milliseconds."""
    before = path.stat().st_ctime_ns
    while path.stat().st_ctime_ns == before:
        change(path)


def made_private(path: Path) -> None:
    path.chmod(0o600)


def linked(path: Path) -> None:
    other = path.with_name("other")
    other.hardlink_to(path)
    other.unlink()


def touched(path: Path) -> None:
    os.utime(path)


def copied_again(path: Path) -> None:
    """As by a deployment of the same version."""
    twin = path.with_name("twin")
    twin.write_bytes(path.read_bytes())
    twin.replace(path)


def overwritten(path: Path) -> None:
    """As by `cp -p`, or a build whose files all have the same time."""
    stat = path.stat()
    with path.open("r+b") as file:
        file.write(bytes(stat.st_size))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.fixture
def hashed(monkeypatch: Any) -> list[str]:
    """The hash of each file that is hashed again."""
    found: list[str] = []

    def hashing(file: Any) -> str:
        found.append(digest_of(file))
        return found[-1]

    monkeypatch.setattr(disk, "digest_of", hashing)
    return found


@pytest.mark.parametrize("change", [made_private, linked, touched, copied_again])
async def test_a_change_beside_the_content_is_none(
    big: Path, change: Callable[[Path], None], hashed: list[str]
) -> None:
    site, recorder = recorded(big)
    until_seen(big, change)
    for _ in range(3):
        assert (await site.ask_for("big.bin", ("range", "bytes=70000-200000"))).body == big.read_bytes()[70000:200001]
    assert hashed == [fingerprint(big)], "once"
    assert all(span.error is None for span in recorder.spans)
    until_seen(big, change)
    assert (await site.ask_for("big.bin")).status == 200
    assert len(hashed) == 2


async def test_two_files_of_the_same_content_are_both_known(big: Path, hashed: list[str]) -> None:
    """One that is on its way, and the one that has taken its place."""
    site, _ = recorded(big)
    original = big.read_bytes()
    async with held(site) as request:
        until_seen(big, copied_again)
        assert (await site.ask_for("big.bin")).body == original
        request.peer.room.set()
        await request.ended.wait()
        assert (await site.ask_for("big.bin")).body == original
    assert request.response().body == original
    assert len(hashed) == 2, "the old one as well: it has one name less"


async def test_not_all_that_was_known_is_kept(big: Path) -> None:
    site, _ = recorded(big)
    [file] = site.assets._cache.values()
    for _ in range(6):
        until_seen(big, touched)
        assert (await site.ask_for("big.bin")).status == 200
    assert len(set(file.known)) == 4


@pytest.mark.upstream_bug(55)
async def test_bug_55_a_file_overwritten_with_its_old_time_is_500(big: Path, hashed: list[str]) -> None:
    site, recorder = recorded(big)
    until_seen(big, overwritten)
    for method in ("GET", "HEAD", "GET"):
        assert (await site.ask_for("big.bin", method=method)).status == 500
    assert len(hashed) == 1, "nobody makes the server read it again and again"
    assert all("Static file has changed" in str(span.error) for span in recorder.spans)


async def test_a_file_that_is_put_back_is_served_again(big: Path) -> None:
    site, _ = recorded(big)
    original, stat = big.read_bytes(), big.stat()
    until_seen(big, overwritten)
    assert (await site.ask_for("big.bin")).status == 500
    big.write_bytes(original)
    until_seen(big, lambda path: os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns)))
    assert (await site.ask_for("big.bin")).body == original


@pytest.mark.upstream_bug(55)
@pytest.mark.parametrize("harmless", [False, True])
async def test_bug_55_the_same_on_the_way(big: Path, harmless: bool) -> None:
    site, _ = recorded(big)
    original = big.read_bytes()
    async with held(site) as request:
        until_seen(big, made_private if harmless else overwritten)
    response = request.response()
    assert response.complete is harmless
    assert response.body == (original if harmless else original[: disk.PIECE])


async def test_a_file_that_changes_while_it_is_hashed_again_is_not_believed(big: Path, monkeypatch: Any) -> None:
    site, _ = recorded(big)

    def hashing(file: Any) -> str:
        until_seen(big, made_private)
        return digest_of(file)

    until_seen(big, made_private)
    with monkeypatch.context() as patch:
        patch.setattr(disk, "digest_of", hashing)
        assert (await site.ask_for("big.bin")).status == 500
    assert (await site.ask_for("big.bin")).status == 200


# Peers that leave, disks that hang


def descriptors(path: Path) -> int:
    """How often this process has the file open."""
    found = 0
    for entry in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{entry}") == str(path)
        except FileNotFoundError:
            continue
    return found


async def all_closed(path: Path) -> None:
    with trio.fail_after(10):
        while descriptors(path):
            await trio.to_thread.run_sync(lambda: None)


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc")


@needs_proc
async def test_the_peer_leaves_and_the_reading_ends(big: Path) -> None:
    site, recorder = recorded(big)
    async with held(site) as request:
        assert descriptors(big) == 1
        request.peer.leave()
    assert request.peer.aborted
    assert len(request.response().body) == disk.PIECE
    assert recorder.spans[0].error is None, "nobody is to blame"
    await all_closed(big)


@needs_proc
async def test_a_cancelled_response_closes_its_file(big: Path) -> None:
    site, _ = recorded(big)
    request = Held(site)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(request.run)
        await request.peer.waited_for.wait()
        nursery.cancel_scope.cancel(reason="the test says so")
    assert not request.response().complete
    await all_closed(big)


@needs_proc
@pytest.mark.parametrize("hanging", ["open", "read"])
async def test_a_hanging_disk_holds_up_no_cancel(big: Path, monkeypatch: Any, hanging: str) -> None:
    """And the thread that hung closes the file when it goes on."""
    site, _ = recorded(big)
    request = Held(site)
    if hanging == "read":
        request.peer.room.set()
    gate_out, gate_in = os.pipe()
    hangs = trio.Event()
    checks = 0
    check = disk.DiskFile._check

    def hang(self: disk.DiskFile, file: Any) -> None:
        nonlocal checks
        checks += 1
        if checks == {"open": 1, "read": 3}[hanging]:  # it checks when it opens, and when it has read
            trio.from_thread.run_sync(hangs.set)
            os.read(gate_out, 1)
        check(self, file)

    monkeypatch.setattr(disk.DiskFile, "_check", hang)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(request.run)
            await hangs.wait()
            nursery.cancel_scope.cancel(reason="the test says so")
    assert descriptors(big) == 1, "still read from"
    os.write(gate_in, b"x")
    await all_closed(big)
    os.close(gate_out)
    os.close(gate_in)


class Stuck:
    """A disk on which every read hangs until it is let go."""

    def __init__(self, monkeypatch: Any) -> None:
        self.hanging = threading.Semaphore(0)
        self.gate = threading.Event()
        read = disk.DiskFile._read

        def hang(file: disk.DiskFile, left: int, start: int | None = None) -> bytes:
            self.hanging.release()
            self.gate.wait(60)
            return read(file, left, start)

        monkeypatch.setattr(disk.DiskFile, "_read", hang)

    async def wait_hanging(self, reads: int) -> None:
        for _ in range(reads):
            while not self.hanging.acquire(blocking=False):
                await trio.lowlevel.checkpoint()


@pytest.fixture
def stuck(monkeypatch: Any) -> Iterator[Stuck]:
    disk_ = Stuck(monkeypatch)
    yield disk_
    disk_.gate.set()


@needs_proc
async def test_a_hanging_disk_holds_up_its_own_directory_alone(big: Path, stuck: Stuck) -> None:
    site, _ = recorded(big)
    ours = site.assets._threads.limiter
    default = trio.to_thread.current_default_thread_limiter()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for _ in range(THREADS + 3):
                nursery.start_soon(site.ask_for, "big.bin")
            await stuck.wait_hanging(THREADS)
            await trio.testing.wait_all_tasks_blocked()
            assert ours.statistics().tasks_waiting == 3
            assert default.borrowed_tokens == 0
            nursery.cancel_scope.cancel(reason="the test says so")
        assert ours.available_tokens == 0, "a thread that hangs is taken"
        assert default.borrowed_tokens == 0
        other, _ = recorded(big)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other.ask_for, "big.bin")
            await stuck.wait_hanging(1)  # it got a thread, as other directories do
            stuck.gate.set()
        assert (await site.ask_for("big.bin")).body == big.read_bytes()
    await all_closed(big)


@needs_proc
async def test_who_waits_too_long_for_the_disk_is_told(
    big: Path, stuck: Stuck, mock_clock: trio.testing.MockClock
) -> None:
    site, recorder = recorded(big)
    answers: list[Answer] = []

    async def ask(method: str) -> None:
        answers.append(await site.ask_for("big.bin", method=method))

    async with trio.open_nursery() as nursery:
        for method in ("GET", "HEAD") * THREADS:  # half of them have no thread
            nursery.start_soon(ask, method)
        await stuck.wait_hanging(THREADS)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(29.9)
        await trio.testing.wait_all_tasks_blocked()
        assert not answers
        mock_clock.jump(0.2)
        await trio.testing.wait_all_tasks_blocked()
        assert len(answers) == 2 * THREADS
    for answer in answers:
        assert (answer.status, answer.headers["retry-after"]) == (503, "30")
        assert {"etag", "cache-control", "last-modified"}.isdisjoint(answer.headers)
    assert all("the disk has not answered for 30 seconds" in str(span.error) for span in recorder.spans)
    stuck.gate.set()
    assert (await site.ask_for("big.bin")).status == 200
    await all_closed(big)


def test_each_run_has_its_own_limiter_and_takes_it_along() -> None:
    threads = DiskThreads()
    seen: list[weakref.ref[trio.CapacityLimiter]] = []

    async def inner() -> None:
        seen.append(weakref.ref(threads.limiter))

    async def outer() -> None:
        limiter = threads.limiter
        assert threads.limiter is limiter
        await trio.to_thread.run_sync(trio.run, inner)
        seen.append(weakref.ref(limiter))
        assert seen[0]() is not limiter

    trio.run(outer)
    for _ in range(100):  # a thread of Trio's cache may let go of its last job a moment later
        gc.collect()
        if [limiter() for limiter in seen] == [None, None]:
            break
    assert [limiter() for limiter in seen] == [None, None]


@needs_proc
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_whole_download_needs_no_thread_to_be_closed(big: Path, monkeypatch: Any, method: str) -> None:
    site, recorder = recorded(big)
    monkeypatch.setattr(trio.lowlevel, "start_thread_soon", None)
    assert (await site.ask_for("big.bin", method=method)).status == 200
    assert descriptors(big) == 0, "closed by the thread that has read the last byte"
    assert recorder.spans[0].error is None


@needs_proc
async def test_a_file_is_closed_also_when_no_thread_can_be_started(big: Path, monkeypatch: Any) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    site, recorder = recorded(big)
    async with held(site) as request:
        monkeypatch.setattr(trio.lowlevel, "start_thread_soon", fail)
        request.peer.leave()
    assert descriptors(big) == 0
    assert recorder.spans[0].error is None


class FakeFile:
    """Something to close."""

    def __init__(self, gate: threading.Event, closing: threading.Semaphore, closed: threading.Semaphore) -> None:
        self._gate = gate
        self._closing = closing
        self._closed = closed

    def close(self) -> None:
        self._closing.release()
        self._gate.wait(60)
        self._closed.release()
        raise OSError(5, "which is nobody's business")


def test_closing_takes_few_threads_too() -> None:
    threads = DiskThreads()
    gate, closing, closed = threading.Event(), threading.Semaphore(0), threading.Semaphore(0)
    files = [cast("Any", FakeFile(gate, closing, closed)) for _ in range(THREADS + 5)]
    for file in files[:-1]:
        threads.close_soon(file)
    for _ in range(THREADS):
        assert closing.acquire(timeout=60)
    threads._closing.append(files[-1])
    threads._close_all()  # no place, and does not wait for one
    assert not closing.acquire(blocking=False)
    gate.set()
    for _ in files:
        assert closed.acquire(timeout=60)


def test_a_file_that_comes_at_the_last_moment_is_closed_as_well() -> None:
    """Its own thread finds no place, and leaves it to one that has seen no more files."""
    threads = DiskThreads()
    late: list[Any] = []

    class Closers(threading.Semaphore):
        def release(self, n: int = 1) -> None:
            if not late:
                late.append(io.BytesIO())
                threads._closing.append(late[0])
                threads._close_all()
                assert not late[0].closed
            super().release(n)

    threads._closers = Closers(1)
    threads._closing.append(cast("Any", io.BytesIO()))
    threads._close_all()
    assert late[0].closed


async def test_a_body_in_memory_is_not_copied_for_each_peer(tmp_path: Path) -> None:
    sent: list[bytes] = []

    class Taking(FakePeer):
        def send(self, data: bytes, *, last: bool = False) -> None:
            sent.append(data)

    for name, size in (("small.bin", disk.PIECE), ("large.bin", disk.PIECE + 1)):
        (tmp_path / name).write_bytes(bytes(size))
    site = Site(StaticAssets(tmp_path))
    for name, copied in (("small.bin", True), ("large.bin", False)):
        sent.clear()
        peer = Taking()
        await site.app.handle_request(peer.request("GET", site.path(name)), peer.writer())
        content = site.assets._cache[site.assets.url(name)].content
        assert any(data is content for data in sent) is not copied
        assert sum(map(len, sent)) > len(content or b"")
