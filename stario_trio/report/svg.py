"""A picture as SVG: one file without script or font, for light and dark."""

from __future__ import annotations

import textwrap
from html import escape
from typing import TYPE_CHECKING, Final

from stario_trio.report.picture import duration, fit, lanes, ticks

if TYPE_CHECKING:
    from stario_trio.report.picture import Bar, Group, Picture

__all__ = ["to_svg"]

# Pixels. Text is measured by guess, since nobody knows the reader's fonts: each guess is on the wide side.
WIDTH: Final = 1060
EDGE: Final = 20
LEFT: Final = 190
RIGHT: Final = 720
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
  --stop_accepting: #3d7fe0; --draining: #7fb2dc; --force_closing: #ef6a6a; --cancelling: #f0975c;
  --awaiting: #c79a4f; --on: #0f151b } }
.stop .paper { fill: var(--paper) } .stop text { fill: var(--ink) }
.stop .heading { font-size: 16px; font-weight: 600 } .stop .worker { font-weight: 600 }
.stop .route { font-family: ui-monospace, Menlo, Consolas, monospace } .stop .dim { fill: var(--dim) }
.stop .grid { stroke: var(--grid) } .stop .mark { stroke: var(--mark); stroke-dasharray: 4 3 }
.stop .in { fill: var(--on); font-weight: 600 } .stop .cleanup { opacity: .42 } .stop .several { opacity: .5 }
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
    """Grows from top to bottom: `y` is where the next thing goes."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.y = EDGE
        self.parts: list[str] = []
        self.behind: list[str] = []
        """The lines that go through all rows."""

    def x(self, at: float) -> float:
        """Where a time stands, clipped to the axis."""
        picture = self.picture
        place = (at - picture.start) / (picture.end - picture.start)
        return LEFT + min(max(place, 0), 1) * (RIGHT - LEFT)

    def text(self, x: float, words: str, kind: str = "", *, centred: bool = False) -> None:
        """Words on the base line `y`."""
        attributes = (f' class="{kind}"' if kind else "") + (' text-anchor="middle"' if centred else "")
        self.parts.append(f'<text x="{x:.1f}" y="{self.y}"{attributes}>{escape(words)}</text>')

    def rect(self, start: float, end: float, kind: str) -> None:
        """A bar in the row whose base line is `y`."""
        where = f'x="{start:.1f}" y="{self.y - 12}" width="{end - start:.1f}" height="16"'
        self.parts.append(f'<rect class="{kind}" {where} rx="2"/>')

    def draw(self) -> str:
        """The whole file."""
        for words in textwrap.wrap(self.picture.heading, 96, break_on_hyphens=False):
            self.y += 20
            self.text(EDGE, words, "heading")
        self.y += 32
        tops = self.marks()
        top = self.y
        for group in self.picture.groups:
            self.group(group)
        for tick in ticks(self.picture.end):
            self.behind.append(_upright(self.x(tick.at), top, self.y, "grid"))
        for at, begin in tops:
            self.behind.append(_upright(self.x(at), begin, self.y, "mark"))
        self.axis()
        for group in self.picture.groups:
            self.foot(group)
        height = self.y + EDGE
        size = f'width="{WIDTH}" height="{height}"'
        about = f'viewBox="0 0 {WIDTH} {height}" {size} role="img" aria-labelledby="stop-title"'
        lines = [
            f'<svg class="stop" xmlns="http://www.w3.org/2000/svg" {about}>',
            f'<title id="stop-title">{escape(self.picture.heading)}</title>',
            f"<style>{STYLE}</style>",
            f'<rect class="paper" {size} rx="8"/>',
            *self.behind,
            *self.parts,
            "</svg>",
        ]
        # ASCII alone, so that it does not matter how the file or the output is encoded.
        return ("\n".join(lines) + "\n").encode("ascii", "xmlcharrefreplace").decode()

    def marks(self) -> list[tuple[float, int]]:
        """Write what the marks mean. Returns, for each on the axis, its time and where its line begins."""
        labels: list[tuple[float, str]] = []
        for mark in self.picture.marks:
            beyond = mark.at > self.picture.end
            words = f"{mark.words} at {round(mark.at, 2):g} s →" if beyond else mark.words
            labels.append((RIGHT - len(words) * WORD if beyond else self.x(mark.at), words))
        where = lanes([(x, x + len(words) * WORD + 10) for x, words in labels])
        first, begins = self.y, list[tuple[float, int]]()
        for mark, (x, words), lane in zip(self.picture.marks, labels, where, strict=True):
            self.y = first + lane * ROW * 2 // 3
            self.text(x + 5, words, "dim")
            if mark.at <= self.picture.end:
                begins.append((mark.at, self.y - 11))
        self.y = first + max(where) * ROW * 2 // 3 + 10
        return begins

    def group(self, group: Group) -> None:
        """One worker: its phases, then its bars."""
        if group.title:
            self.y += ROW
            self.text(EDGE, group.title, "worker")
        if group.phases:
            self.y += ROW
            self.text(EDGE, "phases", "worker")
            self.phases(group)
        for bar in group.bars:
            self.bar(bar)
        self.y += 10

    def phases(self, group: Group) -> None:
        """A segment each; one that took no time is a tick, and none hides another."""
        x = 0.0
        for step in group.phases:
            x = max(x, self.x(step.start))
            end = max(x + LEAST, self.x(step.end))
            took = f"{_words(step.name)} {duration(step.end - step.start)}"
            self.parts.append(f'<g data-phase="{step.name}"><title>{escape(took)}</title>')
            self.rect(x, end, step.name)
            if len(took) * WORD + 10 < end - x:
                self.text((x + end) / 2, took, "in", centred=True)
            self.parts.append("</g>")
            x = end

    def bar(self, bar: Bar) -> None:
        """One bar, from when it began to its end, with its words."""
        self.y += ROW
        kind = bar.fate.name.lower()
        title = "\n".join([f"{bar.label}: {bar.words}", *bar.stack])
        about = f'data-fate="{kind}"' + ("" if bar.ends else f' data-route="{escape(bar.label)}"')
        self.parts.append(f"<g {about}><title>{escape(title)}</title>")
        self.text(EDGE, fit(bar.label, int((LEFT - EDGE - 14) / CODE)), "route")
        start, end = self.x(bar.start), max(self.x(bar.end), self.x(bar.start) + LEAST)
        cut = end if bar.cut is None else min(max(self.x(bar.cut), start), end)
        several = " several" if bar.ends else ""
        self.rect(start, cut, kind + several)
        if cut < end:
            self.rect(cut, end, f"{kind} cleanup")
        for at in bar.ends:
            self.rect(self.x(at) - 1, self.x(at), kind)
        middle = self.y - 4
        if bar.start < self.picture.start:
            self.parts.append(f'<path class="{kind}" d="M{start:.1f} {middle - 8} v16 l-9 -8 z"/>')
        if bar.end > self.picture.end:
            self.parts.append(f'<path class="{kind}" d="M{end:.1f} {middle - 8} v16 l9 -8 z"/>')
        self.text(RIGHT + 14, fit(bar.words, int((WIDTH - RIGHT - EDGE - 14) / WORD)), kind)
        self.parts.append("</g>")

    def axis(self) -> None:
        """The round times below the rows: few enough to have room beside each other."""
        self.y += LINE
        for tick in ticks(self.picture.end):
            self.text(self.x(tick.at), tick.words, "dim", centred=True)
        self.y += 10

    def foot(self, group: Group) -> None:
        """How long each phase took, with its colour, and what has no bar."""
        x = EDGE
        if group.phases or group.notes:
            self.y += 8
        if group.phases:
            self.y += LINE
            if group.title:
                self.text(x, group.title, "worker")
                x += round(len(group.title) * WORD) + 16
        for step in group.phases:
            words = f"{_words(step.name)} {duration(step.end - step.start)}"
            self.parts.append(f'<rect class="{step.name}" x="{x}" y="{self.y - 9}" width="10" height="10" rx="2"/>')
            self.text(x + 16, words)
            x += round(len(words) * WORD) + 34
        for note in group.notes:
            for words in textwrap.wrap(note, round((WIDTH - 2 * EDGE) / WORD), break_on_hyphens=False):
                self.y += LINE
                self.text(EDGE, words, "dim")


def _upright(x: float, top: int, bottom: int, kind: str) -> str:
    return f'<line class="{kind}" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}"/>'


def _words(phase: str) -> str:
    return phase.replace("_", " ")
