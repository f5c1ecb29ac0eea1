"""`TestClient` drives an app through the real wire, in memory."""

from __future__ import annotations

import subprocess
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from stario_trio import ClientDisconnected, Context, Limits, Router, Stario, StarioError, Writer
from stario_trio.testing import Client, RecordingTracer, TestClient, serving_in_memory
from stario_trio.testing.memory import WINDOW
from tests.support.live import app_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def hello(_c: Context, w: Writer) -> None:
    w.text("hello")


async def echo(c: Context, w: Writer) -> None:
    body = await c.req.body()
    w.json({"method": c.req.method, "path": c.req.path, "q": c.req.query.getlist("q"), "body": body.decode()})


async def broken(_c: Context, _w: Writer) -> None:
    raise ValueError("broken")


async def broken_late(_c: Context, w: Writer) -> None:
    w.write(b"begun")
    await trio.lowlevel.checkpoint()
    try:
        raise KeyError("the cause")
    except KeyError:
        raise ValueError("broken late")  # noqa: B904


class Stream:
    """A handler that sends an event whenever it is told to, and says how it has ended."""

    def __init__(self) -> None:
        self.more = trio.Semaphore(0)
        self.ended = trio.Event()
        self.why = ""

    async def __call__(self, _c: Context, w: Writer) -> None:
        n = 0
        async with w.alive():
            while True:
                w.sync({"n": n})
                n += 1
                await self.more.acquire()
        self.why = "stop" if w.shutting_down else "disconnect" if w.disconnected else "?"
        self.ended.set()


async def endless(_c: Context, w: Writer) -> None:
    w.write(b"begun")
    await trio.sleep_forever()


# Requests and responses


async def test_requests_and_responses_go_through_the_real_wire() -> None:
    async with TestClient(app_of(("/", hello), ("/echo/é", echo))) as client:
        assert isinstance(client, httpx2.AsyncClient)
        response = await client.get("/")
        assert (response.status_code, response.text, response.http_version) == (200, "hello", "HTTP/1.1")
        assert response.headers["content-length"] == "5"
        assert "date" in response.headers

        response = await client.post("/echo/é", params={"q": ["a b", "ü"]}, content="body")
        assert response.json() == {"method": "POST", "path": "/echo/é", "q": ["a b", "ü"], "body": "body"}

        assert (await client.head("/")).text == ""
        assert (await client.get("/nowhere")).status_code == 404
        assert (await client.get("https://other.example/")).text == "hello"
    assert client.server.report.balanced


async def test_one_connection_is_used_again_until_the_server_closes_it(autojump_clock: object) -> None:
    async with TestClient(app_of(("/", hello)), limits=Limits(keep_alive=5)) as client:
        for _ in range(3):
            await client.get("/")
            assert len(client.server.worker.connections) == 1
            await trio.sleep(4)
        await trio.sleep(2)
        assert not client.server.worker.connections
        assert (await client.get("/")).text == "hello"
        assert (await client.get("/", headers={"connection": "close"})).text == "hello"
        await wait_all_tasks_blocked()
        assert not client.server.worker.connections


async def test_a_host_and_a_secure_cookie() -> None:
    async def login(_c: Context, w: Writer) -> None:
        w.cookie("session", "s", secure=True).redirect("/", 303)

    async def home(c: Context, w: Writer) -> None:
        w.json(c.req.cookies)

    app, api = Stario(RecordingTracer()), Router()
    api.post("/login", login)
    api.get("/", home)
    app.host("api.example.com", api)
    async with TestClient(app, base_url="https://api.example.com", follow_redirects=True) as client:
        assert (await client.post("/login")).json() == {"session": "s"}
        async with client.server.client(base_url="https://api.example.com") as other:
            assert (await other.get("/")).json() == {}
        assert (await client.get("https://example.com/")).status_code == 404


async def test_an_upload_waits_for_the_handler() -> None:
    go = trio.Event()
    sent = 0

    async def upload(c: Context, w: Writer) -> None:
        await go.wait()
        w.json(sum([len(piece) async for piece in c.req.stream()]))

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(100):
            yield bytes(10_000)
            sent += 10_000

    async with TestClient(app_of(("/", upload))) as client, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def post() -> None:
            assert (await client.post("/", content=pieces())).json() == 1_000_000

        await wait_all_tasks_blocked()
        # What the server has read with the head, and what is on the way.
        assert WINDOW - 20_000 <= sent <= 2 * WINDOW + 20_000
        go.set()


async def test_a_response_waits_for_who_reads_it() -> None:
    written = 0

    async def flood(_c: Context, w: Writer) -> None:
        nonlocal written
        for _ in range(100):
            w.write(bytes(10_000))
            written += 10_000
            await w.drain()

    async with (
        TestClient(app_of(("/", flood)), limits=Limits(high_water=10_000)) as client,
        client.stream("GET", "/") as response,
    ):
        await wait_all_tasks_blocked()
        assert written <= 2 * WINDOW + 40_000  # one in the hands of httpx, one on the way, one unsent
        assert len(await response.aread()) == 1_000_000


# Streams, disconnects, stops


async def test_a_stream_comes_event_by_event_and_leaving_it_disconnects() -> None:
    stream = Stream()
    async with TestClient(app_of(("/", stream))) as client:
        async with client.stream("GET", "/") as response:
            assert response.headers["content-type"] == "text/event-stream"
            async with aclosing(response.aiter_bytes()) as pieces:
                for n in range(3):
                    assert await anext(pieces) == b'event: datastar-patch-signals\ndata: signals {"n":%d}\n\n' % n
                    await wait_all_tasks_blocked()
                    assert not stream.ended.is_set()
                    stream.more.release()
        await stream.ended.wait()
        assert stream.why == "disconnect"


async def test_events_as_httpx2_reads_them(autojump_clock: object) -> None:
    async def ticks(_c: Context, w: Writer) -> None:
        for n in range(3):
            w.sync({"n": n})
            await trio.sleep(1)

    async with TestClient(app_of(("/", ticks))) as client:
        start = trio.current_time()
        async with client.sse("/") as events:
            arrived = [(event.event, event.data, trio.current_time() - start) async for event in events]
    assert arrived == [("datastar-patch-signals", f'signals {{"n":{n}}}', n) for n in range(3)]


async def test_a_cancelled_request_disconnects() -> None:
    stream = Stream()
    async with TestClient(app_of(("/", stream))) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.get, "/")
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await stream.ended.wait()
    assert stream.why == "disconnect"


async def test_a_stop_ends_streams_and_refuses_new_requests() -> None:
    stream = Stream()
    async with TestClient(app_of(("/", stream))) as client:
        async with client.stream("GET", "/") as response:
            client.server.stop()
            assert (await response.aread()).count(b"event:") == 1
        await client.server.wait_stopped()
        client.server.stop()
        with pytest.raises(httpx2.ConnectError, match="accepts no connections any more"):
            await client.get("/")
    assert stream.why == "stop"
    assert client.server.report.finished == 1


async def test_the_end_of_the_block_is_a_graceful_stop_in_virtual_time(autojump_clock: object) -> None:
    ends: list[float] = []

    async def slow(_c: Context, w: Writer) -> None:
        w.write(b"begun")
        try:
            await trio.sleep_forever()
        finally:
            ends.append(trio.current_time() - start)

    start = trio.current_time()
    async with TestClient(app_of(("/", slow)), graceful_timeout=3600.0, cleanup_timeout=1.0) as client:
        stubborn = client.server.connect(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        await stubborn.read_until(b"begun")
    assert ends == [3600.0]
    assert client.server.report.handlers_cancelled == 1
    assert client.server.errors == []


async def test_a_stop_without_grace_cuts_a_response(autojump_clock: object) -> None:
    async with TestClient(app_of(("/", endless)), graceful_timeout=3600.0) as client:
        with pytest.raises(httpx2.RemoteProtocolError):
            async with client.stream("GET", "/") as response:
                client.server.stop(now=True)
                await response.aread()
        assert trio.current_time() < 1


async def test_a_reset_is_an_error_of_the_network() -> None:
    async def stops(_c: Context, _w: Writer) -> None:
        client.server.stop(now=True)
        await trio.sleep_forever()

    async with TestClient(app_of(("/", stops))) as client:
        with pytest.raises(httpx2.ReadError, match="reset"):
            await client.post("/", content=bytes(10 * WINDOW))


async def test_an_error_of_the_test_ends_everything_at_once(autojump_clock: object) -> None:
    start = trio.current_time()
    with pytest.raises(ZeroDivisionError):
        async with TestClient(app_of(("/", endless)), graceful_timeout=3600.0) as client, client.stream("GET", "/"):
            1 / 0  # noqa: B018
    assert trio.current_time() == start


# Timeouts of the client


async def test_a_client_waits_for_ever_unless_it_is_told_otherwise(autojump_clock: object) -> None:
    async def slow(_c: Context, w: Writer) -> None:
        await trio.sleep(100)
        w.text("at last")

    async def deaf(_c: Context, w: Writer) -> None:
        await trio.sleep_forever()

    app = app_of(("/slow", slow), ("/deaf", deaf))
    async with TestClient(app, raise_handler_errors=False) as client:
        assert (await client.get("/slow")).text == "at last"
        with pytest.raises(httpx2.ReadTimeout):
            await client.get("/slow", timeout=99)
        with pytest.raises(httpx2.WriteTimeout):
            await client.post("/deaf", timeout=9, content=bytes(1_000_000))


# Errors of handlers


async def test_an_error_of_a_handler_comes_out_of_its_request() -> None:
    app = app_of(("/", hello), ("/broken", broken), ("/late", broken_late))
    async with TestClient(app) as client:
        assert (await client.get("/")).text == "hello"
        with pytest.raises(ValueError, match=r"^broken$") as caught:
            await client.get("/broken")  # the second of its connection
        assert "broken" in [entry.name for entry in caught.traceback], "the traceback leads into the handler"

        with pytest.raises(ValueError, match="broken late") as caught:
            await client.get("/late")
        assert isinstance(caught.value.__context__, KeyError), "nor is its history lost"
        async with client.stream("GET", "/late") as response:
            with pytest.raises(ValueError, match="broken late"):
                await response.aread()
        assert (await client.get("/")).text == "hello"
    assert client.server.errors == []


async def fails(c: Context, w: Writer) -> None:
    """Fail in the way that the number of the request says."""
    n = int(c.req.query.get("n", ""))
    await trio.sleep(n % 3)
    w.write(b"begun") if n % 2 else w.headers.set("x-n", str(n))
    raise ValueError(f"number {n}")


async def own_500(_c: Context, w: Writer) -> None:
    w.text("mine", 500)


async def fail_unseen(client: Client, path: str = "/broken") -> None:
    """Let a handler fail for a peer that is no client."""
    peer = client.server.connect(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
    await peer.read_to_end()


async def test_each_request_gets_its_own_error(autojump_clock: object) -> None:
    got: dict[int, str] = {}
    async with TestClient(app_of(("/", fails))) as client:

        async def get(n: int) -> None:
            with pytest.raises(ValueError) as caught:  # noqa: PT011  (that is what is tested)
                await client.get("/", params={"n": n})
            got[n] = str(caught.value)

        for _ in range(2):  # on new connections, and on those that could be kept
            async with trio.open_nursery() as nursery:
                for n in range(30):
                    nursery.start_soon(get, n)
            assert got == {n: f"number {n}" for n in range(30)}
            got.clear()


async def test_a_response_of_the_handlers_own_choice_raises_nothing() -> None:
    with pytest.raises(ValueError, match=r"^broken$"):
        async with TestClient(app_of(("/broken", broken), ("/own", own_500))) as client:
            await fail_unseen(client)
            assert (await client.get("/own")).text == "mine"


async def test_a_failure_of_the_client_itself_is_not_replaced(autojump_clock: object) -> None:
    async def upload() -> AsyncIterator[bytes]:
        yield b"some"
        raise LookupError("in the upload")

    async def reads_and_fails(c: Context, _w: Writer) -> None:
        try:
            await c.req.body()
        except ClientDisconnected:
            raise ValueError("no body") from None

    with pytest.raises(ExceptionGroup) as caught:
        async with TestClient(app_of(("/broken", broken), ("/deaf", endless), ("/", reads_and_fails))) as client:
            await fail_unseen(client)
            with pytest.raises(httpx2.ReadTimeout):
                await client.get("/deaf", timeout=1)
            with pytest.raises(LookupError, match="in the upload"):
                await client.post("/", content=upload())
            await wait_all_tasks_blocked()
    assert list(map(str, caught.value.exceptions)) == ["broken", "no body"]


async def test_the_error_of_a_request_that_was_given_up_is_not_the_next_ones(autojump_clock: object) -> None:
    with pytest.raises(ValueError, match="number 2"):
        async with TestClient(app_of(("/", fails), ("/own", own_500))) as client:
            with trio.move_on_after(1):
                await client.get("/?n=2")
            await trio.sleep(5)
            with pytest.raises(ValueError, match="number 3"):
                await client.get("/?n=3")


async def test_an_error_after_the_answer_is_of_the_request_that_was_answered() -> None:
    go = trio.Event()

    async def answers_and_fails(c: Context, w: Writer) -> None:
        w.text("answer")
        if "wait" in c.req.query:
            await go.wait()
        raise ValueError("after the answer")

    with pytest.raises(ValueError, match="after the answer"):
        async with TestClient(app_of(("/", answers_and_fails), ("/own", own_500))) as client:
            with pytest.raises(ValueError, match="after the answer"):
                await client.get("/")  # it is known when the answer has been read
            assert client.server.errors == []

            assert (await client.get("/?wait=1")).text == "answer"
            async with trio.open_nursery() as nursery:
                second: list[httpx2.Response] = []

                @nursery.start_soon
                async def get() -> None:
                    second.append(await client.get("/own"))

                await wait_all_tasks_blocked()
                assert len(client.server.worker.connections) == 1, "the next request waits behind the handler"
                go.set()
            assert second[0].text == "mine"


async def test_an_error_after_the_client_has_left_is_seen_at_the_end() -> None:
    async def fails_when_alone(_c: Context, w: Writer) -> None:
        async with w.alive():
            w.write(b"begun")
            await trio.sleep_forever()
        raise ValueError("alone")

    with pytest.raises(ExceptionGroup) as caught:
        async with TestClient(app_of(("/", fails_when_alone), ("/late", broken_late))) as client:
            for path in ("/", "/late"):  # before it is known, and after
                async with client.stream("GET", path) as response:
                    async for _ in response.aiter_bytes():
                        await wait_all_tasks_blocked()
                        break
                await wait_all_tasks_blocked()
    assert list(map(str, caught.value.exceptions)) == ["alone", "broken late"]


async def test_clients_may_see_what_they_would_see_in_production() -> None:
    tracer = RecordingTracer()
    app = app_of(("/broken", broken), ("/late", broken_late), tracer=tracer)
    async with TestClient(app, raise_handler_errors=False) as client:
        response = await client.get("/broken")
        assert (response.status_code, response.text) == (500, "Internal Server Error")
        with pytest.raises(httpx2.RemoteProtocolError) as caught:
            await client.get("/late")
        assert type(caught.value.__cause__).__module__ == "httpcore2"
    assert [str(error) for error in client.server.errors] == ["broken", "broken late"]
    assert [span.error for span in tracer.all("GET")] == ["broken", "broken late"]


async def test_an_error_that_is_handled_is_none() -> None:
    def sorry(_c: Context, w: Writer, exc: ValueError) -> None:
        w.text(f"sorry: {exc}", 500)

    app = app_of(("/broken", broken))
    app.on_error(ValueError, sorry)
    async with TestClient(app) as client:
        assert (await client.get("/broken")).text == "sorry: broken"


async def test_what_ends_the_server_comes_out_of_the_block() -> None:
    async def leave(_c: Context, _w: Writer) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit, match="3"):
        async with TestClient(app_of(("/", leave))) as client:
            await client.get("/")


# Several clients, and peers that speak bytes


async def test_several_clients_of_one_server() -> None:
    async def count(c: Context, w: Writer) -> None:
        n = int(c.req.cookies.get("n", "0")) + 1
        w.cookie("n", str(n)).json(n)

    async with (
        serving_in_memory(app_of(("/", count))) as server,
        server.client() as alice,
        server.client(headers={"x-name": "bob"}) as bob,
    ):
        assert [(await each.get("/")).json() for each in (alice, alice, bob)] == [1, 2, 1]
        assert bob.headers["x-name"] == "bob"
        assert alice.server is bob.server is server


async def test_half_a_request_a_reset_and_a_peer_that_reads_nothing(autojump_clock: object) -> None:
    stream = Stream()
    async with serving_in_memory(app_of(("/", stream), ("/hello", hello)), limits=Limits(header_timeout=10)) as server:
        half = server.connect(b"GET / HTTP/1.1\r\nHo")
        assert b" 408 " in await half.read_to_end()

        gone = server.connect(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        await gone.read_until(b'"n":0')
        gone.abort()
        await stream.ended.wait()
        assert stream.why == "disconnect"

        deaf = server.connect(b"GET /hello HTTP/1.1\r\nHost: test\r\n\r\n", window=10)
        await wait_all_tasks_blocked()
        assert deaf.received == b"HTTP/1.1 2"
        async with deaf:
            received = b""
            while b"hello" not in received:
                received += await deaf.receive_some()
    assert server.report.balanced


# The library


async def test_the_library_may_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    async with TestClient(app_of(("/", hello)), library=httpx2) as client:
        assert isinstance(client, Client)
        assert isinstance(client, httpx2.AsyncClient)
    with pytest.raises(StarioError, match="Unknown HTTP client library"):
        async with TestClient(app_of(("/", hello)), library=pytest):
            pass


@pytest.mark.parametrize(
    "option", [{"proxy": "http://192.0.2.1"}, {"mounts": {"http://": httpx2.AsyncHTTPTransport()}}]
)
async def test_what_leads_to_a_real_network_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(StarioError, match=r"TestClient takes no (proxy|mounts)(?s:.*)x-forwarded-for"):
        async with TestClient(app_of(("/", hello)), **option):
            pass
    none: Any = dict.fromkeys(option)
    async with TestClient(app_of(("/", hello)), **none) as client:
        assert (await client.get("/")).text == "hello"


async def test_without_a_library_there_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(StarioError, match="pip install httpx2"):
        async with TestClient(app_of(("/", hello))):
            pass


def test_no_library_is_imported_before_it_is_used() -> None:
    program = """
import sys
import stario_trio
assert "stario_trio.testing" not in sys.modules
import stario_trio.testing
loaded = {"httpx2", "httpx", "httpcore2", "httpcore", "pytest", "asyncio"} & set(sys.modules)
assert not loaded, loaded
assert stario_trio.TestRequest is stario_trio.testing.TestRequest
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


# In a fixture, with a nursery inside, as pytest-trio allows


@pytest.fixture
async def a_client() -> AsyncIterator[Client]:
    async with TestClient(app_of(("/", hello))) as client:
        yield client


@pytest.fixture
async def second_client(a_client: Client) -> AsyncIterator[Client]:
    async with a_client.server.client() as second:
        yield second


async def test_in_a_fixture(a_client: Client, second_client: Client) -> None:
    assert (await a_client.get("/")).text == "hello"
    assert (await second_client.get("/")).text == "hello"


async def test_in_a_fixture_on_a_virtual_clock(autojump_clock: Any, a_client: Client) -> None:
    await trio.sleep(3600)
    assert (await a_client.get("/")).text == "hello"
