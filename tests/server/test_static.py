"""Static files for clients that are not ours, and beside nginx, which answers for the same files."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
import trio

from stario_trio import NoopTracer, Stario, StaticAssets
from tests.support.live import PATIENCE, Answer, Peer, peer
from tests.support.nginx import needs_nginx, nginx

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

SIZE = 300_000
TEXT = b"the same line again and again\n" * 1000


class Site:
    def __init__(self, base: str, assets: StaticAssets) -> None:
        self.base = base
        self.assets = assets

    def url(self, name: str) -> str:
        return f"{self.base}/static/{self.assets.url(name)}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    www = tmp_path / "www"
    www.mkdir()
    (www / "a.bin").write_bytes(os.urandom(SIZE))
    (www / "a.txt").write_bytes(TEXT)
    (www / "empty.txt").touch()
    return www


@pytest.fixture(params=["memory", "disk"])
async def site(request: pytest.FixtureRequest, folder: Path) -> AsyncGenerator[Site]:
    assets = StaticAssets(folder, cache_max_size=0 if request.param == "disk" else SIZE)
    app = Stario(NoopTracer())
    app.get("/static/*", assets)
    app.head("/static/*", assets)
    async with app.serving(port=0) as server:
        host, port = server.addresses[0]
        yield Site(f"http://{host}:{port}", assets)


async def run(*command: str) -> bytes:
    with trio.fail_after(PATIENCE):
        result = await trio.run_process(command, capture_stdout=True)
    return bytes(result.stdout)


async def curl(*words: str) -> bytes:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    return await run("curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "20", *words)


@pytest.mark.parametrize(
    ("written", "part"),
    [
        ("0-0", slice(0, 1)),
        ("1000-1999", slice(1000, 2000)),
        ("299999-", slice(299_999, None)),
        ("-5", slice(-5, None)),
        ("65536-200000", slice(65536, 200_001)),
        ("0-9999999", slice(None)),
    ],
)
async def test_curl_gets_ranges(site: Site, folder: Path, written: str, part: slice[int | None]) -> None:
    got = await curl("--range", written, site.url("a.bin"))
    assert got == (folder / "a.bin").read_bytes()[part]


@pytest.mark.parametrize("had", [1, 65536, SIZE - 1])
async def test_curl_resumes_a_download(site: Site, folder: Path, had: int) -> None:
    content = (folder / "a.bin").read_bytes()
    target = folder.parent / "got"
    target.write_bytes(content[:had])
    transferred = await curl("-C", "-", "-o", str(target), "-w", "%{size_download}", site.url("a.bin"))
    assert target.read_bytes() == content
    assert int(transferred) == SIZE - had


@pytest.mark.skipif(shutil.which("wget") is None, reason="wget is not installed")
async def test_wget_resumes_a_download(site: Site, folder: Path) -> None:
    content = (folder / "a.bin").read_bytes()
    target = folder.parent / site.assets.url("a.bin")
    target.write_bytes(content[:100_000])
    command = ["wget", "--no-proxy", "--quiet", "--continue", "--tries=1", "--timeout=20"]
    await run(*command, "--directory-prefix", str(folder.parent), site.url("a.bin"))
    assert target.read_bytes() == content


async def test_curl_follows_the_redirect_and_decodes(site: Site) -> None:
    body = await curl("--location", "--compressed", "-w", " %{http_code} %{num_redirects}", f"{site.base}/static/a.txt")
    assert body == TEXT + b" 200 1"


async def test_curl_asks_again_by_tag_and_by_date(site: Site, folder: Path) -> None:
    tag, copy = folder.parent / "tag", folder.parent / "copy"
    words = ("-o", str(copy), "-w", "%{http_code}", site.url("a.txt"))
    saved = ("--etag-save", str(tag), "--etag-compare", str(tag))
    assert await curl(*saved, "--remote-time", *words) == b"200"
    assert copy.read_bytes() == TEXT
    assert await curl(*saved, *words) == b"304"
    assert await curl("--time-cond", str(copy), *words) == b"304"


# Beside nginx

SITE = """
    server {{
        listen unix:{folder}/nginx.sock;
        root {www};
        max_ranges 1;
    }}
"""


class ToNginx(Peer):
    """Writes field names as we do."""

    async def until(self, marker: bytes) -> bytes:
        first, *lines = (await super().until(marker)).split(b"\r\n")
        fields = [line.partition(b":") for line in lines]
        return b"\r\n".join([first, *(name.lower() + colon + value for name, colon, value in fields)])


async def ask_nginx(where: Path, path: str, *lines: str, method: str = "GET") -> Answer:
    """Ask on a connection of its own: nginx closes some of them."""
    async with await trio.open_unix_socket(where) as stream:
        return await ToNginx(stream).ask(path, *lines, method=method)


RANGES = [
    *("bytes=0-0", "bytes=5-9", "bytes=5-", "bytes=-5", "bytes=0-", "bytes=5-999999", "bytes=-999999"),
    *("bytes=30000-", "bytes=29999-", "bytes=30000-30001", "bytes=-0", "bytes=999999999999-"),
    *("items=0-5", "bytes:0-5", "bytes= 0-5", "bytes=0-5 ", "bytes=0-5,7-9", ""),
]
CONDITIONS = [
    *("If-None-Match: *", 'If-None-Match: "x"', "If-None-Match: {etag}", 'If-None-Match: "x", W/{etag}'),
    *("If-Match: *", 'If-Match: "x"', "If-Match: {etag}", 'If-Match: "x", {etag}', "If-Match: W/{etag}"),
    *("If-Modified-Since: {date}", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT"),
    *("If-Unmodified-Since: {date}", "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT"),
    *("Range: bytes=5-9|If-Range: {etag}", 'Range: bytes=5-9|If-Range: "x"', "Range: bytes=5-9|If-Range: {date}"),
    *("Range: bytes=5-9|If-None-Match: {etag}", 'Range: bytes=99999-|If-Match: "x"'),
    # The other way round, nginx looks at the date although the tag decides (RFC 9110 section 13.2.2).
    'If-None-Match: "x"|If-Modified-Since: {date}',
]


def told(answer: Answer) -> tuple[object, ...]:
    content = answer.body if answer.status in (200, 206) else b""
    return answer.status, answer.fields.get("content-range"), content


@needs_nginx
async def test_the_answers_are_those_of_nginx(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    app = Stario(NoopTracer())
    assets = app.assets("/", folder)
    path = "/" + assets.url("a.txt")
    elsewhere = tmp_path_factory.mktemp("n")  # a short path, which a socket needs
    async with (
        app.serving(port=0) as server,
        peer(server) as ours,
        nginx(elsewhere, SITE.format(folder=elsewhere, www=folder)) as theirs,
    ):
        heads = await ours.ask(path, method="HEAD"), await ask_nginx(theirs, "/a.txt", method="HEAD")
        assert heads[0].fields["last-modified"] == heads[1].fields["last-modified"]
        for lines in (*(f"Range: {value}" for value in RANGES), *CONDITIONS):
            mine, other = (
                lines.format(etag=head.fields["etag"], date=head.fields["last-modified"]).split("|") for head in heads
            )
            assert told(await ours.ask(path, *mine)) == told(await ask_nginx(theirs, "/a.txt", *other)), lines


async def test_a_peer_that_sends_no_more_gets_the_whole_file(site: Site, folder: Path) -> None:
    """It has closed only its own half, as `nc -N` does: it still reads."""
    host, port = site.base.removeprefix("http://").split(":")
    with trio.fail_after(PATIENCE):
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            path = f"/static/{site.assets.url('a.bin')}"
            await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            await stream.send_eof()
            got = b"".join([piece async for piece in stream])
    assert got.partition(b"\r\n\r\n")[2] == (folder / "a.bin").read_bytes()
