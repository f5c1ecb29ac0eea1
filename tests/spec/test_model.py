"""Server and model agree exactly: for any mix of connections, stops, second signals and outer cancels.

A mix that fails is printed as an expression: paste it into `REGRESSIONS`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, get_args

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.spec.handlers import endless
from tests.spec.model import AGAIN, CANCEL, CLEANUP, GRACE, SHIELD, STOP, Conn, Future, Kind, Mix, own, predict
from tests.support.stage import Stage, request, stage

if TYPE_CHECKING:
    from stario_trio import Context, Writer

EXAMPLES = int(os.environ.get("STARIO_TRIO_EXAMPLES", "150"))
SIZE_OF_BIG = 5_000

seconds = st.integers(0, 9)
maybe_seconds = st.none() | seconds


@st.composite
def connections(draw: st.DrawFn) -> Conn:
    kind: Kind = draw(st.sampled_from(get_args(Kind)))
    at = draw(seconds)
    match kind:
        case "new" | "half" | "slow reader":
            return Conn(kind, at, a=draw(st.none() | st.integers(1, 9)))
        case "pipelined":
            return Conn(kind, at, a=draw(st.integers(1, 9)), b=draw(st.integers(1, 9)))
        case "leaves":
            a = draw(st.integers(2, 9))
            return Conn(kind, at, a=a, b=draw(st.integers(1, a - 1)))
        case "endless" | "endless 1.0":
            return Conn(kind, at)
        case _:
            return Conn(kind, at, a=draw(seconds))


mixes = st.builds(
    Mix,
    conns=st.lists(connections(), max_size=8).map(tuple),
    stop=st.integers(0, 12),
    grace=st.sampled_from([0, 1, 2, 5, 20]),
    cleanup=st.integers(0, 6),
    again=st.none() | st.integers(0, 8),
    cancel=st.none() | st.integers(0, 20),
)

REGRESSIONS: list[Mix] = [
    Mix(),
    Mix(conns=(Conn("answers"), Conn("new", a=None), Conn("half", a=None), Conn("swallows", a=9)), grace=2, cleanup=1),
]


async def handle(c: Context, w: Writer) -> None:
    """Does what its query says."""
    query = c.req.query
    a, b = float(query.get("a", "0")), query.get("kind")
    match b:
        case "takes":
            await trio.sleep(a)
            w.text("done")
        case "swallows":
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(deadline=trio.current_time() + a, shield=True):
                    await trio.sleep_forever()
        case "endless":
            await endless(c, w)
        case "stream":
            w.patch("first", selector="#it")
            async with w.alive():
                await trio.sleep_forever()
            await trio.sleep(a)
            w.patch("bye", selector="#it")
        case "big":
            w.respond(b"x" * SIZE_OF_BIG, b"text/plain")
        case _:
            raise AssertionError(b)


def target(kind: str, a: float = 0) -> str:
    return f"/?kind={kind}&a={a}"


async def be_client(s: Stage, number: int, conn: Conn) -> None:
    """What the client of one connection does."""
    await trio.sleep(conn.at + own(number))
    if s.listener.closed:
        return
    name, a = str(number), conn.a
    match conn.kind:
        case "answers":
            s.follow(name, s.get(target("takes", a or 0)))
        case "new":
            client = s.follow(name, s.connect())
            if a is not None:
                await trio.sleep(a)
                if not client.over:
                    client.send(request(target("takes")))
        case "half":
            whole = request(target("takes"))
            client = s.follow(name, s.connect(whole[:10]))
            if a is not None:
                await trio.sleep(a)
                if not client.over:
                    client.send(whole[10:])
        case "swallows":
            s.follow(name, s.get(target("swallows", (a or 0) + SHIELD + own(number))))
        case "endless":
            s.follow(name, s.get(target("endless")))
        case "endless 1.0":
            s.follow(name, s.connect(request(target("endless"), version="1.0")))
        case "stream":
            s.follow(name, s.get(target("stream", (a or 0) + own(number))))
        case "slow reader":
            client = s.follow(name, s.get(target("big"), window=1000))
            if a is not None:
                await trio.sleep(a)
                client.take(float("inf"))
        case "pipelined":
            s.follow(name, s.connect(request(target("takes", a or 0)) + request(target("takes", conn.b))))
        case "leaves":
            client = s.get(target("takes", a or 0))
            await trio.sleep(conn.b)
            client.leave()


async def play(mix: Mix, result: Future) -> None:
    """Play the mix on a worker, and note what happens."""
    grace = mix.grace + GRACE if mix.grace else 0
    patient = {"keep_alive": 1e5, "header_timeout": 1e5, "write_timeout": 1e5}
    async with stage(("/", handle), graceful_timeout=grace, cleanup_timeout=mix.cleanup + CLEANUP, limits=patient) as s:
        if mix.cancel is not None:
            s.outer.deadline = s.start + mix.cancel + CANCEL
        for number, conn in enumerate(mix.conns):
            s.nursery.start_soon(be_client, s, number, conn)
        await trio.sleep(mix.stop + STOP)
        s.stop()
        if mix.again is not None:
            await trio.sleep(mix.again + AGAIN)
            s.stop(now=True)
    books = s.worker.report
    result.trace = [line for line in s.trace if "abandoned" not in line]
    result.ends = dict(sorted(s.ends.items()))
    result.closed_idle, result.finished, result.force_closed = books.closed_idle, books.finished, books.force_closed
    result.cancelled, result.abandoned = books.handlers_cancelled, len(books.abandoned)


def check(mix: Mix, seed: int = 0) -> None:
    trio._core._run._r.seed(seed)
    happened = Future()
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(play, mix, happened, clock=clock)
    expected = predict(mix)
    expected.ends = dict(sorted(expected.ends.items()))
    assert happened == expected, mix


@pytest.mark.spec("SD-01", "SD-04", "SD-05", "SD-06", "SD-07", "SD-08", "SD-10", "SD-11", "SD-12", "SD-13", "SD-14")
@pytest.mark.spec("SD-15", "SD-16", "SD-17", "SD-24")
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mix=mixes, seed=st.integers(0, 2**16))
def test_the_server_does_what_the_model_says(mix: Mix, seed: int) -> None:
    check(mix, seed)


@pytest.mark.parametrize("mix", REGRESSIONS, ids=repr)
def test_regressions(mix: Mix) -> None:
    check(mix)
