"""Query parameters, with the standard library as the oracle."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stario_trio.http.query import QueryParams

texts = st.text(st.characters(exclude_categories=["Cs"]))


def grouped(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Bring the pairs of one key together, at the place of its first."""
    order = list(dict.fromkeys(key for key, _ in pairs))
    return sorted(pairs, key=lambda pair: order.index(pair[0]))


@given(st.text(alphabet="ab=&+;%2BfFzé \xff", max_size=40).map(lambda s: s.encode("latin-1")))
@example(b"a=1&a=2&&b&c==d&+x=%C3%A9&%zz=%ff&;=;")
def test_agrees_with_urllib(raw: bytes) -> None:
    assert QueryParams(raw).items() == grouped(parse_qsl(raw.decode("latin-1"), keep_blank_values=True))


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"])),
            st.text(st.characters(exclude_categories=["Cs"])),
        )
    )
)
def test_reads_what_urlencode_writes(pairs: list[tuple[str, str]]) -> None:
    # ("", "") is written as "=", which is one pair and not an empty one.
    query = QueryParams(urlencode(pairs).encode())
    assert query.items() == grouped(pairs)
    assert len(query) == len(dict(pairs))
    for key, _ in pairs:
        assert query.getlist(key) == [v for k, v in pairs if k == key]
        assert query.get(key) == query.getlist(key)[0]
        assert key in query


@pytest.mark.parametrize(
    ("raw", "pairs"),
    [
        (b"", []),
        (b"&&", []),
        (b"a", [("a", "")]),
        (b"=", [("", "")]),
        (b"a=b=c", [("a", "b=c")]),
        (b"a;b=1", [("a;b", "1")]),
        (b"a+b=%2B", [("a b", "+")]),
        (b"a=%C3%A9", [("a", "é")]),
        (b"a=%ff", [("a", "\ufffd")]),
        (b"a=\xe9", [("a", "é")]),
        (b"%zz=%", [("%zz", "%")]),
        (b"a=1&b=2&a=3", [("a", "1"), ("a", "3"), ("b", "2")]),
    ],
)
def test_details(raw: bytes, pairs: list[tuple[str, str]]) -> None:
    assert QueryParams(raw).items() == pairs


def test_an_absent_key() -> None:
    query = QueryParams(b"a=")
    assert query.get("b") is None
    assert query.get("b", 7) == 7
    assert query.get("a", "x") == ""
    assert query.getlist("b") == []
    assert "b" not in query


def test_a_list_is_a_copy() -> None:
    query = QueryParams(b"a=1")
    query.getlist("a").append("2")
    query.getlist("b").append("2")
    assert query.items() == [("a", "1")]


def test_truth_and_repr() -> None:
    assert QueryParams(b"a")
    assert not QueryParams(b"&")
    assert repr(QueryParams(b"a=1&a=2")) == "QueryParams({'a': ['1', '2']})"


def test_equality() -> None:
    query = QueryParams(b"a=1&b=2&b=3")
    assert query == QueryParams(b"b=2&a=%31&b=3")
    assert query != QueryParams(b"a=1&b=3&b=2")
    assert query == {"a": "1", "b": ["2", "3"]}
    assert query != {"a": ["1"], "b": ["2", "3"]}
    assert query != "a=1&b=2&b=3"


def test_is_no_mapping() -> None:
    query: Any = QueryParams(b"a=1")
    with pytest.raises(TypeError):
        query["a"]
    with pytest.raises(TypeError):
        iter(query)
    with pytest.raises(TypeError):
        hash(query)
