"""The command: `python -m stario_trio.report trace.jsonl`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from stario_trio.exceptions import StarioError
from stario_trio.report.model import shutdown_of
from stario_trio.report.picture import MOST_BARS, duration, picture_of
from stario_trio.report.svg import to_svg
from stario_trio.report.text import to_text
from stario_trio.report.trace import Trace, printable, read_trace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

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
        with _input(arguments.trace) as lines:
            trace = read_trace(lines)
        if arguments.list:
            output = _listing(trace)
        else:
            shutdown = shutdown_of(trace, arguments.number, cleanup_timeout=arguments.cleanup_timeout)
            picture = picture_of(shutdown, arguments.bars)
            output = to_svg(picture) if arguments.format == "svg" else to_text(picture, **_terminal(arguments))
    except StarioError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  (a command speaks here)
        return 2
    sys.stdout.write(output)
    return 0
