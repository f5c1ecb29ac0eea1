"""A connection is stopped at each of its awaits, in each way there is; after that nothing is left of it.

One scenario goes through everything a connection can wait for: a head in two pieces, a body in pieces with
`100 Continue`, a slow reader, `drain()`, an SSE stream over a relay, an `alive()` block, the next request, a linger.
It is played once to count the steps of the connection's task; then for each step, with the end coming just there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from stario_trio import Relay
from tests.support.answers import answers
from tests.support.stage import Stage, request, stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from stario_trio import Context, Writer
    from stario_trio.testing.memory import MemoryStream as Client

relay: Relay[int] = Relay()


async def everything(c: Context, w: Writer) -> None:
    """Waits in every way a handler can."""
    size = 0
    async for piece in c.req.stream():
        size += len(piece)
    w.write(b"x" * 3000)  # more than the window takes
    await w.drain()
    async for _, number in w.alive(relay.subscribe("numbers.*")):
        w.patch(f"{number}", selector="#n")
        if number == 2:
            break
    async for number in w.alive(count()):
        w.patch(f"{number}", selector="#n")
    with trio.move_on_after(1):
        async with w.alive():
            await trio.sleep_forever()
    w.write(b"%d bytes" % size)


class count:
    """Two numbers, a second apart; knows how many are open."""

    open = 0

    def __init__(self) -> None:
        count.open += 1
        self.n = 0

    def __aiter__(self) -> count:
        return self

    async def __anext__(self) -> int:
        self.n += 1
        if self.n > 2:
            raise StopAsyncIteration
        await trio.sleep(1)
        return self.n

    async def aclose(self) -> None:
        count.open -= 1


class AtStep(trio.abc.Instrument):
    """Does something when the connection's task has gone to wait for the n-th time."""

    def __init__(self, number: int, what: Callable[[], object]) -> None:
        self.number = number
        self.what = what
        self.seen = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.name.endswith("Connection.run"):
            self.seen += 1
            if self.seen == self.number:
                self.what()


async def be_client(s: Stage, client: Client) -> None:
    """The peer of the scenario; stops when it has left, or the server has."""
    first = request("/", "Transfer-Encoding: chunked", "Expect: 100-continue", method="POST")

    async def step(what: Callable[[], object], seconds: float = 0.3) -> None:
        await trio.sleep(seconds)
        if not (client.closed or client.over):
            what()

    await step(lambda: client.send(first[:20]))
    await step(lambda: client.send(first[20:]))
    await step(lambda: client.send(b"3\r\nabc\r\n"))
    await step(lambda: client.send(b"2\r\nde\r\n0\r\n\r\n"))
    await step(lambda: client.take(1000))
    await step(lambda: client.take(float("inf")))
    await step(lambda: relay.publish("numbers.one", 1))
    await step(lambda: relay.publish("numbers.two", 2))
    await step(lambda: None, 5)
    await step(lambda: client.send(request("/hello", "Connection: close")), 1)
    await step(client.leave, 0.5)


async def hello(c: Context, w: Writer) -> None:
    w.text("hello")


async def play(number: int, end: str, seen: list[int]) -> None:
    """Play the scenario, and let the end come when the connection waits for the n-th time."""
    limits = {"high_water": 500, "keep_alive": 100}
    async with stage(("/", everything), ("/hello", hello), graceful_timeout=3, cleanup_timeout=1, limits=limits) as s:
        client = s.connect(window=700)
        ends: dict[str, Callable[[], object]] = {
            "outer cancel": lambda: s.outer.cancel(reason="the test"),
            "stop": s.stop,
            "stop now": lambda: s.stop(now=True),
            "peer leaves": lambda: None if client.closed else client.leave(),
            "peer ends": lambda: None if client.closed else client.end(),
            "nothing": lambda: None,
        }
        instrument = AtStep(number, ends[end])
        trio.lowlevel.add_instrument(instrument)
        await be_client(s, client)
        trio.lowlevel.remove_instrument(instrument)
        seen.append(instrument.seen)

    # What holds after every end:
    assert client.over, "the socket is closed"
    assert count.open == 0, "every source is closed"
    assert not relay._subs, "no subscription is left"
    assert not s.troubles
    got = answers(bytes(client.received).replace(b"HTTP/1.1 100 Continue\r\n\r\n", b""), ended=not client.reset)
    if b"5 bytes" not in client.received:
        assert got in ([], ["400 close"], ["200 cut"], ["200 close cut"]), "a cut response does not look complete"
    else:
        assert got[0].startswith("200")
        assert "cut" not in got[0]
    # `stage` itself asserts: no connection, no ring and no task is left, and the books balance.


def steps() -> int:
    """How often the connection's task waits in the undisturbed scenario."""
    seen: list[int] = []
    trio.run(play, 0, "nothing", seen, clock=trio.testing.MockClock(autojump_threshold=0))
    return seen[0]


@pytest.mark.spec("SD-17", "SD-11", "SD-24", "AL-01", "AL-02")
@pytest.mark.parametrize("end", ["outer cancel", "stop", "stop now", "peer leaves", "peer ends"])
def test_an_end_at_every_await(end: str) -> None:
    number = steps()
    assert number >= 20
    for step in range(1, number + 1):
        count.open = 0
        trio.run(play, step, end, [], clock=trio.testing.MockClock(autojump_threshold=0))


def test_the_undisturbed_scenario_is_complete() -> None:
    """Or the suite above would not try what it says."""

    async def undisturbed() -> None:
        limits = {"high_water": 500, "keep_alive": 100}
        async with stage(("/", everything), ("/hello", hello), limits=limits) as s:
            client = s.connect(window=700)
            await be_client(s, client)
        assert client.received.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        whole = bytes(client.received).replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
        assert answers(whole) == ["200", "200 close"]
        assert b"5 bytes" in whole

    trio.run(undisturbed, clock=trio.testing.MockClock(autojump_threshold=0))
