from __future__ import annotations

import gc
import queue
import threading
import weakref
from typing import TYPE_CHECKING, Any

import outcome
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from stario_trio import relay as relay_module
from stario_trio.exceptions import StarioError
from stario_trio.relay import Relay, Subscription, _matching_patterns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Self

#: Real time that no passing test comes near: a hang becomes a failure.
PATIENCE = 30.0


async def read(subscription: Subscription[Any], number: int) -> list[Any]:
    """The data of the next messages."""
    with trio.fail_after(PATIENCE):
        return [(await anext(subscription))[1] for _ in range(number)]


def held(subscription: Subscription[Any]) -> list[Any]:
    """The data of the messages that wait for the reader."""
    return [data for _, data in subscription._mailbox.messages]


async def expect_end(subscription: Subscription[Any]) -> None:
    with trio.fail_after(PATIENCE), pytest.raises(StopAsyncIteration):
        await anext(subscription)


async def settle() -> None:
    """Let the run do what was left for it."""
    await trio.testing.wait_all_tasks_blocked()


class Worker:
    """A thread with a Trio run of its own, as a server has several; leaving the block joins it."""

    def __init__(self, main: Callable[[], Awaitable[None]]) -> None:
        self.ready = threading.Event()
        self.token: trio.lowlevel.TrioToken | None = None
        self._main = main
        self._outcome: outcome.Outcome[None] | None = None
        self._thread = threading.Thread(target=self._thread_main)

    def _thread_main(self) -> None:
        async def main() -> None:
            self.token = trio.lowlevel.current_trio_token()
            with trio.fail_after(PATIENCE):
                await self._main()

        self._outcome = outcome.capture(trio.run, main)
        self.ready.set()  # a failure before `ready` must not leave the test waiting

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        assert self._outcome is not None
        self._outcome.unwrap()

    def wait_ready(self) -> None:
        assert self.ready.wait(PATIENCE)


def in_thread(fn: Callable[[], object]) -> None:
    """Run a function in a plain thread, and raise here what it raises."""
    results: queue.Queue[outcome.Outcome[object]] = queue.Queue()
    thread = threading.Thread(target=lambda: results.put(outcome.capture(fn)))
    thread.start()
    thread.join(PATIENCE)
    results.get(timeout=PATIENCE).unwrap()


@pytest.mark.parametrize(
    ("pattern", "receives", "ignores"),
    [
        ("room.1", ["room.1"], ["room", "room.1.", "room.1.x", "Room.1", "room.10", ""]),
        ("room.1.*", ["room.1.a", "room.1.a.b", "room.1.", "room.1.*"], ["room.1", "room.10.a", "ROOM.1.a"]),
        ("*", ["", "a", "a.b.c", "*"], []),
        ("*.1", ["*.1"], ["room.1"]),
        ("room.*.x", ["room.*.x"], ["room.1.x"]),
        ("room.>", ["room.>"], ["room.1"]),
        ("room*", ["room*"], ["room", "room.1", "rooms"]),
        ("", [""], ["a", "."]),
        (".*", [".", ".a"], ["a", ""]),
    ],
)
async def test_what_a_pattern_receives(pattern: str, receives: list[str], ignores: list[str]) -> None:
    relay: Relay[int] = Relay()
    subscription = relay.subscribe(pattern)
    for subject in receives + ignores:
        relay.publish(subject, 0)
    assert [subject for subject, _ in subscription._mailbox.messages] == receives


subjects = st.text("ab.*", max_size=8)


@given(subjects, subjects)
def test_patterns_match_as_specified(subject: str, pattern: str) -> None:
    """The specification in one line, against the table of patterns."""
    below = pattern == "*" or (pattern.endswith(".*") and subject.startswith(pattern[:-1]))
    assert (pattern in _matching_patterns(subject)) == (pattern == subject or below)


@pytest.mark.upstream_bug(57)
@given(subjects)
def test_patterns_come_once_and_in_order(subject: str) -> None:
    patterns = _matching_patterns(subject)
    assert len(set(patterns)) == len(patterns)  # also for a subject that ends in a star
    assert patterns[0] == subject
    assert "*" in patterns
    prefixes = [len(pattern) for pattern in patterns[1:] if pattern != "*"]
    assert prefixes == sorted(prefixes, reverse=True)
    if subject != "*":
        assert patterns[-1] == "*"


async def test_exact_first_then_the_longest_prefix_then_all() -> None:
    relay: Relay[int] = Relay()
    kept = [relay.subscribe(pattern) for pattern in ["*", "a.*", "a.b", "a.b.*", "a.b.c"]]
    (hub,) = relay._table.hubs
    order = [mailbox.pattern for mailbox in hub.matching(_matching_patterns("a.b.c"))]
    assert order == ["a.b.c", "a.b.*", "a.*", "*"]
    relay.publish("a.b.c", 1)
    assert [held(subscription) for subscription in kept] == [[1], [1], [], [1], [1]]


async def test_messages_come_in_order_to_everyone() -> None:
    relay: Relay[int] = Relay()
    one, other = relay.subscribe("n"), relay.subscribe("n")
    for number in range(5):
        relay.publish("n", number)
    assert await anext(one) == ("n", 0)
    assert await read(one, 4) == [1, 2, 3, 4]
    assert await read(other, 5) == [0, 1, 2, 3, 4]
    assert (one.dropped, other.dropped) == (0, 0)


@pytest.mark.upstream_bug(58)
async def test_it_receives_from_subscribe_on_and_nothing_older() -> None:
    relay: Relay[int] = Relay()
    relay.publish("n", 0)
    subscription = relay.subscribe("n")
    relay.publish("n", 1)  # before the first step of the iteration
    assert await read(subscription, 1) == [1]


async def test_a_waiting_task_is_woken() -> None:
    relay: Relay[int] = Relay()
    got: list[int] = []

    async def reader() -> None:
        async for _, data in relay.subscribe("n"):
            got.append(data)
            if data == 2:
                return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        for number in range(3):
            await settle()
            relay.publish("n", number)
    assert got == [0, 1, 2]


async def test_two_messages_for_one_wake() -> None:
    relay: Relay[int] = Relay()
    async with trio.open_nursery() as nursery, relay.subscribe("n") as subscription:
        got: list[int] = []

        async def reader() -> None:
            got.extend(await read(subscription, 3))

        nursery.start_soon(reader)
        await settle()
        for number in range(3):
            relay.publish("n", number)
        await settle()
        assert got == [0, 1, 2]


async def test_publishing_for_nobody_is_nothing() -> None:
    relay: Relay[int] = Relay()
    relay.publish("n", 1)
    subscription = relay.subscribe("m")
    relay.publish("n", 1)
    assert held(subscription) == []


@pytest.mark.parametrize("wrong", [None, 5, b"n", ("n",)])
async def test_subjects_and_patterns_are_text(wrong: Any) -> None:
    """Also while nobody listens: what fails only later is found by a user."""
    relay: Relay[int] = Relay()
    with pytest.raises(StarioError, match="A subject is text"):
        relay.publish(wrong, 1)
    with pytest.raises(StarioError, match="A pattern is text") as caught:
        relay.subscribe(wrong)
    assert 'relay.subscribe("room.*")' in (caught.value.help_text or "")


async def test_every_step_is_a_checkpoint() -> None:
    relay: Relay[int] = Relay()
    subscription = relay.subscribe("n")
    relay.publish("n", 1)
    with trio.testing.assert_checkpoints():
        await anext(subscription)
    with trio.testing.assert_checkpoints():
        await subscription.aclose()
    with trio.testing.assert_checkpoints():
        await expect_end(subscription)


@pytest.mark.upstream_bug(60)
async def test_the_oldest_are_dropped_and_counted() -> None:
    relay: Relay[int] = Relay(maxsize=3)
    slow = relay.subscribe("n")
    for number in range(3):
        relay.publish("n", number)
    assert slow.dropped == 0
    for number in range(3, 5):
        relay.publish("n", number)
    assert slow.dropped == 2
    assert await read(slow, 3) == [2, 3, 4]
    assert held(slow) == []


@pytest.mark.upstream_bug(60)
async def test_the_default_buffer() -> None:
    relay: Relay[int] = Relay()
    slow = relay.subscribe("n")
    for number in range(1025):
        relay.publish("n", number)
    assert (slow.dropped, held(slow)[0]) == (1, 1)


@pytest.mark.parametrize("maxsize", [0, -1, True, 1.5, None, "8"])
def test_maxsize_is_checked(maxsize: Any) -> None:
    with pytest.raises(StarioError, match="1 or more"):
        Relay(maxsize=maxsize)


async def test_a_destructor_may_publish_while_a_message_is_dropped() -> None:
    relay: Relay[Any] = Relay(maxsize=1)
    subscription = relay.subscribe("n")

    class Last:
        def __del__(self) -> None:
            relay.publish("n", "from the destructor")

    def burst() -> None:
        relay.publish("n", Last())
        relay.publish("n", "second")  # pushes the first out, and its destructor finds the third still posted
        relay.publish("n", "third")

    in_thread(burst)
    await settle()
    assert subscription.dropped == 3
    assert await read(subscription, 1) == ["from the destructor"]


async def leave_by_break(relay: Relay[int]) -> None:
    async for _ in relay.subscribe("n"):
        break


async def leave_by_exception(relay: Relay[int]) -> None:
    try:
        async for _ in relay.subscribe("n"):
            raise LookupError
    except LookupError:
        pass


async def leave_by_cancel(relay: Relay[int]) -> None:
    with trio.CancelScope() as scope:
        async for _ in relay.subscribe("n"):
            scope.cancel()


async def leave_by_with(relay: Relay[int]) -> None:
    async with relay.subscribe("n") as subscription:
        await anext(subscription)
    await expect_end(subscription)


async def leave_by_aclose(relay: Relay[int]) -> None:
    subscription = relay.subscribe("n")
    await anext(subscription)
    await subscription.aclose()
    await subscription.aclose()


async def leave_by_return_from_the_iterator(relay: Relay[int]) -> None:
    await anext(relay.subscribe("n"))


@pytest.mark.upstream_bug(59)
@pytest.mark.parametrize(
    "leave",
    [
        leave_by_break,
        leave_by_exception,
        leave_by_cancel,
        leave_by_with,
        leave_by_aclose,
        leave_by_return_from_the_iterator,
    ],
)
async def test_nothing_is_left_behind(leave: Callable[[Relay[int]], Awaitable[None]]) -> None:
    relay: Relay[int] = Relay()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave, relay)
            await settle()
            assert relay._subs == {"n": 1}
            relay.publish("n", 1)
    assert relay._subs == {}  # at once, before any checkpoint
    await settle()
    assert relay._table.hubs == ()


@pytest.mark.upstream_bug(59)
async def test_dropping_one_unregisters_it_without_the_collector() -> None:
    relay: Relay[int] = Relay()
    kept = relay.subscribe("n")
    gc.disable()
    try:
        relay.subscribe("n")
        relay.subscribe("m")
    finally:
        gc.enable()
    assert relay._subs == {"n": 1}
    await settle()
    (hub,) = relay._table.hubs
    assert hub.mailboxes == {"n": {kept._mailbox: None}}


async def test_one_in_a_cycle_goes_with_the_cycle() -> None:
    relay: Relay[Any] = Relay()
    cycle: list[Any] = [relay.subscribe("n")]
    cycle.append(cycle)
    gone = weakref.ref(cycle[0])
    del cycle
    in_thread(gc.collect)  # the collector runs in whatever thread allocates
    assert gone() is None
    assert relay._subs == {}
    await settle()
    assert relay._table.hubs == ()


async def test_a_closed_one_lets_its_messages_go() -> None:
    class Message:
        pass

    relay: Relay[Any] = Relay()
    subscription = relay.subscribe("n")
    message = Message()
    gone = weakref.ref(message)
    relay.publish("n", message)
    del message
    subscription.close()
    relay.publish("n", 2)
    await expect_end(subscription)
    await settle()
    assert gone() is None
    assert held(subscription) == []


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_closing_wakes_the_waiting_task(elsewhere: bool) -> None:
    relay: Relay[int] = Relay()
    subscription = relay.subscribe("n")
    ended = trio.Event()

    async def reader() -> None:
        async for _ in subscription:
            raise AssertionError("nothing was published")
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        await settle()
        if elsewhere:
            in_thread(subscription.close)
        else:
            subscription.close()
        with trio.fail_after(PATIENCE):
            await ended.wait()


async def test_closing_beats_a_message_not_yet_taken() -> None:
    relay: Relay[int] = Relay()
    subscription = relay.subscribe("n")
    got: list[int] = []

    async def reader() -> None:
        async for _, data in subscription:
            got.append(data)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        await settle()
        relay.publish("n", 1)
        subscription.close()
    assert got == []


async def test_closed_from_two_threads_at_once() -> None:
    # Both saw it open: the hub is told twice.
    relay: Relay[int] = Relay()
    subscription, other = relay.subscribe("n"), relay.subscribe("n")
    subscription.close()
    subscription._mailbox.closed = False
    subscription.close()
    await settle()
    assert relay._subs == {"n": 1}
    other.close()
    other._mailbox.closed = False
    other.close()
    await settle()
    assert relay._table.hubs == ()


async def test_a_run_may_come_back_after_its_last_subscription() -> None:
    relay: Relay[int] = Relay()
    relay.subscribe("n").close()
    subscription = relay.subscribe("n")  # the old hub has not been swept yet
    await settle()
    relay.publish("n", 1)
    assert await read(subscription, 1) == [1]


async def test_a_cancelled_wait_takes_no_message() -> None:
    relay: Relay[int] = Relay()
    async with relay.subscribe("n") as subscription:
        relay.publish("n", 1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await anext(subscription)
        assert scope.cancelled_caught
        assert held(subscription) == [1]
        assert await read(subscription, 1) == [1]


async def test_a_parked_task_that_is_cancelled_can_come_back() -> None:
    relay: Relay[int] = Relay()
    async with relay.subscribe("n") as subscription, trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def reader() -> None:
            with scope:
                await anext(subscription)

        nursery.start_soon(reader)
        await settle()
        scope.cancel()
        await settle()
        assert scope.cancelled_caught
        relay.publish("n", 1)
        assert await read(subscription, 1) == [1]


@pytest.mark.parametrize("cancel_first", [False, True])
async def test_a_cancel_and_a_message_in_the_same_step(cancel_first: bool) -> None:
    relay: Relay[int] = Relay()
    got: list[int] = []
    async with relay.subscribe("n") as subscription, trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def reader() -> None:
            with scope:
                got.append((await anext(subscription))[1])

        nursery.start_soon(reader)
        await settle()
        if cancel_first:
            scope.cancel()
            relay.publish("n", 1)
        else:
            relay.publish("n", 1)
            scope.cancel()
        await settle()
        # Either the reader has it or it still waits for a reader.
        assert got + held(subscription) == [1]
        assert got == ([] if cancel_first else [1])


async def test_two_tasks_cannot_read_one() -> None:
    relay: Relay[int] = Relay()
    async with relay.subscribe("n") as subscription, trio.open_nursery() as nursery:
        nursery.start_soon(read, subscription, 1)
        await settle()
        with pytest.raises(trio.BusyResourceError):
            await anext(subscription)
        relay.publish("n", 1)
        with pytest.raises(trio.BusyResourceError):  # the message belongs to the task that waited for it
            await anext(subscription)


async def test_another_run_cannot_read_it() -> None:
    relay: Relay[int] = Relay()
    subscription = relay.subscribe("n")

    async def stranger() -> None:
        with pytest.raises(StarioError, match="another Trio run"):
            await anext(subscription)
        with pytest.raises(StarioError, match="another Trio run"):
            aiter(subscription)
        with pytest.raises(StarioError, match="another Trio run"):
            async with subscription:
                raise AssertionError("never entered")

    with Worker(stranger):
        pass
    relay.publish("n", 1)
    assert await read(subscription, 1) == [1]


def test_outside_of_trio_it_cannot_be_read() -> None:
    subscription = Relay[int]().subscribe("n")
    with pytest.raises(StarioError, match="inside a Trio run"):
        aiter(subscription)
    with pytest.raises(StarioError, match="inside a Trio run"):
        subscription.__anext__().send(None)


@pytest.mark.parametrize("enter", [False, True])
def test_made_outside_it_joins_the_run_that_reads_first(enter: bool) -> None:
    relay: Relay[int] = Relay()
    subscription = relay.subscribe("n")
    relay.publish("n", 0)
    assert relay._subs == {}

    async def main() -> None:
        if enter:
            async with subscription:
                relay.publish("n", 1)
                assert await read(subscription, 1) == [1]
        else:
            iterator = aiter(subscription)
            relay.publish("n", 1)
            assert await read(iterator, 1) == [1]

    trio.run(main)


def test_made_and_closed_outside() -> None:
    relay: Relay[int] = Relay()
    subscription = relay.subscribe("n")
    subscription.close()

    async def main() -> None:
        await expect_end(subscription)
        await settle()
        assert relay._table.hubs == ()

    trio.run(main)


async def test_a_plain_thread_publishes() -> None:
    relay: Relay[int] = Relay()
    subscription = relay.subscribe("n")

    def publisher() -> None:
        for number in range(100):
            relay.publish("n", number)

    in_thread(publisher)
    assert await read(subscription, 100) == list(range(100))


async def test_a_run_without_a_match_is_not_woken() -> None:
    relay: Relay[int] = Relay()
    subscription = relay.subscribe("n")
    (hub,) = relay._table.hubs
    in_thread(lambda: relay.publish("m", 1))
    assert not hub.inbox
    in_thread(lambda: relay.publish("n", 1))
    assert len(hub.inbox) == 1
    assert await read(subscription, 1) == [1]


async def test_one_hand_over_for_all_subscribers_of_a_run() -> None:
    relay: Relay[int] = Relay()
    subscriptions = [relay.subscribe("n") for _ in range(10)]
    (hub,) = relay._table.hubs
    drain, drains = hub.drain, []

    def counted() -> None:
        drains.append(len(hub.inbox))
        drain()

    hub.drain = counted  # type: ignore[method-assign]

    def burst() -> None:
        for number in range(5):
            relay.publish("n", number)

    in_thread(burst)
    await settle()
    assert drains == [5]
    assert [held(subscription) for subscription in subscriptions] == [[0, 1, 2, 3, 4]] * 10


async def test_what_was_posted_before_comes_before() -> None:
    relay: Relay[int] = Relay()
    subscription = relay.subscribe("n")
    in_thread(lambda: relay.publish("n", 1))
    relay.publish("n", 2)  # at once, and yet not before the first
    assert held(subscription) == [1, 2]
    assert await read(subscription, 2) == [1, 2]


async def test_what_was_posted_before_is_not_for_a_later_subscription() -> None:
    relay: Relay[int] = Relay()
    early = relay.subscribe("n")
    in_thread(lambda: relay.publish("n", 1))
    late = relay.subscribe("n")
    await settle()
    assert (held(early), held(late)) == ([1], [])


def test_many_runs_and_threads_keep_the_order_of_each_publisher() -> None:
    relay: Relay[tuple[int, int]] = Relay(maxsize=10_000)
    count, readers, publishers = 50, 3, 4
    received: list[list[tuple[int, int]]] = []

    def worker(number: int) -> Worker:
        async def main() -> None:
            async def reader(subscription: Subscription[tuple[int, int]]) -> None:
                received.append(await read(subscription, publishers * count))

            async with trio.open_nursery() as nursery:
                for _ in range(readers):
                    nursery.start_soon(reader, relay.subscribe("room.*"))
                this.ready.set()
                await trio.to_thread.run_sync(start.wait, PATIENCE)
                for index in range(count):  # this run publishes too, to itself and the others
                    relay.publish("room.x", (number, index))
                    if index % 10 == 0:
                        await trio.lowlevel.checkpoint()

        this = Worker(main)
        return this

    def plain(number: int) -> None:
        assert start.wait(PATIENCE)
        for index in range(count):
            relay.publish("room.y", (number, index))

    start = threading.Event()
    threads = [threading.Thread(target=plain, args=(number,)) for number in (2, 3)]
    with worker(0) as one, worker(1) as other:
        one.wait_ready()
        other.wait_ready()
        for thread in threads:
            thread.start()
        start.set()
        for thread in threads:
            thread.join(PATIENCE)
    assert len(received) == 2 * readers
    for messages in received:
        for publisher in range(publishers):
            mine = [index for number, index in messages if number == publisher]
            assert mine == list(range(count))
    assert relay._subs == {}
    assert relay._table.hubs == ()


def test_subscribing_and_leaving_while_others_publish() -> None:
    """Churn: every subscriber gets a gapless piece of the stream, and nothing stays."""
    relay: Relay[int] = Relay(maxsize=100_000)
    done = threading.Event()

    def publisher() -> None:
        number = 0
        while not done.is_set():
            relay.publish("n", number)
            number += 1

    async def main() -> None:
        async def one() -> None:
            for _ in range(10):
                numbers: list[int] = []
                async for _, number in relay.subscribe("n"):
                    numbers.append(number)
                    if len(numbers) == 5:
                        break
                assert numbers == list(range(numbers[0], numbers[0] + 5))

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(one)

    thread = threading.Thread(target=publisher)
    thread.start()
    try:
        with Worker(main), Worker(main):
            pass
    finally:
        done.set()
        thread.join(PATIENCE)
    assert relay._subs == {}


def test_a_run_that_ends_while_others_publish() -> None:
    relay: Relay[int] = Relay()
    kept: list[Subscription[int]] = []
    stop = threading.Event()

    async def main() -> None:
        kept.append(relay.subscribe("n"))  # outlives its run
        await read(kept[0], 3)

    def publisher() -> None:
        while not stop.is_set():
            relay.publish("n", 0)

    thread = threading.Thread(target=publisher)
    thread.start()
    try:
        with Worker(main):
            pass
    finally:
        stop.set()
        thread.join(PATIENCE)
    relay.publish("n", 1)
    assert relay._table.hubs == ()
    kept[0].close()


def test_closing_after_the_end_of_its_run() -> None:
    relay: Relay[int] = Relay()
    kept: list[Subscription[int]] = []

    async def main() -> None:
        kept.append(relay.subscribe("n"))

    trio.run(main)
    assert relay._subs == {"n": 1}
    kept.clear()
    assert relay._subs == {}
    assert relay._table.hubs == ()


def test_other_runs_receive_when_one_is_over() -> None:
    relay: Relay[int] = Relay()
    kept: list[Subscription[int]] = []

    async def first() -> None:
        kept.append(relay.subscribe("n"))

    async def second() -> None:
        subscription = relay.subscribe("n")
        relay.publish("n", 1)
        assert await read(subscription, 1) == [1]
        assert len(relay._table.hubs) == 1

    trio.run(first)
    trio.run(second)


async def test_closed_in_another_thread_while_it_joins() -> None:
    relay: Relay[int] = Relay()
    found: queue.Queue[Subscription[int]] = queue.Queue()
    in_thread(lambda: found.put(relay.subscribe("n")))
    subscription = found.get(timeout=PATIENCE)
    table = relay._table
    join = table.join

    def join_and_close(token: trio.lowlevel.TrioToken, mailbox: Any) -> Any:
        hub = join(token, mailbox)
        subscription.close()
        return hub

    table.join = join_and_close  # type: ignore[method-assign]
    await expect_end(subscription)
    await settle()
    assert relay._table.hubs == ()


async def test_the_inbox_is_bounded_and_what_it_drops_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "INBOX_SIZE", 4)
    relay: Relay[int] = Relay(maxsize=3)
    room, everything, other = relay.subscribe("room"), relay.subscribe("*"), relay.subscribe("other")
    (hub,) = relay._table.hubs

    def burst() -> None:
        for number in range(5):
            relay.publish("room", number)
        relay.publish("other", 5)

    in_thread(burst)  # this run is blocked meanwhile
    assert len(hub.inbox) == 4
    await settle()
    # 0 and 1 were shed, [2, 3, 4, other 5] came through; `everything` keeps three of these.
    assert (held(room), room.dropped) == ([2, 3, 4], 2)
    assert (held(everything), everything.dropped) == ([3, 4, 5], 3)
    assert (held(other), other.dropped) == ([5], 0)


async def test_the_inbox_holds_at_least_one_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "INBOX_SIZE", 2)
    relay: Relay[int] = Relay(maxsize=5)
    subscription = relay.subscribe("n")

    def burst() -> None:
        for number in range(5):
            relay.publish("n", number)

    in_thread(burst)
    assert (await read(subscription, 5), subscription.dropped) == ([0, 1, 2, 3, 4], 0)


async def test_shedding_meets_an_inbox_just_emptied() -> None:
    relay: Relay[int] = Relay()
    subscription = relay.subscribe("n")
    (hub,) = relay._table.hubs
    hub.shed_oldest()
    await settle()
    assert subscription.dropped == 0
