"""The page is the tables."""

from __future__ import annotations

from tests.parity.page import PAGE, page
from tests.parity.upstream import read_names


def test_the_page_is_drawn_from_the_tables() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tests.parity.page"


def test_every_name_is_on_it() -> None:
    text = page()
    missing = [
        name
        for name in read_names()
        if f"`{name.rsplit('.', 2)[-1]}" not in text and f".{name.rsplit('.', 1)[-1]}`" not in text
    ]
    assert missing == []
