"""How a body is delimited: RFC 9112 section 6, and status lines: section 4."""

from __future__ import annotations

from http import HTTPStatus
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stario_trio.exceptions import StarioError
from stario_trio.http import framing

PIECES = st.lists(st.binary(max_size=40), max_size=6)


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (200, b"HTTP/1.1 200 OK\r\n"),
        (413, b"HTTP/1.1 413 Content Too Large\r\n"),
        (414, b"HTTP/1.1 414 URI Too Long\r\n"),
        (416, b"HTTP/1.1 416 Range Not Satisfiable\r\n"),
        (418, b"HTTP/1.1 418 I'm a Teapot\r\n"),
        (422, b"HTTP/1.1 422 Unprocessable Content\r\n"),
        (HTTPStatus.NOT_FOUND, b"HTTP/1.1 404 Not Found\r\n"),
    ],
)
def test_a_status_line_has_the_phrase_of_rfc_9110(status: int, line: bytes) -> None:
    assert framing.status_line(status) == line


def test_an_unknown_status_has_an_empty_phrase() -> None:
    assert framing.status_line(299) == b"HTTP/1.1 299 \r\n"


def test_every_final_status_has_a_line() -> None:
    for status in range(200, 600):
        line = framing.status_line(status)
        assert line.startswith(b"HTTP/1.1 %d " % status)
        assert line.endswith(b"\r\n")
        assert line.count(b"\n") == 1


@pytest.mark.parametrize("status", [0, 99, 100, 101, 103, 199, 600, 99999, -1, True, "200", None, 299.5])
def test_what_is_no_final_status_is_refused(status: object) -> None:
    with pytest.raises(StarioError, match="Invalid status") as info:
        framing.status_line(cast("int", status))
    assert info.value.context == {"status": status}
    assert "200 to 599" in str(info.value)


# RFC 9112 section 6.3, rule by rule


@given(PIECES)
def test_rule_1_a_silent_body_is_empty_whatever_is_written(pieces: list[bytes]) -> None:
    body = framing.bodiless()
    assert [body.piece(piece) for piece in pieces] == [b""] * len(pieces)
    assert body.end() == b""


@given(PIECES)
def test_rule_4_chunks_can_be_read_back(pieces: list[bytes]) -> None:
    body = framing.chunked()
    wire = b"".join(body.piece(piece) for piece in pieces)
    end = body.end()
    assert end == b"0\r\n\r\n"
    wire += end
    read: list[bytes] = []
    while True:
        size, _, wire = wire.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            break
        read.append(wire[:length])
        assert wire[length : length + 2] == b"\r\n"
        wire = wire[length + 2 :]
    assert wire == b"\r\n"
    assert read == [piece for piece in pieces if piece]


@pytest.mark.upstream_bug(33)
def test_bug_33_empty_chunk() -> None:
    assert framing.chunked().piece(b"") == b""


@given(PIECES, st.integers(min_value=0, max_value=100))
def test_rule_6_a_counted_body_has_the_size_that_was_promised_or_fails(pieces: list[bytes], size: int) -> None:
    body = framing.counted(size)
    written = 0
    for piece in pieces:
        if written + len(piece) > size:
            with pytest.raises(RuntimeError, match=rf"leaves {size - written} bytes, {len(piece)} were written"):
                body.piece(piece)
        else:
            assert body.piece(piece) == piece
            written += len(piece)
    assert body.remaining == size - written
    assert body.end() == (b"" if written == size else None)


@given(PIECES)
def test_rule_8_everything_until_the_close_is_the_body(pieces: list[bytes]) -> None:
    body = framing.until_close()
    assert body.until_close
    assert b"".join(body.piece(piece) for piece in pieces) == b"".join(pieces)
    assert body.end() == b""
