"""Attacks on static files: out of the directory, into the next response, and against memory and the stop."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from stario_trio import Limits, Router, Stario, StaticAssets
from stario_trio.http.staticassets import disk
from stario_trio.http.staticassets.threads import THREADS
from stario_trio.testing import RecordingTracer
from tests.support.live import PATIENCE, Peer, peer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from stario_trio import Context, Server
    from stario_trio.http.writer import Writer

SECRET = b"the-secret"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory to publish, with secrets in and around it."""
    for name in ("secret.txt", "www-private/secret.txt", "www/.env", "www/.git/config"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(SECRET)
    www = tmp_path / "www"
    (www / "out").symlink_to("../secret.txt")
    (www / "around").symlink_to("..")
    (www / "js").mkdir()
    for name in ("style.css", "js/app.js", "evil.example", "a\r\nset-cookie: b"):
        (www / name).write_bytes(b"public")
    return www


class Live:
    def __init__(self, server: Server, assets: StaticAssets, tracer: RecordingTracer) -> None:
        self.server = server
        self.assets = assets
        self.tracer = tracer

    def path(self, name: str) -> str:
        return f"/static/{self.assets.url(name)}"


@asynccontextmanager
async def live(folder: Path, *, cache_max_size: int = 1 << 20, **settings: Any) -> AsyncGenerator[Live]:
    """Serve a folder at `/static`, `/` and `/deep/er/static`."""
    tracer = RecordingTracer()
    app = Stario(tracer)
    assets = StaticAssets(folder, cache_max_size=cache_max_size)
    deep = Router()
    for prefix in ("/er/static/*", "/static/*", "/*"):
        for router in (app, deep):
            router.get(prefix, assets)
            router.head(prefix, assets)
    app.mount("/deep", deep)
    with trio.fail_after(PATIENCE):
        async with app.serving(port=0, **settings) as server:
            yield Live(server, assets, tracer)


# Out of the directory

UP = (
    "..",
    "%2e%2e",
    ".%2E",
    "%252e%252e",
    "..%00",
    "..\\",
    "..%5c",
    "..;",
    "%c0%ae%c0%ae",
    "%ef%bc%8e%ef%bc%8e",
    "...",
)
SLASHES = ("/", "//", "%2f", "%252f", "\\", "%5C", "%c0%af", "%e2%88%95")
PATHS = [
    *(f"{up}{slash}secret.txt" for up in UP for slash in SLASHES),
    *(f"js{slash}{up}{slash}{up}{slash}secret.txt" for up in UP for slash in SLASHES),
    *(f"{slash}etc{slash}passwd" for slash in SLASHES),
    "../www-private/secret.txt",
    "-private/secret.txt",
    ".env",
    "%2eenv",
    "./.env",
    ".git/config",
    ".git%2fconfig",
    "out",
    "around/secret.txt",
    "around%2fsecret.txt",
    "style.css%00.png",
    "style.css%00",
    "style.css::$DATA",
    "style.css.",
    "STYLE.CSS",
    "style.cs%53",
    "file:%2f%2f%2fetc/passwd",
    "C:%5cWindows%5cwin.ini",
    "~root/.profile",
    "a" * 7000,
    "a/" * 3000 + "a",
    "%ff%fe",
    "",
]


@pytest.mark.parametrize("cache_max_size", [0, 1 << 20])
async def test_no_path_leaves_the_directory(folder: Path, cache_max_size: int) -> None:
    async with live(folder, cache_max_size=cache_max_size) as site:
        for prefix in ("/static/", "/", "/deep/er/static/"):
            for path in PATHS:
                async with peer(site.server) as client:
                    answer = await client.ask(prefix + path, "Connection: close")
                    assert answer.status in (301, 400, 404), path
                    assert SECRET not in answer.body
                    assert b"root:" not in answer.body
                    target = answer.fields.get("location", "/")
                    assert target[0] == "/"
                    assert target[1:2] not in ("/", "\\")


async def test_a_path_beyond_the_limit_is_414(folder: Path) -> None:
    async with live(folder) as site, peer(site.server) as client:
        assert (await client.ask("/static/" + "a" * 10_000)).status == 414


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_nor_does_curl(folder: Path) -> None:
    async with live(folder) as site:
        host, port = site.server.addresses[0]
        urls = [f"http://{host}:{port}/static/{path}" for path in PATHS if "\\" not in path and len(path) < 1000]
        words = ["--path-as-is", "--silent", "--noproxy", "*", "--max-time", "20", "--location", "--globoff"]
        result = await trio.run_process(["curl", *words, *urls], capture_stdout=True)
        assert result.stdout.replace(b"Not Found", b"") == b""


@pytest.mark.parametrize("start", ["/", "//", "///", "/%2f", "/%5c", "/\\", "/static//", "/deep//", "/%2e/"])
@pytest.mark.parametrize("name", ["evil.example", "a%0d%0aset-cookie:%20b"])
async def test_no_redirect_leads_away_or_adds_a_field(folder: Path, start: str, name: str) -> None:
    async with live(folder) as site, peer(site.server) as client:
        answer = await client.ask(start + name)
        assert answer.status in (307, 400, 404)
        assert "set-cookie" not in answer.fields
        if answer.status == 307:
            target = answer.fields["location"]
            assert target[0] == "/"
            assert target[1] not in "/\\"
            assert (await client.ask(target)).body == b"public"


def point_elsewhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("../secret.txt")


def move_the_folder(path: Path) -> None:
    path.parent.rename(path.parents[1] / "old")
    path.parent.symlink_to("..")
    (path.parents[2] / path.name).write_bytes(SECRET)


@pytest.mark.parametrize(("name", "change"), [("style.css", point_elsewhere), ("js/app.js", move_the_folder)])
async def test_a_link_put_in_the_place_of_a_file_is_not_followed(
    folder: Path, name: str, change: Callable[[Path], None]
) -> None:
    async with live(folder, cache_max_size=0) as site:
        change(folder / name)
        assert (folder / name).read_bytes() == SECRET
        async with peer(site.server) as client:
            answer = await client.ask(site.path(name))
            assert answer.status == 500
            assert SECRET not in answer.body


# Into the next response


@pytest.mark.parametrize("cache_max_size", [0, 1 << 20])
async def test_every_answer_ends_where_its_head_says(folder: Path, cache_max_size: int) -> None:
    """One connection for all of them: a byte too many or too few would spoil the next answer."""
    (folder / "a.bin").write_bytes(bytes(range(256)) * 1000)
    async with live(folder, cache_max_size=cache_max_size) as site, peer(site.server) as client:
        path = site.path("a.bin")
        for fields in (
            [],
            ["Range: bytes=5-9"],
            ["Range: bytes=-1"],
            ["Range: bytes=999999-"],
            ["Range: bytes=0-1,5-6"],
            ["Range: bytes=0-" + "9" * 6000],
            ["Range: " + "bytes=" + "0-0," * 3000 + "0-0"],
            ["If-None-Match: *"],
            ["If-None-Match: " + '"a",' * 3000 + '"b"'],
            ["If-Match: " + '"' * 9999],
            ["If-Modified-Since: " + "Sun, " * 2000],
            ["Accept-Encoding: " + "gzip;q=0." * 1000],
        ):
            for method in ("HEAD", "GET"):
                answer = await client.ask(path, *fields, method=method)
                assert answer.status in (200, 206, 304, 412, 416)
                assert answer.complete
        assert (await client.ask("/static/evil.example")).status == 307


async def test_a_hidden_body_is_no_request(folder: Path) -> None:
    async with live(folder) as site, peer(site.server) as client:
        inner = "GET /static/evil.example HTTP/1.1\r\nHost: x\r\n\r\n"
        await client.get(site.path("style.css"), f"Content-Length: {len(inner)}")
        await client.send(inner.encode())
        assert (await client.answer()).body == b"public"
        assert (await client.ask("/static/none")).status == 404


# Against memory and the stop

BIG = 64 * 1024 * 1024
#: More than a socket holds as well, and soon read to its end, also by a machine that has much else to do.
WHOLE = 16 * 1024 * 1024


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """A folder with one file much larger than what a socket holds; it takes no room on the disk."""
    path = tmp_path / "big/big.bin"
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(BIG)
    return path.parent


@pytest.fixture
def whole(big: Path) -> Path:
    os.truncate(big / "big.bin", WHOLE)
    return big


async def test_a_slow_client_costs_bounded_memory(whole: Path, monkeypatch: Any) -> None:
    high_water = 256 * 1024
    writers: list[Any] = []
    unsent: list[int] = []
    send, read = disk.DiskFile.send, disk.DiskFile._read

    async def sending(self: disk.DiskFile, w: Writer, size: int) -> None:
        writers.append(w)
        await send(self, w, size)

    def reading(self: disk.DiskFile, *args: int) -> bytes:
        if writers:
            unsent.append(writers[0]._peer._connection.outbox.unsent)
        return read(self, *args)

    monkeypatch.setattr(disk.DiskFile, "send", sending)
    monkeypatch.setattr(disk.DiskFile, "_read", reading)
    limits = Limits(high_water=high_water)
    async with live(whole, limits=limits) as site, peer(site.server, receive_buffer=4096) as client:
        await client.get(site.path("big.bin"))
        while not (writers and writers[0]._peer._connection.outbox.unsent >= high_water):  # it reads nothing so far
            await trio.lowlevel.checkpoint()
        answer = await client.answer()
        assert len(answer.body) == WHOLE
    assert len(unsent) == WHOLE // disk.PIECE - 1
    assert high_water - disk.PIECE <= max(unsent) < high_water


async def closed(path: Path) -> None:
    """Wait until this process has the file open no more."""
    with trio.fail_after(PATIENCE):
        open_files = [str(path)]
        while str(path) in open_files:
            await trio.to_thread.run_sync(lambda: None)
            open_files = [os.path.realpath(entry) for entry in os.scandir("/proc/self/fd")]


needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no /proc")


@needs_proc
@pytest.mark.parametrize("leave", [Peer.reset, Peer.finish])
async def test_a_client_that_leaves_ends_the_reading(big: Path, leave: Callable[[Peer], None]) -> None:
    async with live(big) as site:
        async with peer(site.server, receive_buffer=4096) as client:
            await client.get(site.path("big.bin"))
            await client.until(b"\r\n\r\n")
            leave(client)
        await closed(big / "big.bin")  # while the server goes on


@needs_proc
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_client_that_does_not_read_holds_up_no_stop(big: Path, workers: int) -> None:
    settings: dict[str, Any] = {"graceful_timeout": 0.1, "cleanup_timeout": 5, "workers": workers}
    async with live(big, **settings) as site, peer(site.server, receive_buffer=4096) as client:
        await client.get(site.path("big.bin"))
        await client.until(b"\r\n\r\n")
        assert await client.exactly(1)
        site.server.stop()
        assert len(await client.rest()) < BIG - 1, "cut, and seen to be"
    assert not site.server.report.abandoned
    assert sum(worker.force_closed for worker in site.server.report.workers) == 1
    await closed(big / "big.bin")


@needs_proc
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_disk_that_hangs_holds_up_no_stop(big: Path, monkeypatch: Any, workers: int) -> None:
    gate_out, gate_in = os.pipe()
    hangs = trio.Event()
    token = trio.lowlevel.current_trio_token()
    check = disk.DiskFile._check
    checks = 0

    def hang(self: disk.DiskFile, file: Any) -> None:
        nonlocal checks
        checks += 1
        if checks == 3:  # after the second read
            token.run_sync_soon(hangs.set)
            os.read(gate_out, 1)
        check(self, file)

    monkeypatch.setattr(disk.DiskFile, "_check", hang)
    settings: dict[str, Any] = {"graceful_timeout": 0.1, "cleanup_timeout": 5, "workers": workers}
    async with live(big, **settings) as site, peer(site.server) as client:
        await client.get(site.path("big.bin"))
        await client.until(b"\r\n\r\n")
        await hangs.wait()
        assert len(await client.exactly(disk.PIECE)) == disk.PIECE
        site.server.stop()
        assert await client.rest() == b""
    assert not site.server.report.abandoned
    assert not site.server.report.left_behind
    os.write(gate_in, b"x")
    await closed(big / "big.bin")
    os.close(gate_out)
    os.close(gate_in)


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_disk_that_hangs_starves_nobody(big: Path, monkeypatch: Any, workers: int) -> None:
    """Neither the threads of handlers, nor other directories, also after all who wait for it have left."""
    asked, hanging, gate = threading.Semaphore(0), threading.Semaphore(0), threading.Event()
    open_, read = disk.DiskFile.open, disk.DiskFile._read

    async def opening(self: disk.DiskFile, start: int, size: int) -> None:
        asked.release()
        await open_(self, start, size)

    def hang(self: disk.DiskFile, *args: Any) -> bytes:
        if self._path.parent == big:
            hanging.release()
            gate.wait(2 * PATIENCE)
        return read(self, *args)

    async def threaded(c: Context, w: Writer) -> None:
        default = trio.to_thread.current_default_thread_limiter()
        default.total_tokens = 1  # so that one more in use is one too many
        w.text(await trio.to_thread.run_sync(lambda: "done"))

    async def all_of(semaphore: threading.Semaphore, count: int) -> None:
        for _ in range(count):
            while not semaphore.acquire(blocking=False):
                await trio.lowlevel.checkpoint()

    monkeypatch.setattr(disk.DiskFile, "open", opening)
    monkeypatch.setattr(disk.DiskFile, "_read", hang)
    healthy = big.parent / "healthy"
    healthy.mkdir()
    (healthy / "a.bin").write_bytes(b"content")
    app = Stario(RecordingTracer())
    stuck = app.assets("/static", big)
    other = StaticAssets(healthy, cache_max_size=0)
    app.get("/healthy/*", other)
    app.get("/thread", threaded)
    clients = 50  # more than all threads of both workers, and than those of Trio
    try:
        with trio.fail_after(PATIENCE):
            async with app.serving(port=0, graceful_timeout=0.1, workers=workers) as server:

                async def others_go_on() -> None:
                    for _ in range(4):  # so that each worker is asked, most likely
                        async with peer(server) as client:
                            assert (await client.ask("/thread")).body == b"done"
                            assert (await client.ask(f"/healthy/{other.url('a.bin')}")).body == b"content"

                async with AsyncExitStack() as stack:
                    for _ in range(clients):
                        client = await stack.enter_async_context(peer(server))
                        await client.get(f"/static/{stuck.url('big.bin')}")
                    await all_of(asked, clients)
                    await all_of(hanging, THREADS)
                    await others_go_on()
                await others_go_on()  # the threads still hang
                server.stop()
            assert not server.report.abandoned
    finally:
        gate.set()


async def test_a_download_in_time_is_finished_by_a_stop(whole: Path) -> None:
    async with live(whole, graceful_timeout=20) as site, peer(site.server, receive_buffer=4096) as client:
        await client.get(site.path("big.bin"))
        await client.until(b"\r\n\r\n")
        site.server.stop()
        assert len(await client.exactly(WHOLE)) == WHOLE
        assert await client.ended()
    assert not site.server.report.workers[0].force_closed


async def test_a_hundred_downloads_at_once(folder: Path) -> None:
    content = os.urandom(300_000)
    (folder / "a.bin").write_bytes(content)
    async with live(folder, cache_max_size=0) as site:

        async def download() -> None:
            async with peer(site.server) as client:
                assert (await client.ask(site.path("a.bin"))).body == content

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(download)
