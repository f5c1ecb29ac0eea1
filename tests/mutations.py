"""The smallest change that must break each clause: `nox -s mutate` applies them one by one.

A clause whose tests still pass with its mutation in place is not proved. The last result stands in
`docs/reference/mutations.md`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "docs" / "reference" / "mutations.md"
# Seconds for the tests of one clause: many mutations show as a hang, which the bounds of the tests end.
PATIENCE = 120

CONNECTION = "server/connection.py"
EXCHANGE = "server/exchange.py"
LIFECYCLE = "server/lifecycle.py"
LISTENER = "server/listener.py"
PHASES = "server/phases.py"
SERVER = "server/server.py"
SIGNALS = "server/signals.py"
SOCKETS = "server/sockets.py"
SUPERVISOR = "server/supervisor.py"
THREADS = "server/threads.py"
WORKER = "server/worker.py"
ALIVE = "http/alive.py"
CONFIG = "server/config.py"


@dataclass(frozen=True)
class Mutation:
    """What is changed, in words and in code. `old` stands exactly once in the file."""

    clause: str
    words: str
    path: str
    old: str
    new: str


MUTATIONS = [
    Mutation("ST-01", "tell of the addresses before binding", SUPERVISOR,
             "bound = await bind(self._config)", "listening([]); bound = await bind(self._config)"),
    Mutation("ST-01", "the first worker's socket accepts while the others bind", SOCKETS,
             "            port = bound[0][0].port  # port 0",
             "            with contextlib.suppress(OSError):\n                bound[0][0].accept()\n"
             "            port = bound[0][0].port  # port 0"),
    Mutation("ST-02", "the span of a failed start looks fine", "server/spans.py",
             "        with span:\n            yield span", "        yield span\n        span.end()"),
    Mutation("ST-03", "binding may take a second at most", SUPERVISOR,
             "                    with self._starting:\n", "                    with self._starting, trio.fail_after(1):\n"),
    Mutation("ST-04", "the addresses are not told", SUPERVISOR,
             "listening([listener.address for listener in bound[0]] if bound else [])", "listening([])"),
    Mutation("ST-05", "a stop while starting is forgotten", SUPERVISOR, "if self._stop_asked:\n                        close(",
             "if False:\n                        close("),
    Mutation("ST-06", "a server may run again", SERVER, "        self._ran = True\n", "        self._ran = False\n"),
    Mutation("SD-01", "a signal is not passed on to the worker", SUPERVISOR,
             "            worker.ask_to_stop(why, now=now)", "            pass"),
    Mutation("SD-01", "only the first thread is asked to stop", SUPERVISOR,
             "            worker.ask_to_stop(why, now=now)", "            worker.ask_to_stop(why, now=now)\n            break"),
    Mutation("SD-02", "workers do not learn that another one has shut their socket", SOCKETS,
             "                self._unix_file.shut = True\n", ""),
    Mutation("SD-02", "the listener closes without taking what has come", WORKER,
             "            self._take_what_has_come()\n", ""),
    Mutation("SD-03", "handlers are told before the listener is closed", EXCHANGE,
             "phase >= Phase.DRAINING", "phase >= Phase.STOP_ACCEPTING"),
    Mutation("SD-04", "idle connections wait for the deadline", CONNECTION,
             "Phase.DRAINING if state is State.IDLE else Phase.CANCELLING", "Phase.CANCELLING"),
    Mutation("SD-05", "a new connection gets two seconds", CONNECTION, "_NEW_GRACE: Final = 1.0", "_NEW_GRACE: Final = 2.0"),
    Mutation("SD-06", "half a head ends with the drain", CONNECTION,
             "Phase.DRAINING if state is State.IDLE else",
             "Phase.DRAINING if state in (State.IDLE, State.READING) else"),
    Mutation("SD-07", "the last response does not say close", EXCHANGE,
             "self._broken or self._continue_due or self.shutting_down", "self._broken or self._continue_due"),
    Mutation("SD-08", "alive() ends with the deadline", CONNECTION,
             'until(Phase.DRAINING, "alive"', 'until(Phase.FORCE_CLOSING, "alive"'),
    Mutation("SD-09", "handlers are cancelled when the drain begins", CONNECTION,
             "Phase.DRAINING if state is State.IDLE else Phase.CANCELLING", "Phase.DRAINING"),
    Mutation("SD-10", "the grace is counted in tenths of a second", WORKER,
             "else self.config.graceful_timeout)", "else round(self.config.graceful_timeout, 1))"),
    Mutation("SD-11", "no socket is closed by force", CONNECTION,
             "        self.forced = True\n        self.cut()", "        self.forced = True"),
    Mutation("SD-12", "handlers are not cancelled", CONNECTION,
             "Phase.DRAINING if state is State.IDLE else Phase.CANCELLING",
             "Phase.DRAINING if state is State.IDLE else Phase.STOPPED"),
    Mutation("SD-13", "there is half the time for cleanup", WORKER,
             "+ self.config.cleanup_timeout)", "+ self.config.cleanup_timeout / 2)"),
    Mutation("SD-14", "nobody tells of a stuck handler", WORKER, "            self._report_abandoned()\n", ""),
    Mutation("SD-14", "a thread that hangs is waited for", THREADS,
             "        self._patience.deadline = min(self._patience.deadline, enough)\n", ""),
    Mutation("SD-15", "the grace is granted twice", WORKER,
             "else self.config.graceful_timeout)", "else 2 * self.config.graceful_timeout)"),
    Mutation("SD-16", "haste changes nothing in the drain", PHASES,
             "(_DRAINING, Cause.URGENT): _FORCE_CLOSING", "(_DRAINING, Cause.URGENT): _DRAINING"),
    Mutation("SD-17", "an outer cancel leaves sockets to their handlers", WORKER,
             "        self._close_listeners()\n        self._force_close()\n\n    def note",
             "        self._close_listeners()\n\n    def note"),
    Mutation("SD-17", "an outer cancel does not reach the threads", THREADS,
             'self._thread.hand_over(lambda: self._run_scope.cancel(reason="the server was cancelled"))', "pass"),
    Mutation("SD-18", "the connection closes at once", CONNECTION,
             "        if not self._keep and not self.outbox.lost:\n            await linger(self.transport)\n", ""),
    Mutation("SD-19", "the Date service ends when the drain begins", SUPERVISOR,
             'async with trio.open_nursery() as services:  # [S]\n            services.start_soon(self._date.run, name="date")',
             "async def brief():\n            with workers[0].lifecycle.until(2, 'date'):\n                await self._date.run()\n\n"
             "        async with trio.open_nursery() as services:\n            services.start_soon(brief)"),
    Mutation("SD-20", "signal handlers stay", SIGNALS, "    finally:\n        receiver.restore()", "    finally:\n        pass"),
    Mutation("SD-21", "an error of a worker comes out in a group", SERVER,
             "        with without_groups():\n            await self._supervisor", "        if True:\n            await self._supervisor"),
    Mutation("SD-21", "the others go on when a worker in its thread has died", SUPERVISOR,
             "            self.ask_to_stop(repr(sole_leaf(exc)), now=False)\n", ""),
    Mutation("SD-22", "a tracer's error comes out of its span", "telemetry/core.py",
             "        except Exception:", "        except ZeroDivisionError:"),
    Mutation("SD-23", "the report has no durations", WORKER,
             "            self.report.durations = self.lifecycle.durations()\n", ""),
    Mutation("SD-24", "late connections are not in the books", WORKER,
             "            self.report.accepted_late += 1", "            pass"),
    Mutation("SK-01", "nobody asks whether ports can be shared", CONFIG,
             'elif self.workers > 1 and not hasattr(socket, "SO_REUSEPORT")', "elif False"),
    Mutation("SK-01", "the port is not shared", SOCKETS, "share=config.workers > 1", "share=False"),
    Mutation("SK-02", "one worker shares its port too", SOCKETS,
             "        sock.bind(address)",
             "        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)\n        sock.bind(address)"),
    Mutation("SK-03", "the mode is what the umask leaves", SOCKETS, "        os.chmod(path, _UNIX_MODE)", "        pass"),
    Mutation("SK-03", "one worker takes all who wait at the shared socket", SOCKETS,
             "burst = BURST if workers == 1 else 1", "burst = BURST"),
    Mutation("SK-04", "whatever stands at the path is removed", SOCKETS, "if not stat.S_ISSOCK(mode):", "if False:"),
    Mutation("SK-05", "the file at the path is removed, whose ever it is", SOCKETS,
             "if self._identify() == self._identity:", "if True:"),
    Mutation("SK-06", "an explicit default host is not seen", CONFIG, "if value is not default", "if value != default"),
    Mutation("SK-07", "a shortage ends the accept loop", LISTENER, "            await trio.sleep(_PAUSE)", "            return"),
    Mutation("AL-01", "the peer leaving does not end the block", CONNECTION,
             '        for ring in list(self._alive_rings):\n            ring.end(why)', "        pass"),
    Mutation("AL-02", "the source is not closed at the end", ALIVE,
             "        await self.close_source()\n        raise StopAsyncIteration", "        raise StopAsyncIteration"),
    Mutation("AL-03", "a loop without a source is not ended", ALIVE,
             "            if not self._ended:\n",
             "            if self._items is None:\n                return cast('T', None)\n            if not self._ended:\n"),
    Mutation("AL-04", "rounds do not wait for the peer", ALIVE, "await peer.drain()", "pass"),
    Mutation("AL-05", "nobody looks whether the peer has left already", CONNECTION,
             "self._unwatch is None and not self.peer_has_left()", "self._unwatch is None and not self._left"),
]  # fmt: skip


def apply(mutation: Mutation, tree: Path) -> None:
    """Change the code of a copy of the project."""
    path = tree / "stario_trio" / mutation.path
    code = path.read_text(encoding="utf-8")
    assert code.count(mutation.old) == 1, f"{mutation.clause}: {mutation.old!r} stands {code.count(mutation.old)} times"
    path.write_text(code.replace(mutation.old, mutation.new), encoding="utf-8")


def try_out(mutation: Mutation, tree: Path) -> str:
    """Run the clause's tests on a copy of the project that is broken. Returns what became of them."""
    apply(mutation, tree)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "--no-header",
        "-p",
        "no:cacheprovider",
        "--spec",
        mutation.clause,
    ]
    try:
        ran = subprocess.run(
            [*command, "tests"], cwd=tree, env={"PYTHONPATH": str(tree), "STARIO_TRIO_EXAMPLES": "60", "STARIO_TRIO_SEEDS": "3",
                                               "PATH": "/usr/bin:/bin"},
            capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "caught (its tests hang)"
    if ran.returncode == 0:
        return "SURVIVED"
    failed = [line for line in ran.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if not failed:
        return f"BROKEN: {ran.stdout.splitlines()[-1:]}"
    return f"caught by `{failed[0].split()[1].split('::')[-1].split('[')[0]}`"


def main(chosen: list[str]) -> int:
    """Try the mutations, all or those of the named clauses; write the page if all were tried."""
    rows: list[tuple[Mutation, str]] = []
    for mutation in MUTATIONS:
        if chosen and mutation.clause not in chosen:
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder) / "project"
            shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", ".nox", ".venv", "__pycache__", "_build"))
            result = try_out(mutation, tree)
        print(f"{mutation.clause}  {result:60} {time.monotonic() - began:5.1f} s  {mutation.words}", flush=True)
        rows.append((mutation, result))
    if not chosen:
        RESULT.write_text(page(rows), encoding="utf-8")
    survivors = [mutation.clause for mutation, result in rows if not result.startswith("caught")]
    print(f"{len(rows) - len(survivors)} of {len(rows)} mutations were caught.", *survivors)
    return len(survivors)


def page(rows: list[tuple[Mutation, str]]) -> str:
    """The result as a page of the docs."""
    lines = [
        "# Mutations",
        "",
        "For each clause of the [lifecycle](lifecycle.md), the smallest change that must break it, and what its tests made",
        "of that change. `nox -s mutate` applies them one by one to a copy of the project and renews this page.",
        "",
        "| Clause | The change | Its tests |",
        "|---|---|---|",
        *(f"| {mutation.clause} | {mutation.words} | {result} |" for mutation, result in rows),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
