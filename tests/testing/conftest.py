"""Who waits for ever fails."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import trio


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test of this folder a bound."""
    for item in items:
        is_async = isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj)
        if is_async and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.trio(run=run_bounded))


def run_bounded(test: Any, *, clock: trio.abc.Clock | None, **options: Any) -> Any:
    async def bounded() -> Any:
        with trio.fail_after(60 if clock is None else 1_000_000):  # virtual seconds cost nothing
            return await test()

    return trio.run(bounded, clock=clock, **options)
