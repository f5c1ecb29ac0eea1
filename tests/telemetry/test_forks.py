from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from stario_trio.telemetry import forks

PATIENCE = 60


class Thing:
    def __init__(self) -> None:
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1


def test_what_follows_is_reset_as_long_as_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "_followed", type(forks._followed)())
    thing = Thing()
    forks.follow(thing)
    forks.follow(Thing())
    gc.collect()
    forks.after_fork()
    assert thing.resets == 1
    assert len(forks._followed) == 1


# Forks while another thread holds every lock there is, as it may in the middle of a span.
FORK = """
import os, signal, sys, threading
from stario_trio.telemetry import JsonTracer, RichTracer
tracer = JsonTracer() if sys.argv[1] == "json" else RichTracer()
tracer("parent").end()
locks = [tracer._outlet._lock]
if sys.argv[1] == "json":
    locks += [tracer._lock]
else:
    locks += [tracer._starting, tracer._counting, tracer._backlog.printing, tracer.console._lock]
held, over = threading.Event(), threading.Event()

def hold():
    for lock in locks:
        lock.acquire()
    held.set()
    over.wait()
    for lock in locks:
        lock.release()

holder = threading.Thread(target=hold)
holder.start()
held.wait()
if (child := os.fork()) == 0:
    signal.alarm(30)  # ends it where it hangs
    with tracer:
        with tracer("child") as root, root.step("step"):
            pass
        tracer.flush() if sys.argv[1] == "rich" else None
    os._exit(0)
_, status = os.waitpid(child, 0)
over.set()
holder.join()
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kind", ["json", "rich"])
def test_a_forked_child_inherits_no_lock_that_is_held(kind: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-X", "utf8", "-W", "ignore", "-c", FORK, kind],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count("child") == ended.stdout.count("step") == 1
    assert ended.stdout.count("parent") == 1 + (kind == "json")  # `parent_id` of the step
