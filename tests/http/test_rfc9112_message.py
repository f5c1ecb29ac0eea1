"""RFC 9112 sections 2 to 5: request lines, targets and fields, as a server reads them."""

from __future__ import annotations

import pytest

from stario_trio.server.config import Limits
from stario_trio.server.wire import Head, RequestReader, WireError


def read(data: bytes, limits: Limits | None = None) -> Head:
    """Read one head."""
    reader = RequestReader(limits or Limits())
    reader.feed(data)
    head = reader.next_head()
    assert head is not None
    return head


def refused(data: bytes, limits: Limits | None = None) -> int:
    """Read one head that must be refused; give the status."""
    with pytest.raises(WireError) as info:
        read(data, limits)
    assert not info.value.disconnected
    return info.value.status


def get(target: bytes, method: bytes = b"GET") -> bytes:
    return b"%s %s HTTP/1.1\r\nHost: example.org\r\n\r\n" % (method, target)


def with_field(line: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: example.org\r\n%s\r\n\r\n" % line


def with_host(host: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % host


# 2.1 Message Format


def test_2_1_a_request_is_a_request_line_fields_and_a_blank_line() -> None:
    head = read(b"GET /a/b?c=d HTTP/1.1\r\nHost: example.org:8000\r\nX-Twice: 1\r\nx-TWICE:2\r\n\r\n")
    assert (head.method, head.path, head.query, head.version) == ("GET", "/a/b", b"c=d", "1.1")
    assert head.headers.items() == [(b"host", b"example.org:8000"), (b"x-twice", b"1"), (b"x-twice", b"2")]
    assert (head.keep_alive, head.content_length, head.expects_continue) == (True, 0, False)


# 2.2 Message Parsing


def test_2_2_one_empty_line_before_the_request_line_is_skipped() -> None:
    assert read(b"\r\n" + get(b"/")).path == "/"


def test_2_2_a_second_empty_line_is_refused() -> None:
    assert refused(b"\r\n\r\n" + get(b"/")) == 400
    reader = RequestReader(Limits())
    reader.feed(b"\r\n")
    assert reader.next_head() is None
    reader.feed(b"\r\n")
    with pytest.raises(WireError):
        reader.next_head()


@pytest.mark.parametrize("start", [b"\n", b"\rX", b"\r\r\n", b" ", b"\t", b"\r\n "])
def test_2_2_anything_else_before_the_request_line_is_refused(start: bytes) -> None:
    assert refused(start + get(b"/")) == 400


def test_2_2_a_tls_handshake_is_refused_at_its_first_byte() -> None:
    assert refused(b"\x16") == 400


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\nY: 2\r\n\r\n",
    ],
)
def test_2_2_a_bare_lf_is_no_line_end(data: bytes) -> None:
    assert refused(data) == 400


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\r\n\r\n",
        b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
        b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\rY: 2\r\n\r\n",
    ],
)
def test_2_2_a_bare_cr_is_refused(data: bytes) -> None:
    assert refused(data) == 400


@pytest.mark.parametrize("space", [b" ", b"\t"])
def test_2_2_whitespace_between_request_line_and_first_field_is_refused(space: bytes) -> None:
    assert refused(b"GET / HTTP/1.1\r\n" + space + b"Host: a\r\n\r\n") == 400


def test_2_2_a_response_is_no_request() -> None:
    assert refused(b"HTTP/1.1 200 OK\r\nHost: a\r\n\r\n") == 400


# 2.3 HTTP Version


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_2_3_versions_1_0_and_1_1_are_read(version: str) -> None:
    assert read(f"GET / HTTP/{version}\r\nHost: a\r\n\r\n".encode()).version == version


@pytest.mark.parametrize("version", [b"0.9", b"1.2", b"2.0", b"3.0", b"9.9"])
def test_2_3_other_versions_are_505(version: bytes) -> None:
    assert refused(b"GET / HTTP/%s\r\nHost: a\r\n\r\n" % version) == 505


def test_2_3_the_http2_preface_is_505() -> None:
    assert refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") == 505


@pytest.mark.parametrize(
    "version", [b"HTTP/1", b"HTTP/1.", b"HTTP/1.10", b"HTTP/11", b"http/1.1", b"HTTP/a.b", b"HTTPS/1.1", b"1.1"]
)
def test_2_3_malformed_versions_are_400(version: bytes) -> None:
    assert refused(b"GET / %s\r\nHost: a\r\n\r\n" % version) == 400


def test_2_3_http_0_9_has_no_version_and_is_400() -> None:
    assert refused(b"GET /\r\n\r\n") == 400


# 3 Request Line


@pytest.mark.parametrize(
    "line",
    [
        b"GET  / HTTP/1.1",
        b"GET /  HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"GET\t/ HTTP/1.1",
        b"GET / a HTTP/1.1",
        b"GET HTTP/1.1",
        b"GET",
        b"/ HTTP/1.1",
    ],
)
def test_3_a_request_line_is_three_parts_with_single_spaces(line: bytes) -> None:
    assert refused(line + b"\r\nHost: a\r\n\r\n") == 400


@pytest.mark.parametrize("byte", [b"\x00", b"\x01", b"\t", b"\x0b", b"\x7f", b"\x80", b"\xff", "é".encode()])
def test_3_a_target_is_visible_ascii(byte: bytes) -> None:
    assert refused(get(b"/a" + byte + b"b")) == 400


def test_3_a_target_at_its_limit_is_read_and_one_more_byte_is_414() -> None:
    limits = Limits(target_bytes=100)
    assert len(read(get(b"/" + b"a" * 99), limits).path) == 100
    assert len(read(get(b"/?" + b"a" * 98, b"M" * 32), limits).query) == 98
    assert refused(get(b"/" + b"a" * 100), limits) == 414
    assert refused(get(b"/?" + b"a" * 99), limits) == 414
    assert refused(get(b"/" + b"a" * 100, b"M" * 32), limits) == 414


def test_3_a_line_is_414_before_it_is_complete() -> None:
    limits = Limits(target_bytes=100)
    reader = RequestReader(limits)
    reader.feed(b"M" * 32 + b" /" + b"a" * 99 + b" HTTP/1.1\r")
    assert reader.next_head() is None  # the target is at its limit
    with pytest.raises(WireError) as info:
        read(b"M" * 32 + b" /" + b"a" * 110, limits)
    assert info.value.status == 414


def test_3_a_target_that_fills_the_whole_head_is_414() -> None:
    assert refused(b"GET /" + b"a" * 1100, Limits(header_bytes=1024)) == 414


# 3.1 Method


@pytest.mark.parametrize("method", ["GET", "HEAD", "PATCH", "get", "Get", "PURGE", "M-SEARCH", "a!#$%&'*+.^_`|~9"])
def test_3_1_methods_are_case_sensitive_tokens_and_passed_on(method: str) -> None:
    assert read(get(b"/", method.encode())).method == method


@pytest.mark.parametrize("method", [b"G(T", b"G\x00T", b"G:T", b"G\xe9T", b'"GET"'])
def test_3_1_a_method_that_is_no_token_is_400(method: bytes) -> None:
    assert refused(get(b"/", method)) == 400


def test_3_a_method_longer_than_any_is_501() -> None:
    assert read(get(b"/", b"M" * 32)).method == "M" * 32
    assert refused(get(b"/", b"M" * 33)) == 501


# 3.2 Request Target


def test_3_2_a_request_without_host_is_400() -> None:
    assert refused(b"GET / HTTP/1.1\r\n\r\n") == 400


def test_3_2_http_1_0_needs_no_host() -> None:
    assert read(b"GET / HTTP/1.0\r\n\r\n").headers.rget(b"host") is None


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_3_2_two_hosts_are_400(version: bytes) -> None:
    assert refused(b"GET / HTTP/%s\r\nHost: a\r\nHost: a\r\n\r\n" % version) == 400


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"example.org",
        b"EXAMPLE.org:8000",
        b"localhost:",
        b"127.0.0.1:65535",
        b"[::1]",
        b"[2001:db8::1]:8080",
        b"[::ffff:127.0.0.1]",
        b"under_score.example",
        b"caf%C3%A9.example",
    ],
)
def test_3_2_valid_hosts(host: bytes) -> None:
    assert read(with_host(host)).headers.rget(b"host") == host


@pytest.mark.parametrize(
    "host",
    [
        b"a b",
        b"a,b",
        b"a, a",
        b"user@a",
        b"user:pass@a",
        b"a/b",
        b"a?b",
        b"a#b",
        b"a\\b",
        b"http://a",
        b"a:b",
        b"a:1:2",
        b"::1",
        b"[::1",
        b"[::g]",
        b"[]",
        b"[::1]a",
        b"a:123456",
        b"%zz",
        b"%",
        b"<a>",
        b'"a"',
        b"caf\xc3\xa9",
        b"a" * 50_000 + b"@",
    ],
)
def test_3_2_invalid_hosts_are_400(host: bytes) -> None:
    assert refused(with_host(host)) == 400


# 3.2.1 origin-form


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", b""),
        (b"/where?q=now", "/where", b"q=now"),
        (b"/?", "/", b""),
        (b"/a?b?c=/d", "/a", b"b?c=/d"),
        (b"/a%20b/%C3%A9?x=%20", "/a b/é", b"x=%20"),
        (b"/%2F%3F%23", "//?#", b""),
        (b"/%ff%C3", "/��", b""),
        (b"/%zz%", "/%zz%", b""),
        (b"//other/path", "//other/path", b""),
        (b"/a/../b/./c", "/a/../b/./c", b""),
        (b"/a+b;c", "/a+b;c", b""),
        (b"/a#frag", "/a", b""),
        (b"/a?b#frag?x", "/a", b"b"),
        (b"/http://h/", "/http://h/", b""),
    ],
)
def test_3_2_1_origin_form(target: bytes, path: str, query: bytes) -> None:
    head = read(get(target))
    assert (head.path, head.query) == (path, query)
    assert head.headers.rget(b"host") == b"example.org"


@pytest.mark.parametrize("target", [b"a", b"a/b", b"?a", b"#a", b".", b"example.org", b"example.org:80", b"%2F"])
def test_3_2_1_a_target_in_no_form_is_400(target: bytes) -> None:
    assert refused(get(target)) == 400


# 3.2.2 absolute-form


@pytest.mark.parametrize(
    ("target", "host", "path", "query"),
    [
        (b"http://h/info", b"h", "/info", b""),
        (b"HTTP://H:81/%41?b=c", b"H:81", "/A", b"b=c"),
        (b"https://h/", b"h", "/", b""),
        (b"http://h", b"h", "/", b""),
        (b"http://h?q", b"h", "/", b"q"),
        (b"http://h#f", b"h", "/", b""),
        (b"http://[::1]:8000/x", b"[::1]:8000", "/x", b""),
    ],
)
def test_3_2_2_absolute_form_replaces_host(target: bytes, host: bytes, path: str, query: bytes) -> None:
    head = read(get(target))
    assert (head.path, head.query) == (path, query)
    assert head.headers.rgetlist(b"host") == [host]


def test_3_2_2_absolute_form_gives_http_1_0_a_host() -> None:
    assert read(b"GET http://h/ HTTP/1.0\r\n\r\n").headers.rget(b"host") == b"h"


def test_3_2_2_absolute_form_does_not_excuse_the_host_field() -> None:
    assert refused(b"GET http://h/ HTTP/1.1\r\n\r\n") == 400
    assert refused(b"GET http://h/ HTTP/1.1\r\nHost: a b\r\n\r\n") == 400


@pytest.mark.parametrize(
    "target",
    [b"http://", b"http:///a", b"http://:80/", b"http://u@h/", b"http://a,b/", b"http:/h/", b"ftp://h/", b"http:h"],
)
def test_3_2_2_other_absolute_targets_are_400(target: bytes) -> None:
    assert refused(get(target)) == 400


# 3.2.3 authority-form


@pytest.mark.parametrize("target", [b"example.org:80", b"/", b"http://h/", b"*"])
def test_3_2_3_connect_is_501(target: bytes) -> None:
    assert refused(get(target, b"CONNECT")) == 501


# 3.2.4 asterisk-form


def test_3_2_4_asterisk_form_is_for_options() -> None:
    head = read(get(b"*", b"OPTIONS"))
    assert (head.path, head.query) == ("*", b"")


@pytest.mark.parametrize(
    ("method", "target"), [(b"GET", b"*"), (b"options", b"*"), (b"OPTIONS", b"*?a"), (b"OPTIONS", b"**")]
)
def test_3_2_4_asterisk_form_is_for_nothing_else(method: bytes, target: bytes) -> None:
    assert refused(get(target, method)) == 400


# 5 Field Syntax


@pytest.mark.upstream_bug(21)
def test_5_a_head_at_its_limit_is_read_and_one_more_byte_is_431() -> None:
    limits = Limits(header_bytes=1024)
    filler = 1024 - len(with_field(b"X: "))
    assert read(with_field(b"X: " + b"a" * filler), limits).headers.rget(b"x") == b"a" * filler
    assert refused(with_field(b"X: " + b"a" * (filler + 1)), limits) == 431


@pytest.mark.upstream_bug(21)
def test_5_a_head_is_431_before_it_is_complete() -> None:
    limits = Limits(header_bytes=1024)
    start = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
    reader = RequestReader(limits)
    reader.feed(start.ljust(1023, b"a"))
    assert reader.next_head() is None
    reader.feed(b"a")
    with pytest.raises(WireError) as info:
        reader.next_head()
    assert info.value.status == 431


@pytest.mark.upstream_bug(21)
def test_5_fields_at_their_limit_are_read_and_one_more_is_431() -> None:
    limits = Limits(header_fields=5)
    lines = [b"X: %d" % i for i in range(5)]
    assert len(read(with_field(b"\r\n".join(lines[:4])), limits).headers.items()) == 5
    assert refused(with_field(b"\r\n".join(lines)), limits) == 431


@pytest.mark.parametrize("line", [b"X", b": a", b"X a: b", b"X(: a", b"X\xe9: a", b'"X": a', b"X\x00: a", b"=", b"X;y"])
def test_5_a_line_that_is_no_field_is_400(line: bytes) -> None:
    assert refused(with_field(line)) == 400


# 5.1 Field Line Parsing


@pytest.mark.parametrize("line", [b"X : a", b"X\t: a", b" X: a", b"Content-Length : 3", b"Transfer-Encoding : chunked"])
def test_5_1_whitespace_around_the_name_is_400(line: bytes) -> None:
    assert refused(with_field(line)) == 400


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"", b""),
        (b" \t ", b""),
        (b" a", b"a"),
        (b"\t a b\tc \t", b"a b\tc"),
        (b":a:", b":a:"),
        (b"caf\xc3\xa9\xff", b"caf\xc3\xa9\xff"),
    ],
)
def test_5_1_whitespace_around_the_value_is_no_part_of_it(raw: bytes, value: bytes) -> None:
    assert read(with_field(b"X:" + raw)).headers.rget(b"x") == value


# RFC 9110 section 5.5, where the values live now.
@pytest.mark.parametrize("byte", [*range(9), *range(10, 32), 127])
def test_5_5_control_characters_in_a_value_are_400(byte: int) -> None:
    assert refused(with_field(b"X: a" + bytes([byte]) + b"b")) == 400


# 5.2 Obsolete Line Folding


@pytest.mark.parametrize("space", [b" ", b"\t", b" \t "])
def test_5_2_obs_fold_is_400(space: bytes) -> None:
    assert refused(with_field(b"X: a\r\n" + space + b"b")) == 400
    assert refused(with_field(b"X: a\r\n" + space)) == 400
