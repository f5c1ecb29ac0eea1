"""Draw the shutdown machine from its table: `python docs/pictures/transitions.py` renews both.

* the table in `docs/reference/lifecycle.md`, between its two marks;
* `docs/pictures/transitions.svg`.

A test compares both with the code, so they cannot fall behind it.
"""

from __future__ import annotations

from pathlib import Path

from stario_trio.server.phases import TRANSITIONS, Cause, Phase

HERE = Path(__file__).parent
PAGE = HERE.parent / "reference" / "lifecycle.md"
PICTURE = HERE / "transitions.svg"
BEGIN, END = "<!-- transitions: begin -->\n", "<!-- transitions: end -->\n"

WIDTH, HEIGHT, GAP, LEFT, TOP = 190, 44, 62, 20, 20
STYLE = """
    text { font: 13px system-ui, sans-serif; fill: #24292f }
    .box { fill: #f2b84b; stroke: #7a5a12 } .last { fill: #cfd8cf }
    .line { fill: none; stroke: #57606a; stroke-width: 1.5 } .outer { stroke-dasharray: 5 4 }
    .why { font-size: 11.5px; fill: #57606a }
    @media (prefers-color-scheme: dark) { .why { fill: #aab2bb } .line { stroke: #aab2bb } }
"""


def steps() -> list[tuple[Phase, Phase, list[Cause]]]:
    """The changes of the table by where they begin and end; what changes nothing is left out."""
    found: dict[tuple[Phase, Phase], list[Cause]] = {}
    for (phase, cause), to in TRANSITIONS.items():
        if to is not phase:
            found.setdefault((phase, to), []).append(cause)
    return [(phase, to, causes) for (phase, to), causes in found.items()]


def table() -> str:
    """The table as Markdown: a row a phase, and what can happen in it."""
    lines = ["| In | when | then |", "|---|---|---|"]
    for phase, to, causes in steps():
        lines.append(f"| `{phase.name}` | {' · '.join(cause.value for cause in causes)} | `{to.name}` |")
    for phase in Phase:
        idle = [cause.value for (at, cause), to in TRANSITIONS.items() if at is phase and to is phase]
        if idle:
            lines.append(f"| `{phase.name}` | {' · '.join(idle)} | nothing changes |")
    return "\n".join(lines) + "\n"


def picture() -> str:
    """The machine as SVG: the phases from top to bottom, the outer cancel as a way past them."""
    boxes: list[str] = []
    lines: list[str] = []

    def y(phase: Phase) -> int:
        return TOP + phase * (HEIGHT + GAP)

    for phase in Phase:
        kind = "box last" if phase is Phase.STOPPED else "box"
        boxes.append(f'<rect class="{kind}" x="{LEFT}" y="{y(phase)}" width="{WIDTH}" height="{HEIGHT}" rx="8"/>')
        middle = LEFT + WIDTH // 2
        boxes.append(f'<text x="{middle}" y="{y(phase) + 27}" text-anchor="middle">{phase.name}</text>')
    way = LEFT + WIDTH + 330
    outer = [phase for phase, _, causes in steps() if Cause.OUTER_CANCEL in causes]
    target = next(to for _, to, causes in steps() if Cause.OUTER_CANCEL in causes)
    for phase, to, causes in steps():
        if causes == [Cause.OUTER_CANCEL]:
            start = y(phase) + HEIGHT // 2
            lines.append(f'<path class="line outer" d="M{LEFT + WIDTH} {start} H{way}"/>')
            continue
        x, start = LEFT + WIDTH // 2, y(phase) + HEIGHT
        lines.append(f'<path class="line" marker-end="url(#tip)" d="M{x} {start} V{y(to) - 3}"/>')
        first = start + GAP // 2 + 4 - 7 * (len(causes) - 1)
        for number, cause in enumerate(causes):
            lines.append(f'<text class="why" x="{x + 12}" y="{first + 14 * number}">{cause.value}</text>')
    top, bottom = y(outer[0]) + HEIGHT // 2, y(target) + HEIGHT // 2
    lines.append(f'<path class="line outer" marker-end="url(#tip)" d="M{way} {top} V{bottom} H{LEFT + WIDTH + 3}"/>')
    lines.append(
        f'<text class="why" x="{way - 8}" y="{bottom - 8}" text-anchor="end">{Cause.OUTER_CANCEL.value}</text>'
    )
    size = f"{way + 20} {y(Phase.STOPPED) + HEIGHT + TOP}"
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" role="img">
  <title>The phases of a stop, and what leads from one to the next</title>
  <style>{STYLE}  </style>
  <defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">
    <path d="M0 0 L8 4 L0 8 z" fill="#57606a"/></marker></defs>
  {chr(10).join(["  " + line for line in lines + boxes]).strip()}
</svg>
"""


def page() -> str:
    """The page with its table renewed."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    PICTURE.write_text(picture(), encoding="utf-8")
