"""docs/how-to/testing.md: what it prints is a file of tests that runs, and it names what handlers must not use."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

from stario_trio import Writer
from stario_trio.testing import ResponseRecorder

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/testing.md").read_text()
GUIDE = (ROOT / "tests/testing/test_guide.py").read_text()


def printed() -> str:
    """The blocks of the page, in its order."""
    blocks: list[str] = []
    lines = GUIDE.splitlines()
    definitions = {
        node.name: "\n".join(
            lines[min([node.lineno, *(each.lineno for each in node.decorator_list)]) - 1 : node.end_lineno]
        )
        for node in ast.parse(GUIDE).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    for options in re.findall(r"```\{literalinclude\} \S+/test_guide\.py\n(.*?)```", PAGE, re.DOTALL):
        [(name, value)] = [each for each in re.findall(r":(\S+): (.*)", options) if each[0] in ("pyobject", "start-at")]
        if name == "pyobject":
            blocks.append(definitions.pop(value))
        else:
            [end] = re.findall(r":end-before: (.*)", options)
            blocks.append(GUIDE[GUIDE.index(value) : GUIDE.index(end)])
    assert definitions == {}, "all of it is printed"
    return "\n\n\n".join(blocks)


def test_what_is_printed_runs(tmp_path: Path) -> None:
    (tmp_path / "test_printed.py").write_text(printed())
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\ntrio_mode = true\nfilterwarnings = error\naddopts = -p no:cacheprovider"
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"{GUIDE.count('async def test_')} passed" in run.stdout


def test_it_names_what_only_the_recorder_has() -> None:
    [words] = re.findall(r"Some things only the recorder has.*?\n\n", PAGE, re.DOTALL)
    only = {
        name
        for name in dir(ResponseRecorder)
        if inspect.isfunction(getattr(ResponseRecorder, name)) and name[0] != "_" and not hasattr(Writer, name)
    }
    only -= {name for name in only if re.match("assert_|.*_body", name)}  # a test calls them, no handler
    assert only == set(re.findall(r"`(\w+)`", words.partition(";")[0]))
