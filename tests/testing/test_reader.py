"""What the recorder believes: a response read by h11."""

from __future__ import annotations

import h11
import pytest

from stario_trio.testing.reader import ResponseReader

CHUNKED = b"HTTP/1.1 200 OK\r\nX-A: 1\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\nrest"


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_it_reads_a_response_in_any_pieces(size: int) -> None:
    reader = ResponseReader()
    assert (reader.status, reader.complete, reader.rest) == (0, False, b"")
    for at in range(0, len(CHUNKED), size):
        reader.feed(CHUNKED[at : at + size])
        reader.feed(b"")
    assert (reader.status, reader.reason, reader.complete) == (200, b"OK", True)
    assert reader.fields == [("x-a", "1"), ("transfer-encoding", "chunked")]
    assert reader.body == b"onetwo"


def test_it_keeps_chunks_apart_and_what_comes_behind_the_end() -> None:
    reader = ResponseReader()
    reader.feed(CHUNKED)
    assert (reader.pieces, reader.rest) == ([b"one", b"two"], b"rest")


def test_the_end_of_the_connection() -> None:
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")
    assert not reader.complete
    reader.close()
    assert (reader.complete, bytes(reader.body)) == (True, b"until the end")

    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab")
    with pytest.raises(h11.RemoteProtocolError):
        reader.close()


def test_the_method_says_whether_there_is_a_body() -> None:
    reader = ResponseReader("HEAD")
    reader.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n")
    assert reader.complete
