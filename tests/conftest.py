"""For all tests: `pytest --spec SD-07` runs the tests that prove one clause of docs/reference/lifecycle.md, `pytest
--bug 23` those that show one defect of docs/reference/parity.md to be absent, and no test reads a plain head otherwise
than h11 would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from stario_trio.server.wire import reader
from tests.support.heads import read_plain_and_compare

if TYPE_CHECKING:
    from collections.abc import Iterator

# What is promised is never the time of one example: a busy machine may take any.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--spec", metavar="CLAUSE", help="run only the tests that are marked with this clause")
    parser.addoption("--bug", metavar="NUMBER", type=int, help="run only the tests that are marked with this defect")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for option, name in (("--spec", "spec"), ("--bug", "upstream_bug")):
        asked = config.getoption(option)
        if asked is None:
            continue
        chosen = [item for item in items if any(asked in marker.args for marker in item.iter_markers(name))]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
        items[:] = chosen


@pytest.fixture(scope="session", autouse=True)
def plain_heads_are_read_twice() -> Iterator[None]:
    """Every head that any test sends compares the plain reader with the law."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "read_plain", read_plain_and_compare)
        yield
