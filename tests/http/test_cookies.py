"""Cookies: the bytes of `http.cookies`, without what can be smuggled through it."""

from __future__ import annotations

import math
import string
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from http.cookies import CookieError, SimpleCookie
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stario_trio.http.cookies import RESERVED, delete_cookie, parse_cookies, set_cookie

names = st.text("!#$%&'*+-.^_`|~:" + string.digits + string.ascii_letters, min_size=1, max_size=10).filter(
    lambda name: name.lower() not in RESERVED
)
values = st.text(st.characters(max_codepoint=255).filter(lambda c: not (c < " " or c == "\x7f")))
anything = st.text(st.characters(max_codepoint=300))

# Parsing


@pytest.mark.parametrize(
    ("header", "cookies"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        ("a=1; b=2", {"a": "1", "b": "2"}),
        (" a = 1 ;; b=2; ", {"a": "1", "b": "2"}),
        ("a=1; a=2", {"a": "2"}),
        ("a=b=c", {"a": "b=c"}),
        ("flag", {"": "flag"}),
        ("=x", {"": "x"}),
        ("a=", {"a": ""}),
        ("a=%20+", {"a": "%20+"}),
        (r'a="q\"uo\073\\"', {"a": 'q"uo;\\'}),
        ('a="', {"a": '"'}),
        ('a=""', {"a": ""}),
        ('a="x', {"a": '"x'}),
        (r'a="\400\3"', {"a": "4003"}),
    ],
)
def test_parse(header: str, cookies: dict[str, str]) -> None:
    assert parse_cookies([header]) == cookies
    assert parse_cookies([header.encode()]) == cookies


def test_parse_reads_every_header() -> None:
    assert parse_cookies(["a=1; b=2", b"b=3; c=\xe9"]) == {"a": "1", "b": "3", "c": "é"}
    assert parse_cookies([]) == {}


@given(st.lists(anything))
def test_parse_never_fails(headers: list[str]) -> None:
    for name in parse_cookies(headers):
        assert ";" not in name
        assert name == name.strip()


def test_parse_takes_linear_time() -> None:
    # Old versions of http.cookies are quadratic here: a minute for this one (CVE-2024-7592).
    assert parse_cookies(['a="' + "\\" * 1_000_000 + '"']) == {"a": "\\" * 500_000}


@given(names, values)
def test_what_is_set_comes_back(name: str, value: str) -> None:
    pair, *_ = set_cookie(name, value).split(b";")
    assert parse_cookies([pair]) == {name: value}


# Setting: exact bytes


def test_the_plain_cookie() -> None:
    assert set_cookie("a", "b") == b"a=b; Path=/; SameSite=lax"


def test_all_attributes_in_their_order() -> None:
    cookie = set_cookie(
        "s",
        "tok en;é",
        max_age=60,
        expires=1_800_000_000,
        path="/p",
        domain="e.com",
        secure=True,
        httponly=True,
        samesite="strict",
    )
    assert cookie == (
        rb's="tok en\073\351"; Domain=e.com; expires=Fri, 15 Jan 2027 08:00:00 GMT; HttpOnly; Max-Age=60; '
        rb"Path=/p; SameSite=strict; Secure"
    )


def test_no_attributes() -> None:
    assert set_cookie("a", "", path="", samesite=None) == b'a=""'


def test_delete() -> None:
    gone = b'z=""; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/; SameSite=lax'
    assert delete_cookie("z") == gone
    assert delete_cookie("z", path="/p", domain="e.com") == gone.replace(b"Path=/", b"Path=/p").replace(
        b'z=""; ', b'z=""; Domain=e.com; '
    )


@given(names, values)
def test_values_are_quoted_as_by_the_standard_library(name: str, value: str) -> None:
    cookie: SimpleCookie = SimpleCookie()
    cookie[name] = value
    assert set_cookie(name, value, path="", samesite=None).decode("latin-1") == cookie[name].OutputString()


# Setting: times


@pytest.mark.upstream_bug(39)
def test_expires_takes_any_aware_datetime() -> None:
    noon = datetime(2027, 1, 15, 12, tzinfo=timezone(timedelta(hours=4)))
    expected = b"a=b; expires=Fri, 15 Jan 2027 08:00:00 GMT; Path=/; SameSite=lax"
    for expires in (noon, noon.astimezone(UTC), 1_800_000_000, "Fri, 15 Jan 2027 08:00:00 GMT"):
        assert set_cookie("a", "b", expires=expires) == expected


def test_expires_needs_a_time_zone() -> None:
    naive = datetime(2027, 1, 15)
    with pytest.raises(ValueError, match=r"no time zone.*datetime\.now\(UTC\)"):
        set_cookie("a", "b", expires=naive)


@pytest.mark.parametrize("never", [10**12, 10**30, -(10**12), [1], timedelta(1)])
def test_expires_needs_a_possible_time(never: Any) -> None:
    with pytest.raises(ValueError, match="no Unix time"):
        set_cookie("a", "b", expires=never)


def test_max_age_is_whole_seconds() -> None:
    assert set_cookie("a", "b", max_age=-1, path="", samesite=None) == b"a=b; Max-Age=-1"
    assert set_cookie("a", "b", max_age="60", path="", samesite=None) == b"a=b; Max-Age=60"


@pytest.mark.parametrize("wrong", ["1; HttpOnly", "soon", "", 1.5, math.inf, math.nan, timedelta(1), [1]])
def test_another_max_age_is_told_how_to_become_one(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"no whole number of seconds.*int\(delta\.total_seconds\(\)\)"):
        set_cookie("a", "b", max_age=wrong)


@pytest.mark.parametrize(
    ("value", "sent"),
    [(5, "5"), (True, "True"), (1.5, "1.5"), (Decimal("2.50"), "2.50"), (UUID(int=0), str(UUID(int=0)))],
)
def test_a_value_that_is_no_text_is_sent_as_its_text(value: Any, sent: str) -> None:
    assert set_cookie("a", value, path="", samesite=None) == f"a={sent}".encode()


@pytest.mark.parametrize("value", [None, b"x", bytearray(), [1], (1,), {"a": 1}, {1}])
def test_a_value_that_has_no_text_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=f"not {type(value).__name__}.*Decode bytes.*json.dumps.*delete_cookie"):
        set_cookie("a", value)


@pytest.mark.parametrize("what", ["name", "path", "domain"])
def test_the_rest_of_a_cookie_is_text(what: str) -> None:
    arguments: dict[str, Any] = {"name": "a", "value": "b", what: 5}
    with pytest.raises(TypeError, match=f"A cookie's {what} is str, not int"):
        set_cookie(**arguments)


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/é", "/%C3%A9"),
        ("/sp ace", "/sp%20ace"),
        ("/done%20already", "/done%20already"),
        ('/<"?#{`>', "/%3C%22%3F%23%7B%60%3E"),
        ("/a!$&'()*+,-.:=@[]^_|~", "/a!$&'()*+,-.:=@[]^_|~"),
        (None, ""),
    ],
)
def test_a_path_is_that_of_a_url(path: Any, sent: str) -> None:
    """Browsers compare it with the path they ask for, which they have encoded themselves."""
    cookie = set_cookie("a", "b", path=path, samesite=None).decode()
    assert cookie == (f"a=b; Path={sent}" if sent else "a=b")
    assert (
        delete_cookie("a", path=path)
        .decode()
        .endswith(f"Path={sent}; SameSite=lax" if sent else "Max-Age=0; SameSite=lax")
    )


# Setting: refusals


@pytest.mark.parametrize("name", ["", "a b", "é", "a=b", "a;b", "a\n", '"a"', "a,b"])
def test_a_name_is_a_token(name: str) -> None:
    with pytest.raises(CookieError, match="Illegal cookie name"):
        set_cookie(name, "v")


@pytest.mark.parametrize("name", ["path", "Expires", "SECURE", "max-age", "partitioned"])
def test_a_name_is_not_that_of_an_attribute(name: str) -> None:
    with pytest.raises(CookieError, match="name of a cookie attribute"):
        set_cookie(name, "v")


@pytest.mark.parametrize("code", [*range(32), 127])
def test_control_characters_are_refused_everywhere(code: int) -> None:
    bad = f"good{chr(code)}"
    with pytest.raises(CookieError, match=r"index 4 of the cookie's value"):
        set_cookie("a", bad)
    with pytest.raises(CookieError, match="path"):
        set_cookie("a", "b", path=bad)
    with pytest.raises(CookieError, match="domain"):
        set_cookie("a", "b", domain=bad)
    with pytest.raises(CookieError, match="expires"):
        set_cookie("a", "b", expires=bad)
    with pytest.raises(CookieError, match="path"):
        delete_cookie("a", path=bad)


@pytest.mark.upstream_bug(40)
@pytest.mark.parametrize("bad", ["a; HttpOnly", ";", "münchen.de"])
def test_an_attribute_cannot_bring_another_one(bad: str) -> None:
    if ";" in bad:
        with pytest.raises(ValueError, match=r"Cookie path .*percent-encode"):
            set_cookie("a", "b", path=bad)
    with pytest.raises(ValueError, match=r"Cookie domain .*xn--"):
        set_cookie("a", "b", domain=bad)
    with pytest.raises(ValueError, match="Cookie expires"):
        set_cookie("a", "b", expires=bad)


def test_a_value_outside_latin_1_comes_with_advice() -> None:
    with pytest.raises(UnicodeEncodeError) as caught:
        set_cookie("a", "€")
    assert "percent-encode" in caught.value.__notes__[0]


@pytest.mark.upstream_bug(40)
def test_same_site_is_known() -> None:
    for unknown in ("bogus", 5, True):
        bogus: Any = unknown
        with pytest.raises(ValueError, match=f"samesite {unknown!r}. Use 'lax'"):
            set_cookie("a", "b", samesite=bogus)
    upper: Any = "Lax"
    assert set_cookie("a", "b", samesite=upper) == b"a=b; Path=/; SameSite=Lax"


@pytest.mark.upstream_bug(40)
def test_same_site_none_needs_secure() -> None:
    with pytest.raises(ValueError, match="secure=True"):
        set_cookie("a", "b", samesite="none")
    assert set_cookie("a", "b", samesite="none", secure=True) == b"a=b; Path=/; SameSite=none; Secure"


@given(anything, anything, anything, anything)
def test_nothing_adds_an_attribute_or_a_line(name: str, value: str, path: str, domain: str) -> None:
    try:
        cookie = set_cookie(name, value, path=path, domain=domain).decode("ascii")
    except (CookieError, ValueError):
        return
    assert cookie.isprintable()
    attributes = [part.partition("=")[0] for part in cookie.split("; ")[1:]]
    assert attributes == [*(["Domain"] * bool(domain)), *(["Path"] * bool(path)), "SameSite"]
