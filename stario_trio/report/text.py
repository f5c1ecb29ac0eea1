"""A picture as lines of text, with or without colour."""

from __future__ import annotations

import textwrap
from itertools import groupby
from typing import TYPE_CHECKING, Final

from stario_trio.report.model import Fate
from stario_trio.report.picture import cells, duration, fit, lanes, ticks

if TYPE_CHECKING:
    from stario_trio.report.picture import Bar, Group, Picture

__all__ = ["GLYPHS", "to_text"]

#: Narrower, and the bars would have no room beside their words.
LEAST_WIDTH: Final = 60

#: How a bar is filled, and its colour (SGR, as every terminal knows it).
FATES: Final = {
    Fate.FINISHED: ("█", "32"),
    Fate.LEFT: ("▒", "36"),
    Fate.CUT: ("▓", "33"),
    Fate.ERROR: ("█", "31"),
    Fate.ABANDONED: ("▓", "35"),
}
CANCELLED: Final = "░"
PHASES: Final = {
    "stop_accepting": ("█", "34"),
    "draining": ("▒", "36"),
    "force_closing": ("█", "31"),
    "cancelling": ("▓", "33"),
    "awaiting": ("░", "33"),
}
MARK: Final = "┊"
DIM: Final = "2"
BOLD: Final = "1"

#: What an output must be able to show, and what stands for it in ASCII: one for one, so that nothing moves.
GLYPHS: Final = "█▓▒░┊┴─◀▶→…"
_ASCII: Final = str.maketrans(GLYPHS, "#%=.:+-<>>~")

# A space that a line does not break at.
_TOGETHER: Final = "\N{NO-BREAK SPACE}"


class _Line:
    """A line of cells, each a character and a style; later words go over earlier ones."""

    def __init__(self, width: int) -> None:
        self._cells = [(" ", "")] * width

    def put(self, at: int, words: str, style: str = "") -> None:
        for char in words:
            # The other half of a wide character is no cell of its own.
            self._cells[at : at + cells(char)] = [(char, style), ("", style)][: cells(char)]
            at += cells(char)

    def end(self, *, colour: bool) -> str:
        runs: list[str] = []
        for style, group in groupby(self._cells, key=lambda cell: cell[1]):
            run = "".join(char for char, _ in group)
            runs.append(f"\x1b[{style}m{run}\x1b[0m" if colour and style else run)
        return "".join(runs).rstrip()


class _Chart:
    """Where everything stands: labels, then bars, then words."""

    def __init__(self, picture: Picture, width: int, *, colour: bool) -> None:
        bars = [bar for group in picture.groups for bar in group.bars]
        self.picture = picture
        self.width = max(width, LEAST_WIDTH)
        self.colour = colour
        self.labels = min(max([cells(bar.label) for bar in bars] + [len("phases")]), self.width // 4)
        words = min(max([cells(bar.words) for bar in bars] + [12]), self.width * 2 // 5)
        self.left = self.labels + 1
        self.room = self.width - self.left - words - 2
        self.words = self.left + self.room + 2

    def column(self, at: float) -> int:
        """The column of a time, clipped to the axis."""
        picture = self.picture
        place = (at - picture.start) / (picture.end - picture.start) * self.room
        return self.left + int(min(max(place, 0), self.room - 1))

    def line(self) -> _Line:
        """An empty line, with the marks that go through everything."""
        line = _Line(self.width)
        for mark in self.picture.marks:
            if mark.at <= self.picture.end:
                line.put(self.column(mark.at), MARK, DIM)
        return line

    def mark_lines(self) -> list[str]:
        """The words above the marks; a deadline beyond the axis is told at its end."""
        labels: list[tuple[int, str]] = []
        for mark in self.picture.marks:
            beyond = mark.at > self.picture.end
            words = f"{mark.words} at {round(mark.at, 2):g} s →" if beyond else mark.words
            edge = self.words - 2
            labels.append(
                (max(edge - len(words), 0) if beyond else min(self.column(mark.at), self.width - len(words)), words)
            )
        where = lanes([(at, at + len(words)) for at, words in labels])
        lines = [self.line() for _ in range(max(where) + 1)]
        for lane, (at, words) in zip(where, labels, strict=True):
            lines[lane].put(at, words, BOLD)
        return [line.end(colour=self.colour) for line in lines]

    def phase_line(self, group: Group) -> str:
        """The phases; one that took no time is a single cell, and none hides another."""
        line = self.line()
        line.put(0, "phases", BOLD)
        at = 0
        for step in group.phases:
            glyph, style = PHASES[step.name]
            at = max(at, self.column(step.start))
            end = max(at + 1, self.column(step.end))
            line.put(at, glyph * (end - at), style)
            words = f" {step.name} "
            if len(words) + 2 <= end - at:
                line.put(at + 1, words, style)
            at = end
        return line.end(colour=self.colour)

    def bar_line(self, bar: Bar) -> str:
        """One bar, from when it began to its end, with its words."""
        glyph, style = FATES[bar.fate]
        line = self.line()
        line.put(0, fit(bar.label, self.labels))
        start, end = self.column(bar.start), max(self.column(bar.end), self.column(bar.start) + 1)
        line.put(start, glyph * (end - start), style)
        if bar.cut is not None:
            cut = self.column(bar.cut)
            line.put(cut, CANCELLED * (end - cut), style)
        if bar.start < self.picture.start:
            line.put(start, "◀", style)
        if bar.end > self.picture.end:
            line.put(end, "▶", style)
        line.put(self.words, fit(bar.words, self.width - self.words), style)
        return line.end(colour=self.colour)

    def axis_lines(self) -> list[str]:
        """The axis with its round times; one too near the last is left out."""
        axis, words = _Line(self.width), _Line(self.width)
        axis.put(self.left, "─" * self.room, DIM)
        free = 0
        for tick in ticks(self.picture.end):
            at = self.column(tick.at)
            axis.put(at, "┴", DIM)
            if at >= free:
                words.put(at, tick.words, DIM)
                free = at + len(tick.words) + 1
        return [axis.end(colour=self.colour), words.end(colour=self.colour)]


def to_text(picture: Picture, width: int = 100, *, colour: bool = False, ascii_only: bool = False) -> str:
    """Draw a picture for a terminal.

    Args:
        picture: what to draw.
        width: columns; less than 60 is taken as 60.
        colour: whether the terminal knows colours. Every fate is also a word.
        ascii_only: for a terminal that knows nothing else.
    """
    chart = _Chart(picture, width, colour=colour)
    lines = [*textwrap.wrap(picture.heading, chart.width, break_on_hyphens=False), "", *chart.mark_lines()]
    for group in picture.groups:
        lines += [group.title] if group.title else []
        lines += [chart.phase_line(group)] if group.phases else []
        lines += [chart.bar_line(bar) for bar in group.bars]
    lines += [*chart.axis_lines(), ""]
    for group in picture.groups:
        indent = "  " if group.title else ""
        lines += [group.title] if group.title else []
        for note in foot(group):
            wrapped = textwrap.wrap(
                note,
                chart.width,
                initial_indent=indent,
                subsequent_indent=indent + "    ",
                break_on_hyphens=False,
            )
            lines += [line.replace(_TOGETHER, " ") for line in wrapped]
    text = "".join(f"{line}\n" for line in lines)
    return text.translate(_ASCII).encode("ascii", "backslashreplace").decode() if ascii_only else text


def foot(group: Group) -> list[str]:
    """What stands below the axis: how long each phase took, and what has no bar."""
    phases = [f"{step.name} {duration(step.end - step.start)}".replace(" ", _TOGETHER) for step in group.phases]
    return [f"Phases: {', '.join(phases)}.", *group.notes] if phases else group.notes
