from __future__ import annotations

import html
import sys
from decimal import Decimal
from typing import Any

import htpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from stario_trio.exceptions import StarioError
from stario_trio.html import render


class Says:
    """An object whose `__html__()` returns what it was made with."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __html__(self) -> Any:
        return self.answer


class Name(str):
    """A str subclass that claims no HTML."""

    __slots__ = ()


@given(st.text())
def test_text_is_escaped_as_the_standard_library_does(text: str) -> None:
    assert render(text) == html.escape(text, quote=True)
    assert render(Name(text)) == html.escape(text, quote=True)


def test_the_five_characters() -> None:
    assert render("""&<>"'""") == "&amp;&lt;&gt;&quot;&#x27;"


def test_an_object_with_html_is_taken_as_it_is() -> None:
    assert render(Says("<b>&</b>")) == "<b>&</b>"
    assert render(Markup("<i>")) == "<i>"
    assert render(htpy.p["<&>", htpy.br]) == "<p>&lt;&amp;&gt;<br></p>"


def test_the_result_is_a_plain_str() -> None:
    # A Markup that leaks out of here would escape what is later added to it.
    assert type(render(Markup("<i>"))) is str
    assert type(render(Name("x"))) is str


@pytest.mark.parametrize(
    ("number", "text"),
    [(3, "3"), (-1.5, "-1.5"), (Decimal("1.10"), "1.10"), (True, "True"), (False, "False")],
)
def test_numbers(number: float | Decimal, text: str) -> None:
    assert render(number) == text


def test_a_number_cannot_smuggle_html() -> None:
    class Odd(int):
        def __str__(self) -> str:
            return "<b>"

    assert render(Odd(1)) == "&lt;b&gt;"


def test_lists_and_tuples_are_joined() -> None:
    assert render([]) == ""
    assert render(["<", Markup("<hr>"), (1, ["&"], ())]) == "&lt;<hr>1&amp;"


@pytest.mark.parametrize("value", [None, b"<b>", {"a": 1}, {1}, iter("ab"), object(), Markup, Says])
def test_other_types_are_refused_by_name(value: Any) -> None:
    with pytest.raises(StarioError, match=f"^Cannot render element of type {type(value).__name__}\n"):
        render(value)
    with pytest.raises(StarioError, match="Cannot render element"):
        render(["fine", value])


@pytest.mark.parametrize("answer", [None, b"<b>", 3])
def test_html_must_be_text(answer: object) -> None:
    with pytest.raises(StarioError, match=r"Says\.__html__\(\) returned"):
        render(Says(answer))


@pytest.mark.parametrize("name", ["Div", "DOCTYPE_HTML5", "SafeString"])
def test_a_tag_of_stario_tells_what_to_write(name: str) -> None:
    with pytest.raises(ImportError, match="import htpy as h") as caught:
        exec(f"from stario_trio.html import {name}")
    assert f"nor its {name!r}" in str(caught.value)


def test_other_names_are_not_there() -> None:
    assert not hasattr(sys.modules["stario_trio.html"], "nothing")
