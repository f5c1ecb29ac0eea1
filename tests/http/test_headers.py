"""Header fields: names are tokens, values hold no line ends, repeats keep every value."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from stario_trio.http.headers import (
    ALL_HEADERS,
    ALL_VALUES,
    HEADER_LOOKUP,
    HEADER_RE,
    HEADER_VALUE_RE,
    REQUEST_HEADERS,
    RESPONSE_HEADERS,
    VALUE_LOOKUP,
    Headers,
    encode_value,
)

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN_CHARACTERS = "!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters
names = st.text(TOKEN_CHARACTERS, min_size=1, max_size=20)
values = st.text(st.characters(max_codepoint=255).filter(lambda c: c == "\t" or not (c < " " or c == "\x7f")))
anything = st.text(st.characters(max_codepoint=255), max_size=30)


def fields_on(wire: bytes) -> list[tuple[bytes, bytes]]:
    """Read field lines the way a lenient peer does: any of CR, LF and CRLF ends one."""
    lines = wire.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    assert lines.pop() == b""
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]


# Round trips


@given(st.lists(st.tuples(names, values)))
def test_what_was_added_comes_back(fields: list[tuple[str, str]]) -> None:
    headers = Headers()
    for name, value in fields:
        assert headers.add(name, value) is headers
    for name, _ in fields:
        expected = [v for n, v in fields if n.lower() == name.lower()]
        for spelling in (name, name.upper(), name.lower().encode()):
            assert spelling in headers
            assert headers.get(spelling) == expected[0]
            assert headers.getlist(spelling) == expected
        assert headers.rget(name.lower().encode()) == expected[0].encode("latin-1")
    assert len(headers) == len({n.lower() for n, _ in fields})
    assert fields_on(headers.field_lines()) == headers.items()
    assert sorted(headers.items()) == sorted((n.lower().encode(), encode_value(v)) for n, v in fields)


@given(st.lists(st.tuples(names.map(lambda n: n.lower().encode()), values.map(lambda v: v.encode("latin-1")))))
def test_pairs_of_a_parser_are_held_as_if_added(pairs: list[tuple[bytes, bytes]]) -> None:
    one_by_one = Headers()
    for name, value in pairs:
        one_by_one.add(name, value)
    assert Headers.from_pairs(pairs).items() == one_by_one.items()
    assert Headers.from_pairs(iter(pairs)).items() == one_by_one.items()


@pytest.mark.upstream_bug(31)
def test_a_repeated_value_is_kept_even_if_it_is_the_same_object() -> None:
    accept = b"*/*"
    assert Headers().radd(b"accept", accept).radd(b"accept", accept).getlist("accept") == ["*/*", "*/*"]
    assert Headers.from_pairs([(b"x-a", b"1"), (b"x-a", b"1")]).getlist("x-a") == ["1", "1"]


# One name, several values


def test_set_replaces_all_values_and_keeps_the_place() -> None:
    headers = Headers().add("A", "1").add("A", "2").add("B", "3")
    assert headers.set("a", "4") is headers
    assert headers.items() == [(b"a", b"4"), (b"b", b"3")]


def test_remove_and_clear() -> None:
    headers = Headers().add("A", "1").add("A", "2").add("B", "3")
    assert headers.remove("a").remove(b"Absent") is headers
    assert headers.items() == [(b"b", b"3")]
    headers.clear()
    assert len(headers) == 0
    assert not headers


def test_an_absent_name() -> None:
    headers = Headers()
    assert headers.get("x") is None
    assert headers.get("x", "default") == "default"
    assert headers.rget(b"x") is None
    assert headers.rget(b"x", b"default") == b"default"
    assert headers.getlist("x") == []
    assert headers.rgetlist(b"x") == []
    assert "x" not in headers


def test_lists_are_copies() -> None:
    headers = Headers().add("a", "1").add("a", "2")
    headers.getlist("a").clear()
    headers.rgetlist(b"a").clear()
    headers.rgetlist(b"absent").append(b"3")
    assert headers.items() == [(b"a", b"1"), (b"a", b"2")]


def test_setdefault_gives_the_first_value() -> None:
    headers = Headers()
    assert headers.setdefault("A", "é") == "é"
    assert headers.setdefault(b"a", "2") == "é"
    assert headers.add("a", "3").setdefault("a", "4") == "é"
    with pytest.raises(ValueError, match="Invalid header value"):
        headers.setdefault("a", "\n")


def test_update_is_all_or_nothing() -> None:
    headers = Headers().set("a", "1")
    with pytest.raises(ValueError, match="Invalid header value"):
        headers.update({"a": "2", "b": "\r"})
    assert headers.items() == [(b"a", b"1")]
    assert headers.update({b"A": "2"}).update({"c": b"3"}).update(None) is headers
    assert headers.items() == [(b"a", b"2"), (b"c", b"3")]


def test_the_constructor_uses_the_dict_as_it_is() -> None:
    data: dict[bytes, bytes | list[bytes]] = {b"a": [b"1", b"2"]}
    headers = Headers(data).rset(b"b", b"3")
    assert headers.getlist("a") == ["1", "2"]
    assert data[b"b"] == b"3"
    assert repr(headers) == "Headers({b'a': [b'1', b'2'], b'b': b'3'})"


# RFC 9110 section 5.1 and 5.5: what a field may be


@pytest.mark.upstream_bug(30)
@pytest.mark.parametrize("bad", ["", "a b", "a:", "a\r\n", "\0", "(a)", "a\t", "ü", "a,b", '"a"', b"", b"a\n", b"\xff"])
def test_a_name_is_a_token(bad: str | bytes) -> None:
    headers = Headers()
    for use in (
        lambda: headers.add(bad, "v"),
        lambda: headers.set(bad, "v"),
        lambda: headers.update({bad: "v"}),
        lambda: headers.setdefault(bad, "v"),
        lambda: headers.get(bad),
        lambda: headers.getlist(bad),
        lambda: headers.remove(bad),
        lambda: bad in headers,
    ):
        with pytest.raises(ValueError, match=r"Invalid header name.*RFC 9110"):
            use()
    assert len(headers) == 0


def test_a_name_is_text() -> None:
    number: Any = 5
    headers = Headers()
    for use in (lambda: headers.set(number, "v"), lambda: headers.get(number), lambda: number in headers):
        with pytest.raises(TypeError, match="A header name is str or bytes, not int: 5"):
            use()


@pytest.mark.parametrize("code", [*range(9), *range(10, 32), 127])
def test_a_value_has_no_control_character(code: int) -> None:
    bad = f"good{chr(code)}"
    for value in (bad, bad.encode()):
        with pytest.raises(ValueError, match=r"Invalid header value: .* at index 4 of .*Remove it"):
            encode_value(value)


def test_a_value_may_have_tabs_spaces_and_latin_1() -> None:
    assert encode_value(" a\tb ") == b" a\tb "
    assert encode_value("\xa0é\x85") == b"\xa0\xe9\x85"
    assert encode_value(b"\xe9") == b"\xe9"


def test_a_value_outside_latin_1_comes_with_advice() -> None:
    with pytest.raises(UnicodeEncodeError) as caught:
        encode_value("€")
    assert "percent-encode" in caught.value.__notes__[0]


def test_a_value_is_text() -> None:
    number: Any = 1
    with pytest.raises(TypeError) as caught:
        encode_value(number)
    assert "str(number)" in caught.value.__notes__[0]


@given(anything, anything)
def test_no_field_can_add_a_line(name: str, value: str) -> None:
    headers = Headers().set("before", "1")
    try:
        headers.add(name, value)
        added = [(name.lower().encode(), value.encode("latin-1"))]
    except ValueError:
        added = []
    headers.add("after", "2")
    assert fields_on(headers.field_lines()) == [(b"before", b"1"), *added, (b"after", b"2")]


@pytest.mark.parametrize("bad", [b"\r", b"\n", b"\r\n", b"\0"])
def test_not_even_a_raw_field_can_add_a_line(bad: bytes) -> None:
    for headers in (
        Headers().rset(b"a", b"1" + bad),
        Headers().rset(b"a" + bad, b"1"),
        Headers().radd(b"a", b"1").radd(b"a", bad),
        Headers({b"a": [bad]}),
    ):
        with pytest.raises(ValueError, match="CR, LF or NUL"):
            headers.field_lines()


def test_field_lines_are_exactly_these_bytes() -> None:
    headers = Headers().add("Set-Cookie", "a=1").add("Vary", "cookie").add("Set-Cookie", "b=2")
    assert headers.field_lines() == b"set-cookie: a=1\r\nset-cookie: b=2\r\nvary: cookie\r\n"
    assert Headers().field_lines() == b""


# The tables of names and values


def test_the_lookup_takes_str_and_bytes() -> None:
    assert HEADER_LOOKUP["Content-Type"] == b"content-type"
    assert HEADER_LOOKUP[b"CONTENT-TYPE"] == b"content-type"
    assert HEADER_LOOKUP[b"x-mine"] == HEADER_LOOKUP["X-Mine"] == b"x-mine"
    assert VALUE_LOOKUP["gzip"] == VALUE_LOOKUP[b"gzip"] == b"gzip"
    assert "Content-Type" in HEADER_LOOKUP


def test_every_name_of_the_tables_is_one_and_every_value_too() -> None:
    for name in ALL_HEADERS:
        assert HEADER_LOOKUP[name] == HEADER_LOOKUP[name.lower()] == name.lower().encode()
        assert HEADER_LOOKUP[name.encode()] == name.lower().encode()
    for value in ALL_VALUES:
        assert VALUE_LOOKUP[value] == encode_value(value) == value.encode()
    assert set(ALL_HEADERS) == {*REQUEST_HEADERS, *RESPONSE_HEADERS}


@pytest.mark.parametrize("value", ["x", b"x"])
def test_a_value_that_is_not_common_is_a_key_error(value: str | bytes) -> None:
    with pytest.raises(KeyError, match="'x'"):
        VALUE_LOOKUP[value]


def test_nothing_makes_the_tables_grow() -> None:
    """They are shared by all threads, and a name may come from a client."""
    before = len(HEADER_LOOKUP), len(VALUE_LOOKUP)
    for i in range(100):
        assert Headers().set(f"X-{i}", f"v{i}").rget(b"x-%d" % i) == b"v%d" % i
        assert f"x-{i}".encode() not in Headers()
    assert (len(HEADER_LOOKUP), len(VALUE_LOOKUP)) == before


@given(st.binary(max_size=10))
def test_the_patterns_say_what_is_refused(data: bytes) -> None:
    text = data.decode("latin-1")
    if HEADER_RE.search(data) or not data:
        with pytest.raises(ValueError, match="Invalid header name"):
            HEADER_LOOKUP[text]
    else:
        assert HEADER_LOOKUP[text] == data.lower()
    if HEADER_VALUE_RE.search(data):
        with pytest.raises(ValueError, match="Invalid header value"):
            encode_value(data)
    else:
        assert encode_value(text) == encode_value(data) == data


# When the head is sent


def test_fields_that_are_sent_can_be_read_and_not_changed() -> None:
    headers = Headers().set("a", "1").add("b", "2")
    headers.seal()
    changes: list[Callable[[], object]] = [
        lambda: headers.add("b", "3"),
        lambda: headers.set("a", "3"),
        lambda: headers.update({"a": "3"}),
        lambda: headers.setdefault("c", "3"),
        lambda: headers.radd(b"c", b"3"),
        lambda: headers.rset(b"a", b"3"),
        lambda: headers.remove("a"),
        headers.clear,
    ]
    for change in changes:
        with pytest.raises(RuntimeError, match=r"head of the response is sent.*before the first"):
            change()
    assert headers.items() == [(b"a", b"1"), (b"b", b"2")]
    assert headers.get("a") == "1"
    assert "b" in headers


# A model: a list of pairs


class ListOfPairs:
    """What `Headers` should do, in the slowest and plainest way."""

    def __init__(self) -> None:
        self.pairs: list[tuple[str, str]] = []

    def add(self, name: str, value: str) -> None:
        self.pairs.append((name.lower(), value))

    def set(self, name: str, value: str) -> None:
        at = next((i for i, (held, _) in enumerate(self.pairs) if held == name.lower()), len(self.pairs))
        self.pairs[at:] = [(name.lower(), value), *(p for p in self.pairs[at:] if p[0] != name.lower())]

    def setdefault(self, name: str, value: str) -> str:
        if not self.getlist(name):
            self.add(name, value)
        return self.getlist(name)[0]

    def remove(self, name: str) -> None:
        self.pairs = [pair for pair in self.pairs if pair[0] != name.lower()]

    def getlist(self, name: str) -> list[str]:
        return [value for held, value in self.pairs if held == name.lower()]

    def grouped(self) -> list[tuple[bytes, bytes]]:
        order = dict.fromkeys(name for name, _ in self.pairs)
        return [(name.encode(), value.encode("latin-1")) for name in order for value in self.getlist(name)]


few_names = st.sampled_from(["A", "a", "Accept", "ACCEPT", "x-b"])


class HeadersLikeAList(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.model = ListOfPairs()
        self.headers = Headers()

    @rule(name=few_names, value=values, as_bytes=st.booleans())
    def add(self, name: str, value: str, as_bytes: bool) -> None:
        self.headers.add(name.encode() if as_bytes else name, value.encode("latin-1") if as_bytes else value)
        self.model.add(name, value)

    @rule(name=few_names, value=values)
    def set(self, name: str, value: str) -> None:
        self.headers.set(name, value)
        self.model.set(name, value)

    @rule(fields=st.dictionaries(few_names, values))
    def update(self, fields: dict[str, str]) -> None:
        self.headers.update(fields)
        for name, value in fields.items():
            self.model.set(name, value)

    @rule(name=few_names, value=values)
    def setdefault(self, name: str, value: str) -> None:
        assert self.headers.setdefault(name, value) == self.model.setdefault(name, value)

    @rule(name=few_names)
    def remove(self, name: str) -> None:
        self.headers.remove(name)
        self.model.remove(name)

    @rule()
    def clear(self) -> None:
        self.headers.clear()
        self.model.pairs.clear()

    @invariant()
    def they_say_the_same(self) -> None:
        assert self.headers.items() == self.model.grouped()
        assert fields_on(self.headers.field_lines()) == self.model.grouped()
        for name in ("A", "accept", "X-B"):
            held = self.model.getlist(name)
            assert self.headers.getlist(name) == held
            assert self.headers.get(name) == (held[0] if held else None)
            assert (name in self.headers) == bool(held)
        assert len(self.headers) == len({name for name, _ in self.model.pairs})


TestHeadersLikeAList = HeadersLikeAList.TestCase
