"""A recorder's headers are a dict for tests and `Headers` for handlers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from stario_trio.http.headers import Headers
from stario_trio.testing.headers import RecordedHeaders

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.upstream_bug(66)


def headers(*pairs: tuple[str, str]) -> tuple[RecordedHeaders, Headers]:
    fields = Headers()
    recorded = RecordedHeaders(fields)
    for name, value in pairs:
        recorded.add(name, value)
    return recorded, fields


def test_it_has_every_method_of_headers() -> None:
    public = {name for name in dir(Headers) if not name.startswith("_")}
    assert public - set(dir(RecordedHeaders)) == {"from_pairs"}


def test_it_is_a_dict_of_the_first_values_with_lower_case_names() -> None:
    recorded, _fields = headers(("X-A", "1"), ("x-a", "2"), ("X-B", "3"))
    assert isinstance(recorded, dict)
    assert recorded == {"x-a": "1", "x-b": "3"}
    assert dict(recorded) == {"x-a": "1", "x-b": "3"}
    assert (list(recorded), len(recorded)) == (["x-a", "x-b"], 2)
    assert (recorded["X-A"], recorded["x-a"]) == ("1", "1")
    names: list[Any] = ["X-B", b"x-b", "x-c", 5]
    assert [name in recorded for name in names] == [True, True, False, False]
    assert (recorded.get("x-b"), recorded.get("x-c"), recorded.get("x-c", "none")) == ("3", None, "none")
    with pytest.raises(KeyError):
        recorded["x-c"]


def test_its_items_are_those_of_a_dict() -> None:
    recorded, _fields = headers(("X-A", "1"), ("x-a", "2"), ("X-B", "3"))
    assert list(recorded.items()) == list(zip(recorded.keys(), recorded.values(), strict=True))
    assert {name: value.upper() for name, value in recorded.items()} == {"x-a": "1", "x-b": "3"}
    assert json.loads(json.dumps(recorded)) == {"x-a": "1", "x-b": "3"}
    recorded.show([("x-c", "5")])
    assert list(recorded.items()) == [("x-c", "5")]
    assert json.dumps(recorded) == '{"x-c": "5"}'


def test_it_reads_as_headers_do() -> None:
    recorded, fields = headers(("X-A", "1"), ("x-a", "2"))
    assert recorded.getlist("X-A") == fields.getlist("x-a") == ["1", "2"]
    assert recorded.rget(b"x-a") == b"1"
    assert recorded.rget(b"x-c", b"none") == b"none"
    assert recorded.rgetlist(b"x-a") == [b"1", b"2"]
    assert recorded.field_lines() == fields.field_lines()


def test_every_change_reaches_the_writers_fields() -> None:
    recorded, fields = headers()
    changes: list[Callable[[], object]] = [
        lambda: recorded.set("A", "1"),
        lambda: recorded.add("a", "2"),
        lambda: recorded.update({"B": "3"}, c="4"),
        lambda: recorded.setdefault("d", "5"),
        lambda: recorded.setdefault("d", "6"),
        lambda: recorded.radd(b"e", b"7"),
        lambda: recorded.rset(b"f", b"8"),
        lambda: recorded.__setitem__("G", "9"),
        lambda: recorded.__ior__({"H": "0"}),
    ]
    for change in changes:
        change()
        assert recorded == {name: fields.get(name) for name in recorded}
        assert len(recorded) == len(fields)
    assert recorded.set("A", "1").add("a", "2").radd(b"e", b"7").rset(b"e", b"7").update({}) is recorded
    assert recorded.setdefault("d", "6") == "5"
    pairs = list(zip("aabcdefgh", "123457890", strict=True))
    assert fields.items() == [(name.encode(), value.encode()) for name, value in pairs]
    assert recorded == dict(reversed(pairs))

    assert recorded.pop("H") == "0"
    assert recorded.pop("h", "none") == "none"
    with pytest.raises(KeyError):
        recorded.pop("h")
    assert recorded.popitem() == ("g", "9")
    assert recorded.remove("F").remove("f") is recorded
    del recorded["E"]
    with pytest.raises(KeyError):
        del recorded["e"]
    recorded.update(None)
    assert list(recorded) == ["a", "b", "c", "d"]
    assert [name for name, _ in fields.items()] == [b"a", b"a", b"b", b"c", b"d"]
    recorded.clear()
    assert (recorded, len(fields)) == ({}, 0)


@pytest.mark.parametrize("method", ["set", "add", "setdefault", "__setitem__"])
def test_what_cannot_be_sent_is_refused(method: str) -> None:
    recorded, _fields = headers()
    change: Any = getattr(recorded, method)
    with pytest.raises(ValueError, match="Invalid header name"):
        change("a b", "1")
    with pytest.raises(ValueError, match="Invalid header value"):
        change("a", "1\n")
    assert recorded == {}


def test_after_the_head_it_shows_what_was_sent() -> None:
    recorded, fields = headers(("x-a", "1"), ("Content-Length", "3"))
    recorded.show([("date", "now"), ("x-a", "1"), ("content-length", "3"), ("x-b", "2")])
    recorded.seal()
    assert recorded == {"x-a": "1", "content-length": "3", "x-b": "2"}
    assert recorded.getlist("x-b") == ["2"]
    with pytest.raises(RuntimeError, match="cannot be changed any more"):
        recorded.set("x-c", "3")
    assert "x-c" not in fields
