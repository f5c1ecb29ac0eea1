"""A picture as SVG: one file without script or font, for light and dark."""

from __future__ import annotations

import textwrap
from html import escape
from typing import TYPE_CHECKING, Final

from stario_trio.report.picture import duration, lanes, ticks

if TYPE_CHECKING:
    from stario_trio.report.picture import Bar, Group, Mark, Picture

__all__ = ["to_svg"]

# Pixels. Text is measured by guess, since nobody knows the reader's fonts: each guess is on the wide side.
WIDTH: Final = 1040
EDGE: Final = 20
LEFT: Final = 190
RIGHT: Final = 750
ROW: Final = 26
LINE: Final = 18
CODE: Final = 7.3  # a character of 12 px monospace
WORD: Final = 6.9  # an average character of 12 px sans-serif
LEAST: Final = 3  # a phase that took no time is still seen

STYLE: Final = """
.stop { --paper: #ffffff; --ink: #1f2933; --dim: #5b6773; --grid: #e4e8ec; --mark: #8592a0;
  --finished: #2f8f63; --left: #5d7f99; --cut: #b56a00; --error: #c23434; --abandoned: #8446a8;
  --stop_accepting: #2f6fb3; --draining: #86b8e0; --force_closing: #c23434; --cancelling: #e07b39;
  --awaiting: #edc47c; --on: #14202b;
  font: 12px system-ui, "Helvetica Neue", Arial, sans-serif }
@media (prefers-color-scheme: dark) { .stop { --paper: #161b21; --ink: #e4e9ee; --dim: #a2aebb; --grid: #2a323b;
  --mark: #758392; --finished: #5cc492; --left: #93b4cc; --cut: #eda73c; --error: #f27d7d; --abandoned: #c79be6;
  --stop_accepting: #5b9bdd; --draining: #5f94c0; --force_closing: #ef6a6a; --cancelling: #f0975c;
  --awaiting: #c79a4f; --on: #0f151b } }
.stop .paper { fill: var(--paper) } .stop text { fill: var(--ink) }
.stop .heading { font-size: 16px; font-weight: 600 } .stop .worker { font-weight: 600 }
.stop .route { font-family: ui-monospace, Menlo, Consolas, monospace } .stop .dim { fill: var(--dim) }
.stop .grid { stroke: var(--grid) } .stop .mark { stroke: var(--mark); stroke-dasharray: 4 3 }
.stop .in { fill: var(--on); font-weight: 600 } .stop .cleanup { opacity: .42 } .stop .several { opacity: .5 }
.stop .each { stroke: var(--ink); stroke-width: 1; opacity: .6 }
""" + "".join(
    f".stop .{name} {{ fill: var(--{name}) }}\n"
    for name in (
        *("finished", "left", "cut", "error", "abandoned"),
        *("stop_accepting", "draining", "force_closing", "cancelling", "awaiting"),
    )
)


def to_svg(picture: Picture) -> str:
    """Draw a picture for a page: its `<title>` is the sentence, and each bar and phase has one of its own."""
    return _Drawing(picture).draw()


class _Drawing:
    """Grows from top to bottom."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.y = EDGE
        self.parts: list[str] = []

    def x(self, at: float) -> float:
        """Where a time stands, clipped to the axis."""
        picture = self.picture
        place = (at - picture.start) / (picture.end - picture.start)
        return LEFT + min(max(place, 0), 1) * (RIGHT - LEFT)

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "") -> None:
        attributes = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor else "")
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{_safe(words)}</text>')

    def rect(self, x: float, width: float, kind: str, height: int = 16) -> None:
        y = self.y + (ROW - height) / 2
        self.parts.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}" rx="2"/>'
        )

    def line(self, x: float, top: float, bottom: float, kind: str) -> None:
        self.parts.append(f'<line class="{kind}" x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{bottom:.1f}"/>')

    def draw(self) -> str:
        heading = self.picture.heading
        for words in textwrap.wrap(heading, 96):
            self.y += LINE
            self.text(EDGE, self.y, words, "heading")
            self.y += 4
        self.y += LINE
        top = self.marks()
        behind = len(self.parts)  # lines that go through all rows stand behind them
        for group in self.picture.groups:
            self.group(group)
        self.parts[behind:behind] = self.through(top)
        self.axis()
        for group in self.picture.groups:
            self.foot(group)
        height = self.y + EDGE
        return (
            f'<svg class="stop" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img" aria-labelledby="stop-title">\n'
            f'<title id="stop-title">{_safe(heading)}</title>\n<style>{STYLE}</style>\n'
            f'<rect class="paper" width="{WIDTH}" height="{height}" rx="8"/>\n' + "\n".join(self.parts) + "\n</svg>\n"
        )

    def marks(self) -> list[tuple[Mark, int]]:
        """Write the words of the marks. Returns, for each on the axis, where its line begins."""
        labels: list[tuple[float, str]] = []
        for mark in self.picture.marks:
            beyond = mark.at > self.picture.end
            words = f"{mark.words} at {mark.at:g} s →" if beyond else mark.words
            labels.append((RIGHT - len(words) * WORD if beyond else self.x(mark.at), words))
        where = lanes([(x, x + len(words) * WORD + 8) for x, words in labels])
        begins: list[tuple[Mark, int]] = []
        for mark, (x, words), lane in zip(self.picture.marks, labels, where, strict=True):
            y = self.y + lane * LINE
            self.text(x + 4, y, words, "dim")
            if mark.at <= self.picture.end:
                begins.append((mark, y - 10))
        self.y += max(where) * LINE + 8
        return begins

    def through(self, begins: list[tuple[Mark, int]]) -> list[str]:
        """The lines behind all rows: round times and marks."""
        drawn, self.parts = self.parts, []
        for tick in ticks(self.picture.end):
            self.line(self.x(tick.at), self.y - self.rows, self.y, "grid")
        for mark, top in begins:
            self.line(self.x(mark.at), top, self.y, "mark")
        lines, self.parts = self.parts, drawn
        return lines
