from __future__ import annotations

import io
import re
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, cast

import pytest
import trio
from rich.console import Console

from stario_trio.telemetry import Span, Tracer, forks, rich
from stario_trio.telemetry.outlet import Outlet
from stario_trio.telemetry.rich import MAX_OPEN, RichTracer
from stario_trio.telemetry.tree import SHOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stario_trio.telemetry import Event


class Output(io.StringIO):
    """Lets a test wait for what a thread will write."""

    def __init__(self) -> None:
        super().__init__()
        self._written = threading.Condition()

    def write(self, text: str) -> int:
        with self._written:
            self._written.notify_all()
            return super().write(text)

    def wait_for(self, text: str) -> None:
        with self._written:
            assert self._written.wait_for(lambda: text in self.getvalue(), timeout=10), self.getvalue()


class Stuck(Output):
    """Takes nothing until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.released = threading.Event()

    def write(self, text: str) -> int:
        self.entered.set()
        assert self.released.wait(10)
        return super().write(text)


def pipe(output: io.StringIO) -> Console:
    return Console(file=output, width=80)


def terminal(output: io.StringIO) -> Console:
    return Console(file=output, width=80, height=50, force_terminal=True, _environ={"TERM": "xterm"})


def threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("stario RichTracer")]


@pytest.fixture(autouse=True)
def _nothing_is_left_running() -> Iterator[None]:
    yield
    assert threads() == []


@pytest.fixture
def asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread sleeps until the end: only `flush` prints."""
    monkeypatch.setattr(rich, "REFRESH", 3600)


@pytest.fixture
def output() -> Output:
    return Output()


def lines(output: io.StringIO) -> list[str]:
    """What was written, without the time and the id in front of a root."""
    return [re.sub(r"^\d\d:\d\d:\d\d\.\d{3} [0-9a-f]{8} ", "", line) for line in output.getvalue().splitlines()]


def test_it_is_a_tracer(output: Output) -> None:
    tracer: Tracer = RichTracer(pipe(output))
    with tracer as entered:
        assert entered is tracer
        assert len(threads()) == 1


def test_the_console_is_standard_output_unless_given() -> None:
    assert RichTracer().console.file is sys.stdout


@pytest.mark.usefixtures("asleep")
def test_plain_lines(output: Output) -> None:
    with RichTracer(pipe(output)) as tracer:
        root = tracer("GET", {"request.path": "/\x1b[31m"})
        with root.step("query"):
            pass
        root("sent")
        tracer.flush()
        assert output.getvalue() == ""
        root.end()
        tracer.flush()
    first, step, event = lines(output)
    assert re.fullmatch(r"GET \(\d+ [µm]s\)  request\.path: /\\x1b\[31m", first)
    assert re.fullmatch(r"  ● query  \d+ [µm]s", step)
    assert re.fullmatch(r"  ◆ \+\d+ [µm]s sent", event)


@pytest.mark.usefixtures("asleep")
def test_plain_lines_have_no_control_sequences_even_on_a_coloured_console(output: Output) -> None:
    console = Console(file=output, color_system="truecolor", width=80)
    with RichTracer(console) as tracer, pytest.raises(ValueError, match="boom"), tracer("GET"):
        raise ValueError("boom")
    assert "boom" in output.getvalue()
    assert "\x1b" not in output.getvalue()
    assert not set(output.getvalue()) & set("│╭╰─╮╯")


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"TERM": "xterm"}])
@pytest.mark.usefixtures("asleep")
def test_a_terminal_that_cannot_draw_gets_plain_lines(environment: dict[str, str]) -> None:
    raw = io.BytesIO()
    encoding = "utf-8" if environment["TERM"] == "dumb" else "ascii"
    file = io.TextIOWrapper(raw, encoding=encoding)
    console = Console(file=file, force_terminal=True, _environ=environment)
    with RichTracer(console) as tracer, tracer("GET") as root:
        root("ü")
    found = raw.getvalue().decode(encoding)
    assert "╭" not in found
    assert "\x1b" not in found
    assert ("ü" if encoding == "utf-8" else "\\xfc") in found


@pytest.mark.upstream_bug(64)
@pytest.mark.usefixtures("asleep")
def test_a_root_is_printed_once_and_forgotten(output: Output) -> None:
    """BUG 64."""
    with RichTracer(pipe(output)) as tracer:
        root = tracer("GET")
        child = root.step("child")
        child.end()
        root.end()
        tracer.flush()
        root["late"] = 1
        child("late")
        with root:
            pass
        tracer.flush()
        assert len(tracer._backlog.tree) == 0
        assert not tracer._backlog.arrivals
        assert root.mark is child.mark is SHOWN
    assert len(lines(output)) == 2
    assert "late" not in output.getvalue()


@pytest.mark.upstream_bug(64)
@pytest.mark.usefixtures("asleep")
def test_a_step_that_ends_after_its_root_was_printed_is_shown(output: Output) -> None:
    """BUG 64."""
    with RichTracer(pipe(output)) as tracer:
        root = tracer("GET")
        early = root.step("early")
        root.end()
        tracer.flush()
        assert len(tracer._backlog.tree) == 0
        early["rows"] = 3
        early.end()
        root.step("later").end()
        tracer.flush()
        assert len(tracer._backlog.tree) == 0
    first, still_open, early_line, later_line = lines(output)
    tail = str(root.id)[-8:]
    assert first.startswith("GET")
    assert still_open == "  ○ early  open"
    assert re.fullmatch(rf"early \(\d+ [µm]s\)  step of {tail}  rows: 3", early_line)
    assert re.fullmatch(rf"later \(\d+ [µm]s\)  step of {tail}", later_line)


@pytest.mark.usefixtures("asleep")
def test_the_end_prints_what_is_left_and_what_is_open(output: Output) -> None:
    with RichTracer(pipe(output)) as tracer:
        open_root = tracer("open")
        tracer("done").end()
    assert [line.split()[0] for line in lines(output)] == ["open", "done"]
    assert lines(output)[0] == "open (open)"
    open_root.end()
    tracer.flush()
    assert re.fullmatch(r"open \(\d+ [µm]s\)", lines(output)[-1])


@pytest.mark.usefixtures("asleep")
def test_a_span_after_the_end_begins_anew(output: Output) -> None:
    """Also one after the inner of two blocks."""
    tracer = RichTracer(pipe(output))
    with tracer:
        with tracer:
            pass
        assert threads() == []
        tracer("after").end()
        assert len(threads()) == 1
    assert [line.split()[0] for line in lines(output)] == ["after"]
    tracer.__exit__(None, None, None)  # a second end changes nothing
    assert len(lines(output)) == 1


@pytest.mark.usefixtures("asleep")
def test_a_step_after_the_end_is_shown_by_the_next(output: Output) -> None:
    tracer = RichTracer(pipe(output))
    with tracer:
        root = tracer("root")
    root.step("step").end()  # of the tracer it asks nothing
    assert threads() == []
    tracer.__exit__(None, None, None)
    assert [line.split()[0] for line in lines(output)] == ["root", "step"]


@pytest.mark.usefixtures("asleep")
def test_the_first_span_starts_the_one_thread(output: Output) -> None:
    tracer = RichTracer(pipe(output))
    assert threads() == []
    tracer("a").end()
    with tracer:
        tracer("b").end()
        assert len(threads()) == 1
    assert [line.split()[0] for line in lines(output)] == ["a", "b"]


@pytest.mark.parametrize("console", [pipe, terminal])
def test_the_thread_prints_by_itself(
    console: Callable[[io.StringIO], Console], output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rich, "REFRESH", 0.001)
    with RichTracer(console(output)) as tracer:
        tracer("first").end()
        output.wait_for("first")
        tracer("second").end()
        output.wait_for("second")


def test_open_roots_are_live_in_a_terminal(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rich, "REFRESH", 0.001)
    with RichTracer(terminal(output)) as tracer:
        root = tracer("GET")
        output.wait_for("(open)")
        root["k"] = "changed"
        output.wait_for("changed")
        root.end()


@pytest.mark.usefixtures("asleep")
def test_a_finished_root_is_a_panel_in_a_terminal(output: Output) -> None:
    with RichTracer(terminal(output)) as tracer:
        with tracer("server.shutdown", {"server.workers": 2}) as root, root.step("draining"):
            pass
        tracer.flush()
        found = output.getvalue()
        assert "╭" in found
        assert ".workers:" in found
        assert "draining" in found
        assert "\x1b[32m" in found
    assert found.count("draining") == output.getvalue().count("draining")


@pytest.mark.usefixtures("asleep")
def test_the_live_view_shows_the_newest_and_counts_the_rest(output: Output) -> None:
    with RichTracer(terminal(output)) as tracer:
        for n in range(MAX_OPEN + 2):
            tracer(f"root-{n}-")
        tracer.flush()
        view = io.StringIO()
        Console(file=view, width=80).print(tracer._open_roots())
        found = view.getvalue()
        assert "… 2 more open" in found
        assert "root-1-" not in found
        assert "root-2-" in found
        assert f"root-{MAX_OPEN + 1}-" in found


@pytest.mark.upstream_bug(65)
@pytest.mark.usefixtures("asleep")
def test_spans_of_many_threads(output: Output) -> None:
    """BUG 65."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with RichTracer(pipe(output)) as tracer:

            def work() -> None:
                for _ in range(50):
                    with tracer("root") as root, root.step("step"):
                        pass
                    tracer.flush()

            workers = [threading.Thread(target=work) for _ in range(4)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            assert len(tracer._backlog.tree) == 0
    finally:
        sys.setswitchinterval(interval)
    found = [line.split()[0] for line in lines(output)]
    assert (found.count("root"), len(found)) == (200, 400)


def test_around_a_trio_run(output: Output) -> None:
    async def main() -> None:
        with tracer("run") as root:
            await trio.to_thread.run_sync(root.step("elsewhere").end)

    with RichTracer(pipe(output)) as tracer:
        trio.run(main)
    assert [line.split()[0] for line in lines(output)] == ["run", "●"]


def test_a_terminal_that_takes_nothing_stops_neither_spans_nor_the_end(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rich, "REFRESH", 0.001)
    monkeypatch.setattr(rich, "EXIT_TIMEOUT", 0.01)
    output = Stuck()
    with RichTracer(pipe(output)) as tracer:
        (thread,) = threads()
        tracer("first").end()
        assert output.entered.wait(10)
        tracer("second").step("third").end()
        tracer.flush()  # waits for nobody
    assert thread.is_alive()
    assert capfd.readouterr().err == "stario RichTracer: 3 spans are not shown, for there was no time\n"
    output.released.set()
    thread.join(10)
    assert [line.split()[0] for line in lines(output)] == ["first"]
    monkeypatch.undo()
    with tracer:
        tracer("again").end()
    assert [line.split()[0] for line in lines(output)] == ["first", "again"]
    assert capfd.readouterr().err == ""


def test_ctrl_c_at_the_end_gives_up_at_once_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(timeout: float | None = None) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(rich, "REFRESH", 0.001)
    output = Stuck()
    tracer = RichTracer(pipe(output))
    tracer("first").end()
    assert output.entered.wait(10)
    (thread,) = threads()
    run = tracer._run
    assert run is not None
    monkeypatch.setattr(run.ended, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tracer.__exit__(None, None, None)
    assert capfd.readouterr().err == "stario RichTracer: 1 spans are not shown, for there was no time\n"
    output.released.set()
    thread.join(10)


@pytest.mark.usefixtures("asleep")
def test_the_end_does_not_wait_for_a_flush_that_is_stuck(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    output = Stuck()
    with RichTracer(pipe(output)) as tracer:
        pass
    monkeypatch.setattr(rich, "EXIT_TIMEOUT", 0)
    Span(tracer, "first").end()  # without a thread
    flusher = threading.Thread(target=tracer.flush)
    flusher.start()
    assert output.entered.wait(10)
    Span(tracer, "second").end()
    tracer.__exit__(None, None, None)
    assert capfd.readouterr().err == "stario RichTracer: 2 spans are not shown, for there was no time\n"
    output.released.set()
    flusher.join(10)
    assert [line.split()[0] for line in lines(output)] == ["first"]


@pytest.mark.usefixtures("asleep")
def test_an_end_without_time_says_nothing_where_nothing_is_lost(
    output: Output, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with RichTracer(pipe(output)) as tracer:
        assert tracer._run is not None
        monkeypatch.setattr(tracer._run.ended, "wait", lambda timeout: False)
    assert capfd.readouterr().err == ""
    for thread in threads():
        thread.join(10)


@pytest.mark.usefixtures("asleep")
def test_a_flush_is_left_to_another_that_is_printing() -> None:
    output = Stuck()
    tracer = RichTracer(pipe(output))
    with tracer:
        tracer("first").end()
        flusher = threading.Thread(target=tracer.flush)
        flusher.start()
        assert output.entered.wait(10)
        tracer("second").end()
        tracer.flush()
        output.released.set()
        flusher.join(10)
        assert [line.split()[0] for line in lines(output)] == ["first", "second"]


@pytest.mark.usefixtures("asleep")
def test_what_comes_while_spans_are_sorted_waits_for_the_next_time(output: Output) -> None:
    """Otherwise nothing is shown for as long as spans come faster than they are sorted."""
    with RichTracer(pipe(output)) as tracer:
        add = tracer._backlog.tree.add

        def add_and_start_another(span: Span) -> None:
            tracer("more").end()
            add(span)

        tracer._backlog.tree.add = add_and_start_another  # type: ignore[method-assign]
        tracer("first").end()
        tracer.flush()
        assert "first" in output.getvalue()
        assert "more" not in output.getvalue()
        assert len(tracer._backlog.arrivals) == 4  # one came with the start of the first, and one with its end
        tracer._backlog.tree.add = add  # type: ignore[method-assign]


@pytest.mark.usefixtures("asleep")
def test_spans_that_are_never_ended_do_not_fill_the_memory(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rich, "MAX_NODES", 3)
    with RichTracer(pipe(output)) as tracer:
        for n in range(5):
            tracer(f"root-{n}-")
            tracer.flush()
        assert len(tracer._backlog.tree) == 3
    assert output.getvalue().count("1 spans are not shown") == 2


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_no_thread_is_no_reason_to_lose_spans(
    failure: type[BaseException], output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: threading.Thread) -> None:
        raise failure

    tracer = RichTracer(pipe(output))
    monkeypatch.setattr(threading.Thread, "start", start)
    if failure is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            tracer("not begun")
        monkeypatch.undo()
    tracer("GET").end()
    tracer.__exit__(None, None, None)
    assert [line.split()[0] for line in lines(output)] == ["GET"]


def test_without_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with RichTracer() as tracer:
        tracer("GET").end()


@pytest.mark.usefixtures("asleep")
def test_in_a_forked_child_it_begins_anew(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    """The locks are as the threads of the parent left them."""
    tracer = RichTracer(terminal(output))
    console_lock = tracer.console._lock
    Span(tracer, "parent").end()
    held = threading.Event()
    over = threading.Event()

    def hold() -> None:
        with tracer._starting, tracer._counting, tracer._backlog.printing, console_lock:
            held.set()
            over.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)

    class Proxy:
        rich_proxied_file = sys.stdout

    monkeypatch.setattr(sys, "stdout", Proxy())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(forks, "_followed", {tracer})
    forks.after_fork()
    assert sys.stdout is Proxy.rich_proxied_file
    with tracer:
        tracer("child").end()
    assert "child (" in output.getvalue()
    assert "╭" not in output.getvalue()
    assert "parent" not in output.getvalue()
    over.set()
    holder.join(10)


@pytest.mark.usefixtures("asleep")
def test_memory_is_bounded_while_the_output_is_stuck(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rich, "MAX_WAITING", 2)
    with RichTracer(pipe(output)) as tracer:
        spans = [tracer(f"root-{n}") for n in range(50)]
        assert len(tracer._backlog.arrivals) == 4
        for span in spans:
            span.end()
        assert len(tracer._backlog.arrivals) == 8
        tracer.flush()
        for n in range(3):
            tracer(f"again-{n}").end()
    note, *roots, second_note, again, once_more = lines(output)
    assert note == "… 46 spans are not shown: more came than could be shown in time"
    assert second_note.startswith("… 1 spans")
    assert [line.split()[0] for line in roots] == ["root-0", "root-1", "root-2", "root-3"]
    assert [line.split()[0] for line in (again, once_more)] == ["again-0", "again-1"]


@pytest.mark.spec("SD-22")
@pytest.mark.parametrize("failure", [OSError, SystemExit])
@pytest.mark.parametrize("console", [pipe, terminal])
def test_a_broken_output_harms_nobody(
    console: Callable[[io.StringIO], Console],
    failure: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    class Broken(Output):
        def __init__(self) -> None:
            super().__init__()
            self.tried = threading.Semaphore(0)

        def write(self, text: str) -> int:
            self.tried.release()
            raise failure("no room")

    monkeypatch.setattr(rich, "REFRESH", 0.001)
    output = Broken()
    with RichTracer(console(output)) as tracer:
        for _ in range(3):
            tracer("a").end()
            assert output.tried.acquire(timeout=10)
            tracer.flush()
        assert threads()[0].is_alive()
    assert capfd.readouterr().err == "stario RichTracer: no room; its output is lost until this is over\n"


@pytest.mark.spec("SD-22")
@pytest.mark.parametrize("console", [pipe, terminal])
def test_a_span_that_cannot_be_shown_does_not_end_the_thread(
    console: Callable[[io.StringIO], Console], output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rich, "REFRESH", 0.001)
    with RichTracer(console(output)) as tracer:
        bad = tracer("bad")
        bad.events.append(cast("Event", "no event"))
        bad.end()
        tracer("good").end()
        output.wait_for("good")
        assert threads()[0].is_alive()


def test_live_roots_may_change_while_they_are_rendered(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    """BUG 65."""
    monkeypatch.setattr(rich, "REFRESH", 0)
    with RichTracer(terminal(output)) as tracer:
        roots = [tracer(f"root-{n}") for n in range(3)]
        for n in range(500):
            for root in roots:
                root[f"key-{n % 50}"] = n
                root(f"event-{n}")
                if n % 3 == 0:
                    del root[f"key-{n % 50}"]
                root.step("step").end()
        for root in roots:
            root.end()
    assert output.getvalue().count("event-499") >= 3


def test_a_file_is_written_by_another_thread_and_the_console_comes_back(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w", encoding="utf-8") as file:
        console = Console(file=file, width=80)
        with RichTracer(console) as tracer:
            tracer("ü").end()
            assert console.file is not file
            assert console.file.fileno() == file.fileno()
            assert console.encoding == "utf-8"
            assert not console.is_terminal
            console.print("printed between")
        assert console.file is file
    assert {line.split()[-3] for line in (tmp_path / "log").read_text("utf-8").splitlines() if "ü" in line} == {"ü"}
    assert "printed between" in (tmp_path / "log").read_text("utf-8")


def test_the_view_stands_still_while_the_output_is_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rich, "REFRESH", 0.001)
    looked = threading.Semaphore(0)
    behind = True

    def look(self: Outlet) -> bool:
        looked.release()
        return behind

    monkeypatch.setattr(Outlet, "behind", property(look))
    with (tmp_path / "log").open("w") as file, RichTracer(Console(file=file, width=80)) as tracer:
        tracer("GET").end()
        for _ in range(3):
            assert looked.acquire(timeout=10)
        assert len(tracer._backlog.arrivals) == 2  # its start and its end, not looked at
        behind = False
        while tracer._backlog.arrivals:
            assert looked.acquire(timeout=10)
    assert (tmp_path / "log").read_text().count("GET") == 1


def test_what_is_lost_is_told() -> None:
    assert rich._lost(3, 0) == b"... 3 pieces of this output are lost\n"


SCRIPT = """
from stario_trio.telemetry import RichTracer
tracer = RichTracer()
with tracer("last words"):
    pass
"""


def test_without_a_block_the_last_spans_are_printed_when_the_program_ends() -> None:
    run = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=60
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.count("last words") == 1


def test_a_child_known_from_its_end_alone_is_below_its_root(output: Output) -> None:
    with RichTracer(pipe(output)) as tracer:
        root = Span(tracer, "root")
        Span(tracer, "child", parent_id=root.id).end()
        root.end()
    assert [line.split()[0] for line in lines(output)] == ["root", "●"]
