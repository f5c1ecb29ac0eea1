"""Programs whose telemetry nobody reads, or that end in one way or another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from stario_trio.telemetry.outlet import EXIT_TIMEOUT

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 60
REQUESTS = 400

SERVER = """
import os, sys, trio
from stario_trio import JsonTracer, RichTracer, Stario
kind, block = sys.argv[1:]
tracer = JsonTracer() if kind == "json" else RichTracer()

async def padded(c, w):
    c.span["padding"] = "x" * 1000  # together far more than a pipe or a terminal takes
    w.text("hi")

async def main():
    app = Stario(tracer)
    app.get("/", padded)
    async with trio.open_nursery() as nursery:
        [(_, port)] = await nursery.start(app.serve, "127.0.0.1", 0)
        os.write(2, b"%d\\n" % port)

if block == "block":
    with tracer:
        trio.run(main)
else:
    trio.run(main)
"""


async def ask(port: int, times: int) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        for _ in range(times):
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            answer = b""
            while not answer.endswith(b"\r\n\r\nhi"):
                answer += (data := await stream.receive_some())
                assert data, "the server closed the connection"


def read_all(descriptor: int) -> bytes:
    """What stands in a pipe or a terminal whose other side is gone."""
    data = b""
    try:
        while more := os.read(descriptor, 65536):
            data += more
    except OSError:  # so ends a terminal
        pass
    return data


async def serve_unread(kind: str, output: str, block: str) -> tuple[int, bytes, bytes]:
    """Serve into an output that nobody reads, and stop. Returns the exit code, the output, and standard error."""
    reader, writer = os.openpty() if output == "terminal" else os.pipe()
    environment = {**os.environ, "TERM": "xterm"}
    process = await trio.lowlevel.open_process(
        [sys.executable, "-X", "utf8", "-c", SERVER, kind, block],
        stdout=writer,
        stderr=subprocess.PIPE,
        env=environment,
    )
    try:
        os.close(writer)
        assert process.stderr is not None
        said = b""
        while not said.endswith(b"\n"):
            said += await process.stderr.receive_some()
        port = int(said)
        await ask(port, REQUESTS)  # all are answered: nothing waits for the reader
        process.send_signal(signal.SIGTERM)
        complaint = b"".join([data async for data in process.stderr])
        return await process.wait(), await trio.to_thread.run_sync(read_all, reader), complaint
    finally:
        if process.poll() is None:
            process.kill()
            await process.wait()
        if process.stderr is not None:
            await process.stderr.aclose()
        os.close(reader)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and terminals of POSIX")
async def test_an_output_that_nobody_reads_stops_neither_requests_nor_the_stop() -> None:
    """The terminal stands for one that was stopped with Ctrl+S."""
    found: dict[tuple[str, str, str], tuple[int, bytes, bytes]] = {}

    async def one(*what: str) -> None:
        found[what[0], what[1], what[2]] = await serve_unread(*what)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, "json", "pipe", "block")
            nursery.start_soon(one, "json", "terminal", "no block")
            nursery.start_soon(one, "rich", "pipe", "no block")
            nursery.start_soon(one, "rich", "terminal", "block")
    for what, (code, output, complaint) in found.items():
        assert code == 0, (what, complaint)
        assert len(output) > 1000, what
        # The others, if a busy machine has kept RichTracer from rendering before its time was over.
        said = (b"for they were not taken in time", b"lost until this is over", b"for there was no time")
        assert 1 <= complaint.count(b"\n") <= len(said), what
        assert all(line.endswith(said) for line in complaint.splitlines()), (what, complaint)
    records = [json.loads(line) for line in found["json", "pipe", "block"][1].splitlines()]
    assert [record["name"] for record in records[:2]] == ["server.startup", "GET"]
    assert len(records) > 10  # and not one of them is cut


def test_the_end_waits_no_longer_than_it_says() -> None:
    assert EXIT_TIMEOUT <= 2


def run(script: str, *, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
        timeout=PATIENCE,
    )


START = """
import atexit, os, signal, sys
from stario_trio.telemetry import JsonTracer
tracer = JsonTracer()
def some(name, count=1000):
    for n in range(count):
        tracer(name, {"n": n}).end()
"""


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("some('a')", 0),
        ("with tracer: some('a')", 0),
        ("some('a'); sys.exit(3)", 3),
        ("some('a'); 1 / 0", 1),
        ("with tracer:\n  some('a'); 1 / 0", 1),
        ("atexit.register(some, 'a')", 0),
        ("some('a', 999); atexit.register(tracer('a').end)", 0),
        ("with tracer: some('a', 999)\natexit.register(tracer('a').end)", 0),
        ("signal.signal(signal.SIGTERM, lambda *_: some('a') or sys.exit(5)); os.kill(os.getpid(), signal.SIGTERM)", 5),
    ],
)
def test_however_a_program_ends_no_line_is_lost(ending: str, code: int) -> None:
    ended = run(START + ending)
    assert ended.returncode == code
    names = [json.loads(line)["name"] for line in ended.stdout.splitlines()]
    assert names == ["a"] * 1000


def test_spans_that_end_in_a_signal_handler_in_the_middle_of_everything() -> None:
    script = """
import gc
gc.set_threshold(1)  # finalisers, too, in the middle of everything
ended = depth = 0
over = False
def handler(*_):
    global ended, depth
    if over: return
    depth += 1
    if depth < 5: signal.setitimer(signal.ITIMER_REAL, 1e-4)  # also in the middle of another, but not without end
    tracer("signal").end()
    ended += 1
    depth -= 1
    signal.setitimer(signal.ITIMER_REAL, 1e-4)
class Finalised:
    def __init__(self): self.me = self
    def __del__(self): tracer("finaliser").end()
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 1e-4)
made = 0
while ended < 50:
    Finalised()
    some("a", 10)
    made += 10
over = True
gc.collect()
os.write(2, b"%d %d %d" % (ended, made, made // 10))
"""
    ended = run(START + script)
    assert ended.returncode == 0
    names = [json.loads(line)["name"] for line in ended.stdout.splitlines()]
    counts = [names.count("signal"), names.count("a"), names.count("finaliser")]
    assert " ".join(map(str, counts)).encode() == ended.stderr


def test_a_reader_that_leaves_is_told_of_once() -> None:
    """As with `| head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = run(START + "for _ in range(3):\n  with tracer: some('a')", stdout=writer)
    finally:
        os.close(writer)
    assert ended.returncode == 0
    assert ended.stderr == b"stario-json-tracer: [Errno 32] Broken pipe; its output is lost until this is over\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_writes_its_own_lines_and_not_its_parents() -> None:
    script = """
some("parent", 3)
if (child := os.fork()) == 0:
    with tracer:
        some("child", 3)
    os._exit(0)  # no exit of the interpreter: what `with` does not write is lost
os.waitpid(child, 0)
"""
    ended = run(START + script)
    names = [json.loads(line)["name"] for line in ended.stdout.splitlines()]
    assert sorted(names) == ["child"] * 3 + ["parent"] * 3


def test_a_file_that_is_closed_before_the_tracer_has_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    ended = run(START + f"with open({str(path)!r}, 'w') as output:\n  tracer = JsonTracer(output)\n  some('a')")
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert len(path.read_bytes().splitlines()) == 1000


def test_lines_and_prints_keep_their_order() -> None:
    script = "for n in range(20):\n  with tracer: print('printed', n); some('a', 1)"
    ended = run(START + script)
    lines = ended.stdout.splitlines()
    assert [line for line in lines if line.startswith(b"printed")] == [b"printed %d" % n for n in range(20)]
    assert [line[:1] for line in lines] == [b"p", b"{"] * 20


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_a_standard_output_that_is_wrapped_and_not_read_stops_no_exit() -> None:
    """A thread that waited in it would hold its lock, and the interpreter would abort."""
    script = """
class Tee:
    def __init__(self, output): self.output = output
    def write(self, text): return self.output.write(text)
    def __getattr__(self, name): return getattr(self.output, name)
sys.stdout = Tee(sys.stdout)
tracer = JsonTracer()
with tracer: some("x" * 100, 3000)
"""
    reader, writer = os.pipe()
    try:
        ended = run(START + script, stdout=writer)
    finally:
        os.close(reader)
        os.close(writer)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.endswith(b"lines are lost, for they were not taken in time\n")


RICH = """
import atexit
from stario_trio.telemetry import RichTracer
tracer = RichTracer()
"""


@pytest.mark.parametrize(
    "ending",
    [
        "with tracer:\n  with tracer: tracer('inner').end()\n  tracer('wanted').end()",
        "with tracer: tracer('inner').end()\ntracer('wanted').end()",
        "atexit.register(lambda: tracer('wanted').end()); tracer('inner').end()",
        "atexit.register(tracer('wanted').end); tracer('inner').end()",
        "atexit.register(lambda: tracer('wanted').end())\nwith tracer: tracer('inner').end()",
        "with tracer: span = tracer('inner')\nspan.step('wanted').end()",
    ],
)
def test_however_a_program_ends_rich_shows_every_span(ending: str) -> None:
    ended = run(RICH + ending)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.count(b"inner") == ended.stdout.count(b"wanted") == 1
