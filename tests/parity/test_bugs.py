"""Every known defect of Stario has a test, and every marker a defect."""

from __future__ import annotations

import pytest

from tests.parity.known import BUGS, SERVER_PAGE, WIRE
from tests.parity.markers import all_tests, marked_tests
from tests.parity.verdicts import VERDICTS


@pytest.mark.parametrize("number", BUGS)
def test_a_defect_has_a_test_that_shows_it_to_be_absent(number: int) -> None:
    assert marked_tests().get(number), f"mark a test with @pytest.mark.upstream_bug({number})"


def test_every_marker_names_a_known_defect() -> None:
    assert sorted(marked_tests()) == sorted(BUGS) == list(range(1, 68))


def test_every_defect_that_a_verdict_names_is_known() -> None:
    assert {number for verdict in VERDICTS.values() for number in verdict.bugs} <= set(BUGS)


def test_the_tests_behind_the_promises_exist() -> None:
    named = {test for promise in SERVER_PAGE + WIRE for test in promise.tests}
    assert all(promise.tests for promise in SERVER_PAGE + WIRE)
    assert named <= set(all_tests())


def test_the_option_chooses_the_tests_of_one_defect(pytestconfig: pytest.Config) -> None:
    """`pytest --bug 23`, asked as pytest asks: with the hook of tests/conftest.py."""
    plugin = pytestconfig.pluginmanager.get_plugin("tests.conftest") or pytest.importorskip("tests.conftest")

    class Config:
        def __init__(self) -> None:
            self.deselected: list[object] = []
            self.hook = self

        def getoption(self, name: str) -> int | None:
            return 23 if name == "--bug" else None

        def pytest_deselected(self, items: list[object]) -> None:
            self.deselected = items

    class Item:
        def __init__(self, *numbers: int) -> None:
            self.mark = pytest.mark.upstream_bug(*numbers).mark

        def iter_markers(self, name: str) -> list[object]:
            return [self.mark] if name == self.mark.name else []

    config, items = Config(), [Item(23), Item(2, 23), Item(2), Item()]
    left = list(items)
    plugin.pytest_collection_modifyitems(config, left)
    assert left == items[:2]
    assert config.deselected == items[2:]
