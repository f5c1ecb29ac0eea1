"""Which coding a client wants, and that what is compressed comes out again: with the libraries' own decoders."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stario_trio.exceptions import StarioError
from stario_trio.http import compression
from stario_trio.http.compression import CompressionConfig, Compressor, is_compressed, negotiate
from tests.support.decoders import CODINGS, Decoder, decode, library_of

ALL = ("zstd", "br", "gzip")

coding = pytest.mark.parametrize("coding", CODINGS)


def compressor(coding: str, **config: int) -> Compressor:
    found = CompressionConfig(**config).select(coding)
    assert found is not None
    assert found.encoding == coding.encode()
    return found


# RFC 9110 section 12.5.3


@pytest.mark.upstream_bug(32)
@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (None, None),
        ("", None),
        (",, ,", None),
        ("gzip", "gzip"),
        ("GZip", "gzip"),
        ("x-gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("deflate, compress", None),
        ("gzip;q=1.0, br;q=0.9", "gzip"),
        ("gzip ;\tq=0.5,br; Q=0.501", "br"),
        ("gzip;q=0.5, br;q=0.500, zstd;q=0.499", "br"),
        ("gzip;q=0.001", "gzip"),
        ("gzip;q=1.", "gzip"),
        # Text that only looks like a coding, and weights
        ("vibrant", None),
        ("br;q=0, gzip", "gzip"),
        ("gzip;q=0", None),
        ("gzip;q=0.000", None),
        ("*", "zstd"),
        ("*;q=0", None),
        ("zstd;q=0, *;q=0.1", "br"),
        ("*;q=0, gzip;q=0.1", "gzip"),
        ("gzip, *;q=0.5", "gzip"),
        # identity
        ("identity", None),
        ("identity, gzip;q=0.5", None),
        ("identity;q=0.5, gzip;q=0.5", "gzip"),
        ("identity;q=0.5, *", "zstd"),
        ("identity;q=0", None),
        ("identity;q=0, gzip;q=0.2", "gzip"),
        # not in the grammar: counts as absent
        ("gzip;q=2", None),
        ("gzip;q=1.001", None),
        ("gzip;q=0.1234", None),
        ("gzip;q=-1", None),
        ("gzip;q=", None),
        ("gzip;q = 1", None),
        ("gzip;q=nan", None),
        ("gzip;level=9", None),
        ("gzip;q=1;q=1", None),
        ("br;q=x, gzip", "gzip"),
        ("gzip;q=\u0660", None),
        # twice: the lower weight counts
        ("gzip;q=0, gzip", None),
        ("gzip, x-gzip;q=0", None),
    ],
)
def test_negotiate(accept: str | None, wanted: str | None) -> None:
    assert negotiate(accept, ALL) == wanted


def test_the_order_of_the_offer_decides_between_equals() -> None:
    assert negotiate("zstd, br, gzip", ("gzip", "zstd")) == "gzip"
    assert negotiate("*", ()) is None


def test_a_long_field_is_no_work() -> None:
    accept = "gzip" + ", gzip" * 170
    assert len(accept) == compression.MAX_ACCEPT
    assert negotiate(accept, ALL) == "gzip"
    assert negotiate(accept + " ", ALL) is None


spaces = st.sampled_from(["", " ", "\t", "  "])
weights = st.one_of(st.none(), st.integers(0, 1000))
names = st.sampled_from(["gzip", "x-gzip", "br", "zstd", "identity", "*", "deflate", "brr"])


def written(draw: st.DrawFn, name: str, weight: int | None) -> str:
    """One member of the field, in one of the ways in which it may be written."""
    name = draw(st.sampled_from([name, name.upper(), name.title()]))
    if weight is None:
        member = name
    else:
        digits = f"{weight / 1000:.3f}"
        shortest = digits.rstrip("0")
        number = draw(st.sampled_from([digits, shortest, shortest.rstrip(".")]))
        member = f"{name}{draw(spaces)};{draw(spaces)}{draw(st.sampled_from('qQ'))}={number}"
    return draw(spaces) + member + draw(spaces)


@given(st.data(), st.lists(st.tuples(names, weights), max_size=6), st.permutations(ALL), st.integers(0, 3))
def test_negotiate_as_the_rules_say(
    data: st.DataObject, members: list[tuple[str, int | None]], preferred: list[str], count: int
) -> None:
    offered = preferred[:count]

    def named(*names: str) -> list[int]:
        return [1000 if weight is None else weight for name, weight in members if name in names]

    def weight_of(coding: str) -> int:
        aliases = (coding, "x-gzip") if coding == "gzip" else (coding,)
        return min(named(*aliases) or named("*") or [0])

    acceptable = [coding for coding in offered if weight_of(coding) > 0]
    most = max((weight_of(coding) for coding in acceptable), default=0)
    expected = next((coding for coding in acceptable if weight_of(coding) == most), None)
    if most < min(named("identity") or [0]):
        expected = None

    @st.composite
    def field(draw: st.DrawFn) -> str:
        return ",".join(written(draw, name, weight) for name, weight in members)

    assert negotiate(data.draw(field()), offered) == expected


@given(st.text(), st.text(alphabet="gzip;q=01.,* \t"))
def test_negotiate_takes_any_text(anything: str, nearly_right: str) -> None:
    for text in (anything, nearly_right):
        assert negotiate(text, ALL) in (None, *ALL)


# Settings


@pytest.mark.parametrize(
    ("setting", "least", "most"), [("zstd_level", -1, 22), ("brotli_level", -1, 11), ("gzip_level", -1, 9)]
)
def test_levels_are_checked_when_constructed(setting: str, least: int, most: int) -> None:
    for level in (least, most):
        assert getattr(CompressionConfig(**{setting: level}), setting) == level
    wrong: list[Any] = [least - 1, most + 1, True, 3.0, "3", None]
    for level in wrong:
        with pytest.raises(StarioError, match=f"Invalid {setting}") as caught:
            CompressionConfig(**{setting: level})
        assert f"from 0 to {most}" in (caught.value.help_text or "")


@pytest.mark.parametrize("size", [-1, 2.5, None])
def test_min_size_is_checked(size: Any) -> None:
    with pytest.raises(StarioError, match="Invalid min_size"):
        CompressionConfig(size)


def test_the_defaults_are_those_of_stario() -> None:
    assert CompressionConfig() == CompressionConfig(256, 3, 4, 6)
    with pytest.raises(AttributeError):
        CompressionConfig().min_size = 1  # type: ignore[misc]


def test_zstd_then_brotli_then_gzip() -> None:
    assert CompressionConfig().codings() == [name for name in ALL if library_of(name) is not None]
    assert CompressionConfig(zstd_level=-1, brotli_level=-1).codings() == ["gzip"]
    assert CompressionConfig(gzip_level=-1).select("gzip") is None
    assert CompressionConfig().select(None) is None


def test_a_coding_without_its_library_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "_found", {})
    monkeypatch.setitem(sys.modules, "brotli", None)
    monkeypatch.setitem(sys.modules, "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd", None)
    config = CompressionConfig()
    assert config.codings() == ["gzip"]
    assert type(config.select("zstd, br, gzip")) is type(compressor("gzip"))
    assert config.select("zstd, br") is None


@coding
def test_a_level_reaches_its_library(coding: str) -> None:
    text = (Path(compression.__file__).read_bytes()) * 4
    setting = {"zstd": "zstd_level", "br": "brotli_level", "gzip": "gzip_level"}[coding]
    fast, slow = (compressor(coding, **{setting: level}) for level in (1, 9))
    assert len(slow.frame(text)) < len(fast.frame(text))
    fast, slow = (compressor(coding, **{setting: level}) for level in (1, 9))
    assert len(slow.block(text)) < len(fast.block(text))


def test_min_size_says_what_is_compressible() -> None:
    it = compressor("gzip", min_size=3)
    assert not it.compressible(b"ab")
    assert it.compressible(b"abc")


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def test_importing_the_package_loads_no_library() -> None:
    """They are loaded when an app is made: once, and before a worker or a request is there."""
    start = "import sys, trio; before = set(sys.modules); from stario_trio import *"  # trio loads zstd on Python 3.14
    found = "print(sorted(name for name in set(sys.modules) - before if name.split('.')[-1] in ('zstd', 'brotli')))"
    off = "CompressionConfig(zstd_level=-1, brotli_level=-1)"
    assert run(f"{start}; {found}") == "[]"
    assert run(f"{start}; Stario(NoopTracer(), {off}); {found}") == "[]"
    by_trio = run("import sys, trio; print(*sys.modules)").split()
    names = {library.__name__ for name in ("zstd", "br") if (library := library_of(name)) is not None}
    assert run(f"{start}; Stario(NoopTracer()); {found}") == str(sorted(names.difference(by_trio)))


# What is compressed already


@pytest.mark.parametrize(
    ("content_type", "compressed"),
    [
        (b"text/html; charset=utf-8", False),
        (b"application/json", False),
        (b"application/octet-stream", False),
        (b"application/wasm", False),
        (b"image/svg+xml", False),
        (b"IMAGE/SVG+XML;charset=utf-8", False),
        (b"image/x-icon", False),
        (b"font/ttf", False),
        (b"", False),
        (b"image/png", True),
        (b"Image/PNG ; x=y", True),
        (b"video/mp4", True),
        (b"audio/mpeg", True),
        (b"font/woff2", True),
        (b"application/zip", True),
        (b"application/epub+zip", True),
        (b"application/gzip", True),
        (b"application/pdf", True),
    ],
)
def test_is_compressed(content_type: bytes, compressed: bool) -> None:
    assert is_compressed(content_type) is compressed


# Round trips


@coding
@given(data=st.binary(max_size=2000))
def test_a_frame_comes_out_again(coding: str, data: bytes) -> None:
    assert decode(coding, compressor(coding).frame(data)) == data


@pytest.mark.upstream_bug(35)
@coding
@given(pieces=st.lists(st.binary(max_size=300), max_size=8))
def test_every_piece_of_a_stream_comes_out_at_once(coding: str, pieces: list[bytes]) -> None:
    it, decoder = compressor(coding), Decoder(coding)
    for piece in pieces:
        assert decoder.feed(it.block(piece)) == piece
        assert not decoder.ended
    assert decoder.feed(it.finish()) == b""
    assert decoder.ended


@coding
def test_a_stream_is_one_member(coding: str) -> None:
    """Browsers read only the first of several."""
    it = compressor(coding)
    whole = it.block(b"one") + it.block(b"") + it.block(b"two") + it.finish()
    assert decode(coding, whole) == b"onetwo"


def test_gzip_for_gzip() -> None:
    it = compressor("gzip")
    assert gzip.decompress(it.block(b"one") + it.finish()) == b"one"
    assert gzip.decompress(compressor("gzip").frame(b"two")) == b"two"
    assert compressor("gzip").frame(b"two")[4:8] == bytes(4), "no time, so equal bodies are equal"


@coding
def test_streams_share_nothing(coding: str) -> None:
    """Pieces of many streams, compressed in turn and in threads, come out of the right one."""

    def stream(number: int) -> bool:
        it, decoder = compressor(coding), Decoder(coding)
        pieces = [f"<li>{number}.{n}</li>".encode() * 50 for n in range(40)]
        return all(decoder.feed(it.block(piece)) == piece for piece in pieces)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(stream, range(32)))


# What it may cost


@pytest.mark.skipif(library_of("zstd") is None, reason="no zstd library here")
def test_a_client_needs_no_more_than_the_memory_of_rfc_9659() -> None:
    library: Any = library_of("zstd")
    body = bytes(9 << 20)
    frame = compressor("zstd", zstd_level=20).frame(body)
    limit = {library.DecompressionParameter.window_log_max: 23}
    assert library.decompress(frame, options=limit) == body


@pytest.mark.skipif(library_of("zstd") is None, reason="no zstd library here")
def test_a_zstd_stream_remembers_128_kib() -> None:
    library: Any = library_of("zstd")
    noise = random.Random(1).randbytes(1 << 18)
    it = compressor("zstd")
    limit = {library.DecompressionParameter.window_log_max: 17}
    decoder = library.ZstdDecompressor(options=limit)
    assert decoder.decompress(it.block(noise)) == noise


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="/proc tells the memory of a process on Linux only")
@coding
def test_a_stream_at_the_highest_level_is_affordable(coding: str) -> None:
    """By default, zstd would take 80 MiB for each."""
    program = f"""
import random
from stario_trio.http.compression import CompressionConfig
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4
config = CompressionConfig(256, 22, 11, 9)
event = b"data: elements <p id='a'>hello</p>\\n\\n"
config.select({coding!r}).block(event)
before = resident()
streams = [config.select({coding!r}) for _ in range(20)]
for stream in streams:
    stream.block(event)
print((resident() - before) // len(streams))
"""
    assert int(run(program)) < 1500  # KiB
