"""What two workers cost, and what they bring: in threads and in processes.

    python benchmarks/workers.py [--rounds 5] [--seconds 3] [--connections 64]
    PYTHON_GIL=0 python3.14t benchmarks/workers.py

The same handler as in hello.py. On a free-threaded Python, two workers should use about as much CPU time a request as
one: what they use more is what threads lose to each other over the objects they share. Two processes share nothing, so
they show what a second busy processor costs by itself; and a worker in a thread that is not the main one shows what
threads cost without a neighbour.

Each case is a server process of its own on the loopback interface (two for the last one), and every round measures one
case after the other. The requests come from wrk, if it is installed: the client of hello.py takes half a processor, so
there the requests per second say more about the client than about the workers.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks.hello import Client, announce, stario_app

#: What is measured: workers of a server, in which thread it runs, and how many such servers.
CASES = {
    "1 worker": (1, "main", 1),
    "1 worker, not in the main thread": (1, "other", 1),
    "2 workers": (2, "main", 1),
    "2 processes of 1 worker": (1, "main", 2),
}
WRK = shutil.which("wrk")


def serve(workers: int, thread: str) -> None:
    import trio

    async def main() -> None:
        app = stario_app()
        async with trio.open_nursery() as nursery:
            [(_host, port)] = await nursery.start(partial(app.serve, "127.0.0.1", 0, workers=workers))
            announce(port)

    if thread == "main":
        trio.run(main)
    else:
        threading.Thread(target=trio.run, args=(main,)).start()


# The load: for some seconds, as many requests as the servers answer. Returns how many that was.


def load_by_wrk(ports: list[int], connections: int, seconds: int) -> int:
    command = ["wrk", "-t1", f"-c{connections // len(ports)}", f"-d{seconds}s"]
    clients = [
        subprocess.Popen([*command, f"http://127.0.0.1:{port}/"], stdout=subprocess.PIPE, text=True) for port in ports
    ]
    outputs = [client.communicate()[0] for client in clients]
    return sum(int(number) for output in outputs for number in re.findall(r"(\d+) requests in", output))


def load_by_hello(ports: list[int], connections: int, seconds: int) -> int:
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(port, connections // len(ports))) for port in ports]
        together = clients[0]
        for other in clients[1:]:
            together.sockets += other.sockets  # `other` closes them
        end = time.monotonic() + seconds
        answered = 0
        while time.monotonic() < end:
            answered += together.load(10 * connections)
        return answered


def cpu_seconds(ports: list[int]) -> float:
    """CPU time so far of the servers together."""
    total = 0
    for port in ports:
        with Client(port, 1) as client:
            total += int(client.get(b"/cpu")[1])
    return total / 1e9


def measure(case: str, *, connections: int, seconds: int) -> tuple[float, float, float]:
    """Microseconds of CPU time per request, requests per second, and processors in use."""
    workers, thread, processes = CASES[case]
    command = [sys.executable, __file__, "--serve", str(workers), thread]
    load = load_by_wrk if WRK else load_by_hello
    with ExitStack() as stack:
        ports: list[int] = []
        for _ in range(processes):
            server = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            stack.callback(server.kill)
            assert server.stdout is not None
            ports.append(int(server.stdout.readline()))
        load(ports, connections, 1)  # imports made late and caches that fill
        before, began = cpu_seconds(ports), time.perf_counter()
        answered = load(ports, connections, seconds)
        used, took = cpu_seconds(ports) - before, time.perf_counter() - began
    return used / answered * 1e6, answered / took, used / took


def main() -> None:
    parser = argparse.ArgumentParser(description="What two workers cost, and what they bring.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(int(options.serve[0]), options.serve[1])
        return

    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    lock = "with" if gil else "without"
    client = "wrk" if WRK else "the client of hello.py"
    print(f"Python {platform.python_version()} {lock} the GIL, {processors} processors, {client}\n")
    measured: dict[str, list[tuple[float, float, float]]] = {case: [] for case in CASES}
    for _ in range(options.rounds):
        for case, found in measured.items():
            found.append(measure(case, connections=options.connections, seconds=options.seconds))
            print(".", end="", flush=True)
    print("\n")
    print("| | CPU time a request, us | beside 1 worker | requests/s | processors in use |")
    print("|---|---|---|---|---|")
    one = statistics.median(cost for cost, _, _ in measured["1 worker"])
    for case, found in measured.items():
        costs, rates, used = zip(*found, strict=True)
        cost = statistics.median(costs)
        spread = f"{min(costs):.1f} to {max(costs):.1f}"
        print(
            f"| {case} | {cost:.1f} ({spread}) | {cost / one:.2f} | {statistics.median(rates):,.0f} "
            f"| {statistics.median(used):.2f} |"
        )


if __name__ == "__main__":
    main()
