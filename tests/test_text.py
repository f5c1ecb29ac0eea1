from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stario_trio.exceptions import HttpException
from stario_trio.text import json_text, read_json, utf8


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        (b"", "Expecting value"),
        ("", "Expecting value"),
        ("{", "Expecting property name enclosed in double quotes"),
        ("[1] x", "Extra data"),
        pytest.param(b'"\xff"', "not UTF-8", id="bug_29"),
        ("[" * 200_000, "nested too deeply"),
        ("9" * 5_000, "a number is too long"),
    ],
)
def test_what_is_no_json_is_the_peers_fault(text: str | bytes, detail: str) -> None:
    with pytest.raises(HttpException) as info:
        read_json(text)
    assert (info.value.status_code, info.value.detail) == (400, f"Invalid JSON: {detail}")
    assert info.value.__cause__ is not None


@given(st.text(max_size=40) | st.binary(max_size=40))
def test_nothing_fails_in_another_way(text: str | bytes) -> None:
    statuses = list[int]()
    try:
        read_json(text)
    except HttpException as exc:
        statuses.append(exc.status_code)
    assert statuses in ([], [400])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(json_values)
def test_json_is_read(value: Any) -> None:
    assert read_json(json.dumps(value)) == read_json(json.dumps(value).encode()) == value


@given(st.text(alphabet=st.characters(codec=None), max_size=40))
def test_any_text_has_utf8(text: str) -> None:
    expected = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    assert utf8(text).decode() == expected


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    SCALARS | st.text(alphabet=st.characters(codec=None), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_json_there_and_back(value: Any) -> None:
    text = json_text(value)
    assert read_json(text.encode()) == value
    assert not set(text) & set("\r\n")


def test_json_is_compact_and_keeps_what_is_not_ascii() -> None:
    assert json_text({"é": [1, 2]}) == '{"é":[1,2]}'
    assert json_text({"é": "\ud800"}) == r'{"\u00e9":"\ud800"}'


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_json_has_not(number: float) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        json_text([number])


@pytest.mark.parametrize("wrong", [5, b"x", None])
def test_what_is_no_text_has_no_utf8(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"Text is str, not \w+\. Decode bytes, or send them with respond\(\)"):
        utf8(wrong)
