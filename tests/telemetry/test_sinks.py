from __future__ import annotations

import codecs
import errno
import gzip
import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO, cast

import pytest

from stario_trio.telemetry.sinks import FILE_BUF, DescriptorSink, TextSink, complain, encoding_of, never, sink_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def always() -> bool:
    return True


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """A pipe: the descriptor to read, and the file to write."""
    reader, writer = os.pipe()
    with open(writer, "w", encoding="utf-8") as output:
        yield reader, output
    os.close(reader)


def fill(output: TextIO) -> int:
    """Fill a pipe; returns how much it has taken."""
    os.set_blocking(output.fileno(), False)
    taken = 0
    try:
        while True:
            taken += os.write(output.fileno(), b"\n")
    except BlockingIOError:
        pass
    os.set_blocking(output.fileno(), True)
    return taken


def test_a_pipe_gets_the_bytes_and_nothing_stays_open(pipe: tuple[int, TextIO]) -> None:
    reader, output = pipe
    before = descriptors()
    sink = sink_of(output)
    assert isinstance(sink, DescriptorSink)
    assert sink.chunk == select.PIPE_BUF
    sink.open()
    sink.write(b"one\n", never)
    sink.write(b"two\n", never)
    assert os.read(reader, 100) == b"one\ntwo\n"
    assert descriptors() == before
    sink.close()


def test_what_was_printed_before_comes_before(pipe: tuple[int, TextIO]) -> None:
    reader, output = pipe
    sink = DescriptorSink(output)
    print("printed", file=output)
    sink.write(b"line\n", never)
    assert os.read(reader, 100) == b"printed\nline\n"


def test_a_full_pipe_takes_as_long_as_it_is_worth(pipe: tuple[int, TextIO]) -> None:
    reader, output = pipe
    sink = DescriptorSink(output)
    taken = fill(output)
    with pytest.raises(TimeoutError):
        sink.write(b"line\n", never)
    asked = 0

    def then_read() -> bool:
        nonlocal asked, taken
        asked += 1
        taken -= len(os.read(reader, taken))
        return True

    sink.write(b"line\n", then_read)
    assert asked == 1
    assert os.read(reader, 100 + taken).endswith(b"line\n")


def test_a_descriptor_that_does_not_block_is_waited_for(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, output = pipe
    os.set_blocking(output.fileno(), False)
    write = os.write
    tries = iter([BlockingIOError(), None])

    def somebody_was_faster(descriptor: int, data: bytes) -> int:
        if (failure := next(tries)) is not None:
            raise failure
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", somebody_was_faster)
    DescriptorSink(output).write(b"line\n", never)
    monkeypatch.undo()
    assert os.read(reader, 100) == b"line\n"


def test_after_a_torn_line_the_next_begins_on_its_own(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, output = pipe
    sink = DescriptorSink(output)
    write = os.write
    left = iter([3])

    def full(descriptor: int, data: bytes) -> int:
        if (room := next(left, None)) is None:
            raise OSError("no space left")
        return write(descriptor, data[:room])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="no space"):
        sink.write(b"first\n", never)
    monkeypatch.undo()
    sink.write(b"second\n", never)
    sink.write(b"third\n", never)
    assert os.read(reader, 100) == b"fir\nsecond\nthird\n"


def test_a_pipe_is_closed_when_the_program_closes_it(pipe: tuple[int, TextIO]) -> None:
    reader, output = pipe
    sink = DescriptorSink(output)
    sink.open()
    output.close()
    assert os.read(reader, 100) == b""
    with pytest.raises(ValueError, match="closed"):
        sink.write(b"line\n", never)


def test_a_file_gets_its_lines_also_after_it_was_closed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    before = descriptors()
    output = path.open("w")
    sink = sink_of(output)
    assert isinstance(sink, DescriptorSink)
    sink.open()
    sink.open()
    output.write("text\n")
    output.close()
    sink.write(b"line\n", never)
    assert path.read_bytes() == b"text\nline\n"
    sink.close()
    sink.close()
    assert descriptors() == before


def test_a_reader_that_left_is_an_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as output, pytest.raises(BrokenPipeError):
        DescriptorSink(output).write(b"line\n", always)


def test_what_is_not_plain_gets_text(tmp_path: Path) -> None:
    packed, wide = tmp_path / "log.gz", tmp_path / "wide"
    with gzip.open(packed, "wt", encoding="utf-8") as zipped, wide.open("w", encoding="utf-16") as utf16:
        for output in (cast("TextIO", zipped), utf16):
            sink = sink_of(output)
            assert isinstance(sink, TextSink)
            sink.open()
            sink.write("ü\n".encode() * 2, never)
            sink.write(b"b\n", never)
            sink.close()
    assert gzip.decompress(packed.read_bytes()) == "ü\nü\nb\n".encode()
    assert wide.read_text(encoding="utf-16") == "ü\nü\nb\n"


def test_which_outputs_may_keep_their_writer_waiting(tmp_path: Path) -> None:
    assert sink_of(io.StringIO()) is None
    assert sink_of(io.TextIOWrapper(io.BytesIO())) is None
    path = tmp_path / "file"
    with path.open("w+") as both:
        assert isinstance(sink_of(both), TextSink)  # a file that is read too knows where it stands
    assert sink_of(both) is None
    with io.TextIOWrapper(cast("io.BufferedWriter", path.open("wb", buffering=0)), write_through=True) as unbuffered:
        assert isinstance(sink_of(unbuffered), DescriptorSink)


@pytest.mark.parametrize("encoding", [None, 7, "no such encoding", "utf-16"])
def test_lines_are_utf_8_unless_the_output_has_an_encoding_for_them(
    encoding: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Output(io.StringIO):
        pass

    monkeypatch.setattr(Output, "encoding", encoding)
    assert encoding_of(Output()) == "utf-8"
    monkeypatch.setattr(Output, "encoding", "latin-1")
    assert encoding_of(Output()) == "latin-1"


def test_without_poll_it_is_the_write_that_waits(pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch) -> None:
    reader, output = pipe
    monkeypatch.delattr(select, "poll")
    DescriptorSink(output).write(b"line\n", never)
    assert os.read(reader, 100) == b"line\n"


def test_a_complaint_goes_to_standard_error_or_nowhere(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, output = pipe
    monkeypatch.setattr(sys, "__stderr__", output)
    complain("ü\ud800\n")
    assert os.read(reader, 100) == "ü\\ud800\n".encode()
    fill(output)
    complain("nobody waits for this\n")
    for nowhere in (None, io.StringIO()):
        monkeypatch.setattr(sys, "__stderr__", nowhere)
        complain("nobody hears this\n")


def test_without_a_free_descriptor_the_original_is_used(
    pipe: tuple[int, TextIO], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dup(descriptor: int) -> int:
        raise OSError(code, "no")

    reader, output = pipe
    monkeypatch.setattr(os, "dup", dup)
    for code in (errno.EMFILE, errno.ENFILE):  # noqa: B007  (the function above reads it)
        DescriptorSink(output).write(b"line\n", never)
        assert os.read(reader, 100) == b"line\n"
        with (tmp_path / "log").open("w") as file:
            sink = DescriptorSink(file)
            sink.open()
            sink.write(b"line\n", never)
            sink.close()
        assert (tmp_path / "log").read_bytes() == b"line\n"
    code = errno.EBADF
    with pytest.raises(OSError, match="no"):
        DescriptorSink(output).write(b"line\n", never)


def test_a_descriptor_that_becomes_another_file_is_followed(pipe: tuple[int, TextIO], tmp_path: Path) -> None:
    reader, other = pipe
    before = descriptors()
    with (tmp_path / "a").open("w") as output, (tmp_path / "b").open("w") as b:
        sink = DescriptorSink(output)
        sink.open()
        sink.write(b"one\n", never)
        os.dup2(b.fileno(), output.fileno())
        sink.write(b"two\n", never)
        assert sink.chunk == FILE_BUF
        os.dup2(other.fileno(), output.fileno())
        sink.write(b"three\n", never)
        assert sink.chunk == select.PIPE_BUF
        os.dup2(b.fileno(), output.fileno())
        sink.open()
        output.close()
        sink.write(b"four\n", never)
        sink.close()
    assert (tmp_path / "a").read_bytes() == b"one\n"
    assert (tmp_path / "b").read_bytes() == b"two\nfour\n"
    assert os.read(reader, 100) == b"three\n"
    assert descriptors() == before


def test_the_write_of_a_subclass_is_not_bypassed(tmp_path: Path) -> None:
    class Redacting(io.TextIOWrapper):
        def write(self, text: str, /) -> int:
            return super().write(text.replace("secret", "******"))

    class Counting(io.FileIO):
        def write(self, data: object, /) -> int:
            return super().write(b"1")

    path = tmp_path / "log"
    with Redacting(io.BufferedWriter(io.FileIO(path, "w")), encoding="utf-8") as output:
        sink = sink_of(output)
        assert isinstance(sink, TextSink)
        sink.write(b"a secret\n", never)
    assert path.read_bytes() == b"a ******\n"
    with io.TextIOWrapper(io.BufferedWriter(Counting(path, "w")), encoding="utf-8") as counted:
        assert isinstance(sink_of(counted), TextSink)


def test_an_output_that_names_no_encoding_gets_text(tmp_path: Path) -> None:
    with codecs.getwriter("utf-8")((tmp_path / "log").open("wb")) as output:
        sink = sink_of(cast("TextIO", output))
        assert isinstance(sink, TextSink)
        sink.write("ü\n".encode(), never)
    assert (tmp_path / "log").read_bytes() == "ü\n".encode()


class Tee:
    """What a program puts in front of its standard output."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return self._output.write(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._output, name)


def test_nobody_waits_in_a_file_object_that_is_full(pipe: tuple[int, TextIO]) -> None:
    """The one who does holds its lock."""
    reader, output = pipe
    tee = Tee(output)
    sink = sink_of(cast("TextIO", tee))
    assert isinstance(sink, TextSink)
    assert sink.chunk == select.PIPE_BUF
    taken = fill(output)
    with pytest.raises(TimeoutError):
        sink.write(b"line\n", never)
    assert tee.pieces == []
    while taken:
        taken -= len(os.read(reader, taken))
    data = ("ü" * 5000 + "\n").encode()
    sink.write(data, never)
    assert all(len(piece.encode()) <= select.PIPE_BUF for piece in tee.pieces)
    assert os.read(reader, 20_000) == data
