"""The suite of the specification: virtual time, and every order in which Trio may run tasks."""

from __future__ import annotations

import inspect
import os
import random
from pathlib import Path
from typing import Any

import pytest
import trio

#: Scheduler seeds each scenario runs with. A long run: STARIO_TRIO_SEEDS=200.
SEEDS = range(int(os.environ.get("STARIO_TRIO_SEEDS", "5")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run every test of this folder on a virtual clock."""
    for item in items:
        is_async = isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj)
        if is_async and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.trio(run=run_in_virtual_time))


def run_in_virtual_time(test: Any, *, clock: trio.abc.Clock | None, **options: Any) -> Any:
    async def bounded() -> Any:
        with trio.fail_after(200_000):  # virtual seconds: who waits for ever fails at once
            return await test()

    return trio.run(bounded, clock=clock or trio.testing.MockClock(autojump_threshold=0), **options)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every scenario with every seed."""
    if inspect.iscoroutinefunction(metafunc.function):
        metafunc.parametrize("scheduler_seed", SEEDS, indirect=True, ids=lambda seed: f"seed{seed}")


@pytest.fixture(autouse=True)
def scheduler_seed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Let Trio shuffle each batch of runnable tasks by a known seed: the trace must not depend on it."""
    seed: int = getattr(request, "param", 0)
    monkeypatch.setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
    monkeypatch.setattr(trio._core._run, "_r", random.Random(seed))
    return seed
