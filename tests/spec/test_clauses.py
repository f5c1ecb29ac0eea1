"""The specification, the code and the tests tell of the same clauses, rings and steps."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path

import pytest

from stario_trio.server.phases import TRANSITIONS, Phase

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "lifecycle.md").read_text(encoding="utf-8")
CODE = {path: path.read_text(encoding="utf-8") for path in (ROOT / "stario_trio").rglob("*.py")}
TESTS = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
RINGS = PAGE.split("```\ncaller's run")[1].split("```")[0]
CLAUSE = re.compile(r"\b(?:ST|SD|SK|AL)-\d\d\b")
CLAUSES = re.findall(r"^\* \*\*((?:ST|SD|SK|AL)-\d\d)\*\*", PAGE, re.MULTILINE)


def test_each_clause_stands_once_and_in_order() -> None:
    assert len(CLAUSES) == len(set(CLAUSES))
    for kind in ("ST", "SD", "SK", "AL"):
        numbers = [int(clause[3:]) for clause in CLAUSES if clause.startswith(kind)]
        assert numbers == list(range(1, len(numbers) + 1))


def test_each_clause_stands_in_the_code_that_keeps_it() -> None:
    assert {clause for text in CODE.values() for clause in CLAUSE.findall(text)} == set(CLAUSES)


def test_each_clause_has_a_test() -> None:
    marked = {
        argument.value
        for text in TESTS.values()
        for call in ast.walk(ast.parse(text))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.spec"
        for argument in call.args
        if isinstance(argument, ast.Constant)
    }
    assert marked == set(CLAUSES)


def calls(name: str) -> list[tuple[str, ast.Call, str]]:
    """Every call of a method of this name in the server: the function it stands in, the call, and its source line."""
    found: list[tuple[str, ast.Call, str]] = []

    def look(node: ast.AST, inside: list[str], lines: list[str]) -> None:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            inside = [*inside, node.name]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name:
            found.append((".".join(inside), node, lines[node.lineno - 1]))
        for child in ast.iter_child_nodes(node):
            look(child, inside, lines)

    for path, text in CODE.items():
        if "server" in path.parts:
            look(ast.parse(text), [], text.splitlines())
    return found


def test_the_rings_of_the_picture_are_those_of_the_code() -> None:
    drawn = set(re.findall(r"\{(\w+)\}", RINGS))
    tags = [call.args[1] for _, call, _ in calls("until")]
    assert {tag.value for tag in tags if isinstance(tag, ast.Constant)} == drawn
    assert len(tags) == len(drawn)  # each is opened in exactly one function


def test_the_nurseries_of_the_picture_are_those_of_the_code() -> None:
    drawn = dict(re.findall(r"\(\[(\w)\]\) (\S+)", RINGS))
    opened = {}
    for function, _, line in calls("open_nursery"):
        letter = re.search(r"# \[(\w)\]", line)
        if letter:
            opened[letter[1]] = function
    assert opened == drawn


@pytest.mark.parametrize("path", [path for path in CODE if "server" in path.parts], ids=lambda path: path.name)
def test_one_nursery_a_function(path: Path) -> None:
    for node in ast.walk(ast.parse(CODE[path])):
        if isinstance(node, ast.AsyncFunctionDef):
            calls = [call for call in ast.walk(node) if isinstance(call, ast.Call)]
            inside = [call for call in calls if ast.unparse(call.func) == "trio.open_nursery"]
            assert len(inside) <= 1, node.name
            docstring = ast.get_docstring(node) or ""
            if inside:
                assert "Ends when:" in docstring, node.name
                assert "Cancelled by:" in docstring, node.name


def test_every_step_of_starios_page_has_its_phase() -> None:
    steps = PAGE.split("| Stario's page | here |")[1].split("\n\n")[0].splitlines()[2:]
    assert len(steps) == 7
    for phase in Phase:
        if phase not in (Phase.SERVING, Phase.STOPPED):
            assert any(f"`{phase.name}`" in step for step in steps), phase


def test_the_table_leads_only_forwards_and_always_to_the_end() -> None:
    assert all(to >= phase for (phase, _), to in TRANSITIONS.items())
    for phase in Phase:
        if phase is not Phase.STOPPED:
            assert any(to > phase for (at, _), to in TRANSITIONS.items() if at is phase)


def test_table_and_picture_are_drawn_from_the_code() -> None:
    drawing = runpy.run_path(str(ROOT / "docs" / "pictures" / "transitions.py"))
    assert drawing["page"]() == PAGE, "run docs/pictures/transitions.py"
    assert drawing["picture"]() == drawing["PICTURE"].read_text(encoding="utf-8"), "run docs/pictures/transitions.py"
