"""Draws `docs/reference/parity.md` from the tables beside this file: `python -m tests.parity.page` writes it anew."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from tests.parity.compare import added, read_signature
from tests.parity.known import BUGS, SERVER_PAGE, WIRE, Promise
from tests.parity.markers import ROOT, marked_tests
from tests.parity.upstream import MODULES, find, read_names, signature_of
from tests.parity.verdicts import VERDICTS, LeftOut, NameOnly, Same, Verdict, verdict_on

__all__ = ["PAGE", "page"]

PAGE = ROOT / "docs" / "reference" / "parity.md"

_HEAD = """\
# Parity with Stario 2.2.1

Every public name of Stario 2.2.1, and what became of it here; the defects of Stario that are known, and the tests that
show them to be absent; and what its documentation promises beside what its code does. The names and their signatures
were read from the package itself. The tests compare each line with this package, so this page cannot go stale.

The modules have the same paths: `stario.http.router` is `stario_trio.http.router`.

* **same**: the same signature, defaults and types, and the same behaviour.
* **better**: every call of Stario's is taken as it is there; something is added or mended.
* **name only**: the thing is there and handlers use it as in Stario; only the server makes one, and in another way.
* **left out**: not there.
"""

_BUGS = """\
## Known defects of 2.2.1

`pytest --bug 23` runs the tests that show one of them to be absent. The numbers are those of the column "Why" above.

| # | In Stario 2.2.1 | Here | Shown by |
|---|---|---|---|
"""

_SERVER = """\
## What Stario's page on its server says

| It says | The code of 2.2.1 | Here | Shown by |
|---|---|---|---|
"""


_WIRE = """\
## On the wire

The same program, asked by the same bytes, answers the same bytes but for the defects above, the order of the lines in
an event, and this.

| A peer sends | Stario 2.2.1 | Here | Shown by |
|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    parts = [_HEAD, _totals()]
    names = read_names()
    by_module = groupby(sorted(names, key=lambda name: MODULES.index(_module_of(name))), key=_module_of)
    parts += [_module(module, {name: names[name] for name in group}) for module, group in by_module]
    parts += [_BUGS + _bug_rows(), _WIRE + _promise_rows(WIRE), _SERVER + _promise_rows(SERVER_PAGE)]
    return "\n".join(parts)


def _module_of(name: str) -> str:
    """The module a name stands in."""
    while name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def _totals() -> str:
    verdicts = [verdict_on(name).words for name in read_names()]
    counts = ", ".join(f"{verdicts.count(words)} {words}" for words in ("same", "better", "name only", "left out"))
    return f"Of {len(verdicts)} names: {counts}. Of {len(BUGS)} defects, none is here.\n"


def _module(module: str, shapes: dict[str, str]) -> str:
    text = f"## `{f'stario.{module}'.rstrip('.')}`\n\n"
    if module in VERDICTS:  # left out as a whole
        listed = ", ".join(f"`{_below(module, name)}`" for name in shapes)
        return f"{text}Left out: {listed}. {VERDICTS[module].why}\n"
    verdicts = {name: verdict_on(name) for name in shapes}
    same = [name for name, verdict in verdicts.items() if isinstance(verdict, Same)]
    rows = [_row(name, shapes[name], verdict) for name, verdict in verdicts.items() if name not in same]
    if rows:
        text += "| In Stario | Here | Verdict | Why |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    if same:
        listed = ", ".join(f"`{_below(module, name)}`" for name in same)
        text += "\n" * bool(rows) + f"Same: {listed}.\n"
    return text


def _below(module: str, name: str) -> str:
    return name.removeprefix(f"{module}.") if module else name


def _row(name: str, shape: str, verdict: Verdict) -> str:
    called = name.rsplit(".", 1)[-1]
    there = f"`{_below(_module_of(name), name)}`"
    new = "" if isinstance(verdict, (LeftOut, NameOnly)) else _additions(name, shape)
    here = "none" if isinstance(verdict, LeftOut) else new or f"`{called}`"
    why = verdict.why
    if verdict.bugs:
        why += " (" + ", ".join(f"#{number}" for number in verdict.bugs) + ")"
    return f"| {there} | {here} | {verdict.words} | {_cell(why)} |"


def _additions(name: str, shape: str) -> str:
    """The parameters that are new, as the code has them."""
    if not shape.startswith(("(", "async (")):
        return ""
    found: Any = find("stario_trio", name)
    row, _ = read_signature(shape)
    new = [parameter.name for parameter in added(row, signature_of(found))]
    return "with " + ", ".join(f"`{parameter}`" for parameter in new) if new else ""


def _bug_rows() -> str:
    tests = marked_tests()
    return "".join(
        f"| {number} | {_cell(bug.there)} | {_cell(bug.here)} | {_tests(tests.get(number, []))} |\n"
        for number, bug in BUGS.items()
    )


def _promise_rows(promises: list[Promise]) -> str:
    return "".join(
        f"| {_cell(promise.says)} | {_cell(promise.does)} | {_cell(promise.here)} | {_tests(list(promise.tests))} |\n"
        for promise in promises
    )


def _tests(tests: list[str]) -> str:
    """Tests as one cell, those of one file together."""
    by_file = groupby(tests, key=lambda test: test.split("::")[0])
    return "; ".join(
        f"{file.removeprefix('tests/')}: " + ", ".join(f"`{test.rsplit('::', 1)[-1]}`" for test in group)
        for file, group in by_file
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
