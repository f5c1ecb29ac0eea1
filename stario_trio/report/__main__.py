"""The command: `python -m stario_trio.report trace.jsonl`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from stario_trio.exceptions import StarioError
from stario_trio.report.model import shutdown_of
from stario_trio.report.picture import MOST_BARS, duration, picture_of
from stario_trio.report.svg import to_svg
from stario_trio.report.text import GLYPHS, to_text
from stario_trio.report.trace import HOW_TO_TRACE, Trace, read_trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stario_trio.report.picture import Picture

__all__ = ["main"]


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stario_trio.report",
        description="Show how a server stopped, from the lines that a JsonTracer has written.",
    )
    parser.add_argument("trace", help="the file; - reads standard input")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--last", action="store_true", help="the last stop of the trace (the default)")
    which.add_argument("--number", type=int, metavar="N", help="another one, as --list counts them")
    which.add_argument("--list", action="store_true", help="only list the stops of the trace")
    parser.add_argument("--format", choices=("text", "svg"), default="text")
    parser.add_argument("--width", type=int, metavar="COLUMNS", help="of the text (default: the terminal's)")
    parser.add_argument("--ascii", action="store_true", help="text without any other character")
    parser.add_argument(
        "--bars", type=int, default=MOST_BARS, metavar="N", help="most bars a worker (default: %(default)s)"
    )
    parser.add_argument(
        "--cleanup-timeout", type=float, metavar="SECONDS", help="of the server, if it was not the default"
    )
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit code: 0, or 2 for an input that cannot be drawn, with the reason on standard error.
    """
    arguments = _arguments(words)
    try:
        trace = _read(arguments.trace)
        if trace.strange:
            _say(f"note: lines that are no spans: {len(trace.strange):,}, the first is line {trace.strange[0]:,}")
        if arguments.list:
            output = _listing(trace)
        else:
            shutdown = shutdown_of(trace, arguments.number, cleanup_timeout=arguments.cleanup_timeout)
            picture = picture_of(shutdown, max(arguments.bars, 1))
            output = to_svg(picture) if arguments.format == "svg" else _for_terminal(picture, arguments)
    except StarioError as error:
        _say(f"error: {error}")
        return 2
    sys.stdout.write(output)
    return 0


def _say(words: str) -> None:
    print(words, file=sys.stderr)  # noqa: T201  (a command speaks here)


def _read(name: str) -> Trace:
    """The trace in a file, or on standard input."""
    if name == "-":
        return read_trace(sys.stdin)
    try:
        with Path(name).open(encoding="utf-8", errors="replace") as lines:
            return read_trace(lines)
    except OSError as error:
        raise StarioError(
            f"Cannot read {name}: {error.strerror}",
            help_text="Give the file that a JsonTracer has written, or - to read standard input.",
            example=HOW_TO_TRACE,
        ) from error


def _listing(trace: Trace) -> str:
    """A line for each stop: its number, when it began, how long it took, and why."""
    lines: list[str] = []
    for number in range(1, len(trace.shutdowns) + 1):
        stop = shutdown_of(trace, number)
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(stop.began_ns / 1e9))
        lines.append(f"{number}  {began}  {duration(stop.took)}  {stop.reason}\n")
    return "".join(lines) or "No stop in this trace.\n"


def _for_terminal(picture: Picture, arguments: argparse.Namespace) -> str:
    """The text that this output can show: NO_COLOR (no-color.org) and a small character set are respected."""
    out = sys.stdout
    try:
        GLYPHS.encode(out.encoding or "utf-8")
        unicode = True
    except UnicodeEncodeError:
        unicode = False
    return to_text(
        picture,
        arguments.width or shutil.get_terminal_size((100, 24)).columns,
        colour=out.isatty() and not os.environ.get("NO_COLOR"),
        ascii_only=arguments.ascii or not unicode,
    )


if __name__ == "__main__":
    sys.exit(main())
