"""curl, as a client that is not ours and not Python's."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.live import live

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from stario_trio import Context, Server, Writer

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")

BOUND = "20"  # seconds for one call of curl


async def curl(server: Server, *args: str) -> subprocess.CompletedProcess[bytes]:
    """Run curl; a word that begins with `/` is a path on the server."""
    host, port = server.addresses[0]
    words = [f"http://{host}:{port}{word}" if word.startswith("/") else word for word in args]
    return await trio.run_process(
        ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", BOUND, *words],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )


async def hello(c: Context, w: Writer) -> None:
    w.text("hello")


async def echo(c: Context, w: Writer) -> None:
    w.respond(await c.req.body(), b"application/octet-stream")


async def pieces(c: Context, w: Writer) -> None:
    for word in ("one ", "two ", "three"):
        w.write(word.encode())
        await trio.lowlevel.checkpoint()
    w.end()


ROUTES = [("/", hello), ("/echo", echo), ("/pieces", pieces)]


async def test_two_requests_on_one_connection() -> None:
    async with live(*ROUTES) as server:
        result = await curl(server, "--verbose", "/", "/pieces")
    assert result.returncode == 0
    assert result.stdout == b"helloone two three"
    assert b"Re-using existing connection" in result.stderr


async def test_head() -> None:
    async with live(*ROUTES) as server:
        result = await curl(server, "--head", "/")
    assert result.returncode == 0
    assert b"content-length: 5\r\n" in result.stdout
    assert result.stdout.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("fields", [[], ["--header", "Transfer-Encoding: chunked"]], ids=["counted", "chunked"])
async def test_expect_continue_is_answered(tmp_path: Path, fields: list[str]) -> None:
    """curl asks first when the body is large, and would wait a second (here: longer than the test)."""
    body = hashlib.shake_128(b"curl").digest(2_000_000)
    file = tmp_path / "body"
    file.write_bytes(body)
    async with live(*ROUTES) as server:
        result = await curl(
            server, "--verbose", "--http1.1", "--header", "Expect: 100-continue", "--expect100-timeout", BOUND,
            *fields, "--data-binary", f"@{file}", "/echo",
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert b"HTTP/1.1 100 Continue" in result.stderr
    assert result.stdout == body


async def test_expect_continue_with_a_handler_that_does_not_read(tmp_path: Path) -> None:
    file = tmp_path / "body"
    file.write_bytes(bytes(2_000_000))
    async with live(*ROUTES) as server:
        result = await curl(
            server, "--header", "Expect: 100-continue", "--expect100-timeout", BOUND, "--data-binary", f"@{file}", "/",
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout == b"hello"


@pytest.mark.parametrize("keep", [False, True])
async def test_http_1_0(keep: bool) -> None:
    fields = ["--header", "Connection: keep-alive"] if keep else []
    async with live(*ROUTES) as server:
        result = await curl(server, "--verbose", "--http1.0", *fields, "/", "/pieces")
    assert result.returncode == 0, result.stderr
    assert result.stdout == b"helloone two three"
    assert (b"Re-using existing connection" in result.stderr) is keep


async def test_a_target_too_long() -> None:
    async with live(*ROUTES) as server:
        result = await curl(server, "--write-out", " %{http_code}", "/" + "x" * 9000)
        assert result.stdout == b"Request target too long 414"
        assert (await curl(server, "/")).stdout == b"hello"


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "server.sock")
    async with live(*ROUTES, unix_socket=path):
        process = await trio.run_process(
            ["curl", "--silent", "--show-error", "--max-time", BOUND, "--unix-socket", path, "http://test/"],
            capture_stdout=True,
        )
    assert process.stdout == b"hello"


async def test_a_response_that_is_cut_is_an_error_to_curl() -> None:
    async def fail(c: Context, w: Writer) -> None:
        w.write(b"the first part")
        raise ZeroDivisionError

    async with live(("/", fail)) as server:
        chunked = await curl(server, "/")
        by_close = await curl(server, "--http1.0", "/")
    assert chunked.returncode == 18  # CURLE_PARTIAL_FILE
    assert by_close.returncode == 56  # CURLE_RECV_ERROR
