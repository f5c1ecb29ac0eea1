"""`pytest --spec SD-07`: the tests that prove one clause of docs/reference/lifecycle.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--spec", metavar="CLAUSE", help="run only the tests that are marked with this clause")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    clause = config.getoption("--spec")
    if clause is None:
        return
    chosen = [item for item in items if any(clause in marker.args for marker in item.iter_markers("spec"))]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
    items[:] = chosen
