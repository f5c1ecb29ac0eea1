"""The tests and their markers, as they stand in the files."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

__all__ = ["ROOT", "all_tests", "marked_tests"]

ROOT = Path(__file__).parents[2]


@cache
def all_tests() -> dict[str, tuple[int, ...]]:
    """Every test as `tests/folder/file.py::name`, with the numbers of its `upstream_bug` markers."""
    found: dict[str, tuple[int, ...]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        here = path.relative_to(ROOT).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        whole = _numbers([node.value for node in tree.body if isinstance(node, ast.Assign) and _is_pytestmark(node)])
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
                found[f"{here}::{node.name}"] = _numbers(node.decorator_list) + whole
    return found


def marked_tests() -> dict[int, list[str]]:
    """The tests that are marked with each number."""
    found: dict[int, list[str]] = {}
    for test, numbers in all_tests().items():
        for number in numbers:
            found.setdefault(number, []).append(test)
    return found


def _numbers(marks: list[ast.expr]) -> tuple[int, ...]:
    return tuple(
        argument.value
        for mark in marks
        for call in ast.walk(mark)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.upstream_bug"
        for argument in call.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, int)
    )


def _is_pytestmark(node: ast.Assign) -> bool:
    return any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets)
