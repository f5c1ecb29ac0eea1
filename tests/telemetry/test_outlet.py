from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from stario_trio.telemetry import forks
from stario_trio.telemetry import outlet as module
from stario_trio.telemetry.outlet import OVERHEAD, Outlet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 10
NAME = "test-outlet"


class Gate:
    """A sink that takes what it is given while it is open, and tells what it has."""

    chunk = 20

    def __init__(self, *, is_open: bool = True) -> None:
        self.written: list[bytes] = []
        self.failure: Exception | None = None
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()
        self.holds = 0
        if is_open:
            self.opened.set()

    def open(self) -> None:
        self.holds += 1

    def write(self, data: bytes, go_on: Callable[[], bool]) -> None:
        self.entered.release()
        while not self.opened.wait(0.001):
            if not go_on():
                raise TimeoutError("it takes nothing")
        if self.failure is not None:
            raise self.failure
        self.written.append(data)

    def close(self) -> None:
        self.holds -= 1

    def lines(self) -> list[bytes]:
        return b"".join(self.written).splitlines()


def note(lost: int, since_ns: int) -> bytes:
    assert abs(time.time_ns() - since_ns) < 60e9
    return b"lost %d\n" % lost


def outlet_of(gate: Gate) -> Outlet:
    return Outlet(gate, NAME, note)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def join() -> None:
    for thread in threads():
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.fixture(autouse=True)
def _nothing_is_left_running() -> Iterator[None]:
    yield
    assert threads() == []


def test_a_thread_writes_the_lines_in_their_order() -> None:
    gate = Gate()
    outlet = outlet_of(gate)
    assert threads() == []
    for n in range(50):
        outlet.put(b"%d\n" % n)
    assert [thread.daemon for thread in threads()] == [True]
    outlet.close()
    assert threads() == []
    assert gate.lines() == [b"%d" % n for n in range(50)]
    assert not outlet.behind
    assert gate.holds == 0


def test_it_begins_anew_after_its_end() -> None:
    gate = Gate()
    outlet = outlet_of(gate)
    outlet.close()
    for n in range(3):
        outlet.put(b"%d\n" % n)
        outlet.close()
    assert gate.lines() == [b"0", b"1", b"2"]


def test_a_line_does_not_wait_for_others() -> None:
    """The first finds the thread idle, the later ones in its pause or idle again; no close helps."""
    gate = Gate()
    outlet = outlet_of(gate)
    for _ in range(3):
        outlet.put(b"line\n")
        assert gate.entered.acquire(timeout=PATIENCE)
    outlet.close()


def test_an_idle_thread_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE", 0)
    gate = Gate()
    outlet = outlet_of(gate)
    for _ in range(3):
        outlet.put(b"line\n")
        assert gate.entered.acquire(timeout=PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while outlet._run is not None and not outlet._run.idle:
            assert time.monotonic() < deadline
    outlet.close()


def test_lines_share_a_write_up_to_a_chunk() -> None:
    gate = Gate(is_open=False)
    outlet = outlet_of(gate)
    outlet.put(b"first\n")
    assert gate.entered.acquire(timeout=PATIENCE)
    for line in (b"short\n", b"short\n", b"much longer than a chunk\n", b"short\n"):
        outlet.put(line)
    assert outlet.behind
    gate.opened.set()
    outlet.close()
    assert gate.written == [b"first\n", b"short\nshort\n", b"much longer than a chunk\n", b"short\n"]


def test_nobody_waits_for_an_output_that_is_stuck_and_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BACKLOG", 10 * (5 + OVERHEAD))
    gate = Gate(is_open=False)
    outlet = outlet_of(gate)
    outlet.put(b"0000\n")
    assert gate.entered.acquire(timeout=PATIENCE)
    for n in range(1, 1000):
        outlet.put(b"%04d\n" % n)
    outlet.put(b"x" * 1000)
    assert len(outlet._lines) == 10
    assert outlet._size == module.MAX_BACKLOG
    gate.opened.set()
    outlet.close()
    assert gate.lines() == [*(b"%04d" % n for n in range(11)), b"lost 990"]
    assert outlet._size == 0


def test_losses_are_told_while_the_output_stays_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BACKLOG", 10 * (5 + OVERHEAD))
    monkeypatch.setattr(module, "NOTE_AFTER", 0)
    gate = Gate(is_open=False)
    outlet = outlet_of(gate)
    outlet.put(b"0000\n")
    assert gate.entered.acquire(timeout=PATIENCE)
    for n in range(1, 13):
        outlet.put(b"%04d\n" % n)
    gate.opened.set()
    outlet.close()
    assert gate.lines().index(b"lost 2") == 5  # before most of the backlog


def test_a_broken_output_is_told_once_and_losses_when_it_is_mended(capfd: pytest.CaptureFixture[str]) -> None:
    gate = Gate()
    outlet = outlet_of(gate)
    gate.failure = BrokenPipeError("nobody reads this")
    for _ in range(3):
        outlet.put(b"line\n")
        outlet.close()
    assert capfd.readouterr().err == f"{NAME}: nobody reads this; its output is lost until this is over\n"
    gate.failure = None
    outlet.put(b"again\n")
    outlet.close()
    assert gate.lines() == [b"again", b"lost 3"]
    gate.failure = OSError("once more")
    outlet.put(b"line\n")
    outlet.close()
    assert "once more" in capfd.readouterr().err


def test_the_lines_of_a_note_that_is_lost_are_counted_again(capfd: pytest.CaptureFixture[str]) -> None:
    gate = Gate()
    outlet = outlet_of(gate)
    gate.failure = OSError("full")
    for _ in range(3):  # the second and third are written with a note
        outlet.put(b"line\n")
        outlet.close()
    gate.failure = None
    outlet.put(b"again\n")
    outlet.close()
    assert gate.lines()[-1] == b"lost 3"
    assert capfd.readouterr().err.count("\n") == 1


def test_the_end_gives_up_an_output_that_is_stuck(capfd: pytest.CaptureFixture[str]) -> None:
    gate = Gate(is_open=False)
    outlet = outlet_of(gate)
    outlet.put(b"1\n")
    assert gate.entered.acquire(timeout=PATIENCE)
    for _ in range(5):
        outlet.put(b"x" * 30 + b"\n")
    outlet.close(0)
    assert capfd.readouterr().err == f"{NAME}: 6 lines are lost, for they were not taken in time\n"
    join()  # it does not stay behind
    gate.opened.set()
    outlet.put(b"again\n")
    outlet.close()
    assert gate.lines() == [b"again", b"lost 6"]
    assert capfd.readouterr().err == ""


def test_a_thread_that_ends_in_the_last_moment_is_not_given_up(capfd: pytest.CaptureFixture[str]) -> None:
    outlet = outlet_of(Gate())
    outlet.put(b"line\n")
    run = outlet._run
    assert run is not None
    outlet.close()
    outlet._give_up(run)
    assert capfd.readouterr().err == ""


def test_a_line_put_in_the_middle_of_everything() -> None:
    """As a signal handler or a finaliser does: here `len`, which the thread asks with the lock held."""
    gate = Gate()
    outlet = outlet_of(gate)

    class Line(bytes):
        def __len__(self) -> int:
            outlet.put(b"inner\n")
            inner.append(threading.current_thread().name)
            return super().__len__()

    inner: list[str] = []
    outlet.put(Line(b"outer\n"))
    outlet.close()
    assert NAME in inner
    assert sorted(gate.lines()) == [b"inner"] * len(inner) + [b"outer"]
    assert outlet._size == 0


def test_the_end_may_come_from_the_thread_itself() -> None:
    gate = Gate()
    outlet = outlet_of(gate)
    write = gate.write

    def write_and_close(data: bytes, go_on: Callable[[], bool]) -> None:
        write(data, go_on)
        outlet.close()

    gate.write = write_and_close  # type: ignore[method-assign]
    outlet.put(b"line\n")
    join()
    assert gate.lines() == [b"line"]


def test_without_a_thread_the_caller_writes_what_can_be_written_at_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    gate = Gate()
    outlet = outlet_of(gate)
    monkeypatch.setattr(threading.Thread, "start", start)
    outlet.put(b"one\n")
    gate.opened.clear()
    outlet.put(b"two\n")
    gate.opened.set()
    outlet.put(b"three\n")
    assert gate.lines() == [b"one", b"three", b"lost 1"]
    assert capfd.readouterr().err.count("\n") == 1


def test_after_the_exit_the_caller_writes_until_the_common_deadline() -> None:
    gate = Gate()
    outlet = outlet_of(gate)
    outlet.put(b"before\n")
    outlet.exit(time.monotonic() + PATIENCE)
    assert gate.lines() == [b"before"]
    outlet.put(b"after\n")
    assert threads() == []
    assert gate.lines() == [b"before", b"after"]


def test_the_exit_ends_all_outlets(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    outlet = outlet_of(gate)
    monkeypatch.setattr(module, "_outlets", {outlet})
    outlet.put(b"line\n")
    module._exit()
    assert gate.lines() == [b"line"]


def test_a_forked_child_has_its_own_backlog(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(is_open=False)
    outlet = outlet_of(gate)
    monkeypatch.setattr(forks, "_followed", {outlet})
    for _ in range(3):
        outlet.put(b"parent\n")
    (thread,) = threads()
    run = outlet._run
    assert run is not None
    assert gate.entered.acquire(timeout=PATIENCE)
    forks.after_fork()  # what a child does, which has no such thread
    outlet.put(b"child\n")
    gate.opened.set()
    outlet.close()
    run.stopping = True
    run.ring()
    thread.join(PATIENCE)
    assert gate.lines().count(b"child") == 1


def test_an_output_that_cannot_be_held_is_no_reason_to_raise() -> None:
    class Closed(Gate):
        def open(self) -> None:
            raise ValueError("closed")

    gate = Closed()
    outlet = outlet_of(gate)
    outlet.put(b"line\n")
    outlet.close()
    assert gate.lines() == [b"line"]


def test_many_threads_lose_and_mix_nothing() -> None:
    gate = Gate()
    outlet = outlet_of(gate)
    together = threading.Barrier(4)

    def work(name: int) -> None:
        together.wait()
        for n in range(500):
            outlet.put(b"%d %d\n" % (name, n))

    workers = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    outlet.close()
    lines = gate.lines()
    assert len(lines) == 2000
    for name in range(4):
        assert [line for line in lines if line.startswith(b"%d " % name)] == [b"%d %d" % (name, n) for n in range(500)]


def test_ctrl_c_while_the_end_waits_gives_up_at_once_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(timeout: float | None = None) -> bool:
        raise KeyboardInterrupt

    gate = Gate(is_open=False)
    outlet = outlet_of(gate)
    outlet.put(b"1\n")
    assert gate.entered.acquire(timeout=PATIENCE)
    outlet.put(b"2\n")
    assert outlet._run is not None
    monkeypatch.setattr(outlet._run.ended, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        outlet.close()
    assert capfd.readouterr().err == f"{NAME}: 2 lines are lost, for they were not taken in time\n"
    join()


def test_what_was_told_at_one_end_is_not_told_at_the_next(capfd: pytest.CaptureFixture[str]) -> None:
    gate = Gate(is_open=False)
    outlet = outlet_of(gate)
    for told in (b"3 lines", b"1 lines"):
        for _ in range(int(told[:1])):
            outlet.put(b"x" * 30 + b"\n")
        assert gate.entered.acquire(timeout=PATIENCE)
        outlet.close(0)
        assert capfd.readouterr().err.startswith(f"{NAME}: {told.decode()} are lost")
        join()
    gate.opened.set()
    outlet.put(b"again\n")
    outlet.close()
    assert gate.lines() == [b"again", b"lost 4"]
    gate.opened.clear()
    outlet.put(b"once more\n")
    outlet.close(0)
    assert capfd.readouterr().err.startswith(f"{NAME}: 1 lines are lost")
    join()


def test_the_end_tries_once_more_to_tell_what_is_lost(capfd: pytest.CaptureFixture[str]) -> None:
    gate = Gate()
    outlet = outlet_of(gate)
    gate.failure = OSError("too many open files")
    outlet.put(b"line\n")
    deadline = time.monotonic() + PATIENCE
    while outlet._run is not None and not outlet._run.idle:
        assert time.monotonic() < deadline
        time.sleep(0)
    gate.failure = None
    outlet.close()
    assert gate.lines() == [b"lost 1"]
    assert capfd.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("started", [False, True])
def test_ctrl_c_while_the_thread_starts_loses_nothing(started: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def interrupted(self: threading.Thread) -> None:
        if started:
            start(self)
        raise KeyboardInterrupt

    gate = Gate()
    outlet = outlet_of(gate)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            outlet.put(b"one\n")
    join()
    outlet.close()
    assert gate.lines() == [b"one"]
    outlet.put(b"two\n")
    outlet.close()
    assert gate.lines() == [b"one", b"two"]


def test_ctrl_c_in_the_last_moment_ends_no_other_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler that ends a span came first, and a run has taken the place of this one."""
    gate = Gate()
    outlet = outlet_of(gate)
    other = module.Run()

    def interrupted(run: module.Run) -> None:
        outlet._run = other
        raise KeyboardInterrupt

    monkeypatch.setattr(outlet, "_start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        outlet.put(b"one\n")
    assert outlet._run is other


def test_a_signal_while_the_run_is_made_starts_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    outlet = outlet_of(gate)
    real = module.Run.__post_init__

    def signalled(self: module.Run) -> None:
        real(self)
        monkeypatch.undo()
        outlet.put(b"inner\n")

    monkeypatch.setattr(module.Run, "__post_init__", signalled)
    outlet.put(b"outer\n")
    assert len(threads()) <= 1
    outlet.close()
    assert threads() == []
    assert sorted(gate.lines()) == [b"inner", b"outer"]


def test_a_retired_thread_ends_when_all_is_written() -> None:
    gate = Gate(is_open=False)
    outlet = outlet_of(gate)
    outlet.retire()
    outlet.put(b"one\n")
    outlet.put(b"two\n")
    outlet.retire()
    gate.opened.set()
    join()
    assert gate.lines() == [b"one", b"two"]
