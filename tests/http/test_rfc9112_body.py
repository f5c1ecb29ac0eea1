"""RFC 9112 sections 6 and 7: how long a body is, and chunks."""

from __future__ import annotations

import math

import pytest

from stario_trio.server.config import Limits
from stario_trio.server.wire import Head, RequestReader, WireError


def read(data: bytes, limits: Limits | None = None) -> tuple[Head, bytes, bytes]:
    """Read one request: its head, its body, and the path of the request behind it, as a proof of its end."""
    reader = RequestReader(limits or Limits())
    reader.feed(data + b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
    head = reader.next_head()
    assert head is not None
    body = drain(reader)
    assert reader.body_done
    reader.next_cycle()
    following = reader.next_head()
    assert following is not None
    return head, body, following.path.encode()


def drain(reader: RequestReader) -> bytes:
    """Read a body to its end."""
    body = bytearray()
    while piece := reader.next_body():
        body += piece
    assert piece == b""
    return bytes(body)


def refused(data: bytes, limits: Limits | None = None) -> int:
    """Read one request that must be refused; give the status."""
    with pytest.raises(WireError) as info:
        read(data, limits)
    assert not info.value.disconnected
    return info.value.status


def post(*fields: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    return b"\r\n".join([b"POST / HTTP/" + version, b"Host: a", *fields, b"", body])


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


# 6 Message Body


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"DELETE", b"OPTIONS", b"BREW"])
def test_6_framing_does_not_depend_on_the_method(method: bytes) -> None:
    data = post(b"Content-Length: 3", body=b"abc").replace(b"POST", method, 1)
    assert read(data)[1:] == (b"abc", b"/next")
    assert read(post().replace(b"POST", method, 1))[1:] == (b"", b"/next")


# 6.1 Transfer-Encoding


@pytest.mark.parametrize("coding", [b"chunked", b"Chunked", b"CHUNKED", b" chunked\t"])
def test_6_1_chunked_in_any_case(coding: bytes) -> None:
    head, body, following = read(post(b"Transfer-Encoding:" + coding, body=b"3\r\nabc\r\n0\r\n\r\n"))
    assert (head.content_length, body, following) == (None, b"abc", b"/next")


@pytest.mark.parametrize(
    "coding",
    [
        b"gzip",
        b"gzip, chunked",
        b"chunked, gzip",
        b"chunked, chunked",
        b"chunked,",
        b",chunked",
        b"chunked;q=1",
        b"x-chunked",
        b"chunke",
        b"identity",
        b'"chunked"',
        b"",
    ],
)
def test_6_1_any_other_coding_is_501(coding: bytes) -> None:
    assert refused(post(b"Transfer-Encoding: " + coding)) == 501


def test_6_1_two_transfer_encoding_fields_are_501() -> None:
    assert refused(post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked")) == 501


def test_6_1_transfer_encoding_in_http_1_0_is_400() -> None:
    assert refused(post(b"Transfer-Encoding: chunked", version=b"1.0")) == 400


# 6.2 Content-Length


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_6_2_content_length_bytes_are_the_body(version: bytes) -> None:
    head, body, following = read(post(b"Content-Length: 12", body=b"GET / HTTP/1", version=version))
    assert (head.content_length, body, following) == (12, b"GET / HTTP/1", b"/next")


@pytest.mark.parametrize("length", [b"0", b"00", b"0" * 20])
def test_6_2_a_length_of_zero_is_no_body(length: bytes) -> None:
    head, body, following = read(post(b"Content-Length: " + length))
    assert (head.content_length, body, following) == (0, b"", b"/next")


def test_6_2_leading_zeros_are_decimal() -> None:
    assert read(post(b"Content-Length: 010", body=b"0123456789"))[1] == b"0123456789"


@pytest.mark.parametrize(
    "length",
    [b"", b"-1", b"+3", b"3.0", b"0x3", b"3 3", b"3_0", b"a", b"\xb2", "٣".encode(), b"3;q=1", b"3,", b",3", b"'3'"],
)
def test_6_2_a_malformed_length_is_400(length: bytes) -> None:
    assert refused(post(b"Content-Length: " + length, body=b"abc")) == 400


def test_6_2_a_declared_length_at_the_limit_is_read_and_one_more_is_413() -> None:
    limits = Limits(body_bytes=10)
    assert read(post(b"Content-Length: 10", body=b"a" * 10), limits)[1] == b"a" * 10
    assert refused(post(b"Content-Length: 11"), limits) == 413


@pytest.mark.parametrize("digits", [19, 20, 21, 5000, 60_000])
def test_6_2_a_huge_length_is_413_however_many_digits_it_has(digits: int) -> None:
    assert refused(post(b"Content-Length: " + b"9" * digits)) == 413
    assert refused(post(b"cOnTeNt-LeNgTh:\t" + b"9" * digits + b" \t")) == 413


def test_6_2_a_huge_length_is_413_without_a_limit_too() -> None:
    reader = RequestReader(Limits(body_bytes=math.inf))
    reader.feed(post(b"Content-Length: " + b"9" * 20))
    head = reader.next_head()
    assert head is not None
    assert head.content_length == 10**20 - 1
    assert refused(post(b"Content-Length: " + b"9" * 21), Limits(body_bytes=math.inf)) == 413


@pytest.mark.parametrize("length", [b"0" * 21, b"9" * 21 + b"a", b"9" * 21 + b" 9", b"-" + b"9" * 21])
def test_6_2_a_huge_malformed_length_is_400(length: bytes) -> None:
    assert refused(post(b"Content-Length: " + length)) == 400


# 6.3 Message Body Length


def test_6_3_without_either_field_there_is_no_body() -> None:
    head, body, following = read(post())
    assert (head.content_length, body, following) == (0, b"", b"/next")


@pytest.mark.parametrize("fields", [[b"Content-Length: 3, 3"], [b"Content-Length: 3", b"Content-Length: 3"]])
def test_6_3_equal_lengths_are_one(fields: list[bytes]) -> None:
    head, body, _ = read(post(*fields, body=b"abc"))
    assert (head.content_length, body) == (3, b"abc")
    assert head.headers.rgetlist(b"content-length") == [b"3"]


@pytest.mark.parametrize(
    "fields", [[b"Content-Length: 3, 4"], [b"Content-Length: 3", b"Content-Length: 4"], [b"Content-Length: 3, 03"]]
)
def test_6_3_different_lengths_are_400(fields: list[bytes]) -> None:
    assert refused(post(*fields, body=b"abcd")) == 400


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("length", [b"0", b"3", b"9" * 20])
def test_6_3_both_fields_are_400(order: int, length: bytes) -> None:
    fields = [b"Content-Length: " + length, b"Transfer-Encoding: chunked"][::order]
    assert refused(post(*fields, body=b"3\r\nabc\r\n0\r\n\r\n")) == 400


def test_6_3_the_end_of_the_connection_does_not_end_a_body() -> None:
    reader = RequestReader(Limits())
    reader.feed(post(b"Content-Length: 3", body=b"ab"))
    reader.feed_eof()
    assert reader.next_head() is not None
    assert reader.next_body() == b"ab"
    with pytest.raises(WireError) as info:
        reader.next_body()
    assert (info.value.status, info.value.disconnected) == (400, True)


# 7.1 Chunked Transfer Coding


@pytest.mark.parametrize(
    ("coded", "body"),
    [
        (b"0\r\n\r\n", b""),
        (b"000\r\n\r\n", b""),
        (b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde"),
        (b"0003\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"00000000000000a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"01234567890123456789"),
        (b"7\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n\r\n"),
    ],
)
def test_7_1_chunks(coded: bytes, body: bytes) -> None:
    assert read(chunked(coded))[1:] == (body, b"/next")


@pytest.mark.parametrize(
    "coded",
    [
        b"\r\n",
        b"g\r\n",
        b"-1\r\na\r\n",
        b"+3\r\nabc\r\n",
        b"0x3\r\nabc\r\n",
        b" 3\r\nabc\r\n",
        b"3 \r\nabc\r\n",
        b"3\t\r\nabc\r\n",
        b"3,\r\nabc\r\n",
        b"3_0\r\nabc\r\n",
        b"\xb3\r\nabc\r\n",
        b"3\nabc\r\n0\r\n\r\n",
        b"3\rabc\r\n0\r\n\r\n",
        b"3\r\r\nabc\r\n0\r\n\r\n",
        b"3\n\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_7_1_a_size_that_is_no_hexadecimal_number_and_crlf_is_400(coded: bytes) -> None:
    assert refused(chunked(coded)) == 400


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\n\r", b"", b"x\r\n", b"\r\r\n", b"  "])
def test_7_1_data_ends_with_crlf(end: bytes) -> None:
    assert refused(chunked(b"3\r\nabc" + end + b"0\r\n\r\n")) == 400


def test_7_1_a_body_at_the_limit_is_read_and_one_more_byte_is_413() -> None:
    limits = Limits(body_bytes=10)
    assert read(chunked(b"4\r\nabcd\r\n6\r\nefghij\r\n0\r\n\r\n"), limits)[1] == b"abcdefghij"
    assert refused(chunked(b"4\r\nabcd\r\n7\r\n"), limits) == 413
    assert refused(chunked(b"b\r\n"), limits) == 413


def test_7_1_without_a_limit_the_size_still_has_one() -> None:
    reader = RequestReader(Limits(body_bytes=math.inf))
    reader.feed(chunked(b"f" * 16 + b"\r\nabc"))
    assert reader.next_head() is not None
    assert reader.next_body() == b"abc"
    assert reader.next_body() is None
    assert refused(chunked(b"0" * 16 + b"3\r\nabc\r\n0\r\n\r\n"), Limits(body_bytes=math.inf)) == 400


@pytest.mark.parametrize("cut", range(1, len(b"3\r\nabc\r\n0\r\nX: y\r\n\r\n")))
def test_7_1_the_end_of_the_connection_does_not_end_chunks(cut: int) -> None:
    reader = RequestReader(Limits())
    reader.feed(chunked(b"3\r\nabc\r\n0\r\nX: y\r\n\r\n"[:-cut]))
    reader.feed_eof()
    assert reader.next_head() is not None
    with pytest.raises(WireError) as info:
        drain(reader)
    assert (info.value.status, info.value.disconnected) == (400, True)
    assert not reader.body_done


# 7.1.1 Chunk Extensions


@pytest.mark.parametrize("extension", [b";", b";a", b";a=b", b';a="b;c"', b";a=b;c", b"; a = b ", b";\xff\t"])
def test_7_1_1_extensions_are_ignored(extension: bytes) -> None:
    coded = b"3" + extension + b"\r\nabc\r\n0" + extension + b"\r\n\r\n"
    assert read(chunked(coded))[1:] == (b"abc", b"/next")


@pytest.mark.parametrize("extension", [b" ;a", b";a\rb", b";a\nb", b";a\x00b", b";a\x7f", b"g", b";\r"])
def test_7_1_1_malformed_extensions_are_400(extension: bytes) -> None:
    assert refused(chunked(b"3" + extension + b"\r\nabc\r\n0\r\n\r\n")) == 400


def test_7_1_1_extensions_at_their_limit_are_ignored_and_one_more_byte_is_400() -> None:
    limits = Limits(header_bytes=1024)
    first, second, last = b";" + b"a" * 499, b";" + b"b" * 499, b";" + b"c" * 23
    whole = b"%x%s\r\nabc\r\n%x%s\r\nde\r\n0%s\r\n\r\n"
    assert read(chunked(whole % (3, first, 2, second, last)), limits)[1] == b"abcde"
    assert refused(chunked(whole % (3, first, 2, second, last + b"c")), limits) == 400
    assert refused(chunked(whole % (3, first * 3, 2, b"", b"")), limits) == 400


def test_7_1_1_an_endless_chunk_size_line_is_400() -> None:
    limits = Limits(header_bytes=1024)
    reader = RequestReader(limits)
    reader.feed(chunked(b"3;"))
    assert reader.next_head() is not None
    for _ in range(1024 + 15):  # with the 16 digits that a size may have, and CRLF
        assert reader.next_body() is None
        reader.feed(b"a")
    assert reader.next_body() is None
    reader.feed(b"a")
    with pytest.raises(WireError) as info:
        reader.next_body()
    assert info.value.status == 400


# 7.1.2 Chunked Trailer Section


@pytest.mark.parametrize(
    "trailers", [b"X: y\r\n", b"X:\r\nY: \t z\r\n", b"Expires: never\r\nX-Sum: \xff\r\n", b"Host: evil\r\n"]
)
def test_7_1_2_trailer_fields_are_dropped(trailers: bytes) -> None:
    head, body, following = read(chunked(b"3\r\nabc\r\n0\r\n" + trailers + b"\r\n"))
    assert (body, following) == (b"abc", b"/next")
    assert head.headers.items() == [(b"host", b"a"), (b"transfer-encoding", b"chunked")]


@pytest.mark.parametrize(
    "trailers",
    [
        b"X\r\n",
        b": y\r\n",
        b"X : y\r\n",
        b"X: y\r\n z\r\n",
        b" X: y\r\n",
        b"X: \x00\r\n",
        b"X: y\n",
        b"X: y\rZ: a\r\n",
        b"\n",
        b"GET / HTTP/1.1\r\n",
    ],
)
def test_7_1_2_malformed_trailer_fields_are_400(trailers: bytes) -> None:
    assert refused(chunked(b"3\r\nabc\r\n0\r\n" + trailers + b"\r\n")) == 400


def test_7_1_2_trailer_bytes_at_their_limit_are_dropped_and_one_more_is_431() -> None:
    limits = Limits(header_bytes=1024)
    first = b"X: " + b"a" * 506 + b"\r\n"  # twice, and the blank line
    assert read(chunked(b"0\r\n" + first * 2 + b"\r\n"), limits)[2] == b"/next"
    assert refused(chunked(b"0\r\n" + first + b"X" + first + b"\r\n"), limits) == 431
    assert refused(chunked(b"0\r\n" + first * 3 + b"\r\n"), limits) == 431
    assert refused(chunked(b"0\r\nX: " + b"a" * 2000), limits) == 431


def test_7_1_2_trailer_fields_at_their_limit_are_dropped_and_one_more_is_431() -> None:
    limits = Limits(header_fields=3)
    assert read(chunked(b"0\r\n" + b"X: y\r\n" * 3 + b"\r\n"), limits)[2] == b"/next"
    assert refused(chunked(b"0\r\n" + b"X: y\r\n" * 4 + b"\r\n"), limits) == 431
