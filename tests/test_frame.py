"""The frame holds together: commands, levels, documents and code say the same."""

from __future__ import annotations

import ast
import math
import re
import subprocess
from dataclasses import MISSING, Field, fields
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import stario_trio
from stario_trio.server.config import Config, Limits

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "stario_trio"
README = (ROOT / "README.md").read_text()
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])


# Commands


def readme_commands() -> list[str]:
    """The blocks of README.md that a reader pastes into a shell."""
    return re.findall(r"^```sh\n(.*?)\n```$", README, re.MULTILINE | re.DOTALL)


def test_the_readme_has_two_commands_of_one_line() -> None:
    serve, tests = readme_commands()
    assert "\n" not in serve + tests
    [example] = re.findall(r"examples/\w+\.py", serve)
    assert (ROOT / example).is_file()
    assert tests.endswith("nox -s tests")


def test_the_checks_run_the_readmes_test_command() -> None:
    _serve, tests = readme_commands()
    lines = [line.strip() for line in (ROOT / ".ci/run").read_text().splitlines()]
    assert lines.count(tests) == 1


def test_every_verb_of_the_readme_is_a_session() -> None:
    tree = ast.parse((ROOT / "noxfile.py").read_text())
    sessions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list}
    [sentence] = re.findall(r"^`nox -s lint`.*?do what", README, re.MULTILINE | re.DOTALL)
    verbs = {words.removeprefix("nox -s ") for words in re.findall(r"`(.*?)`", sentence)}
    # `tests` has a command of its own, and queues `coverage`.
    assert verbs | {"tests", "coverage"} == sessions


def test_every_example_is_run_by_a_test() -> None:
    tests = (ROOT / "tests/test_examples.py").read_text()
    examples = [path.name for path in ROOT.glob("examples/*.py")]
    assert examples
    assert [name for name in examples if f'running("{name}"' not in tests] == []


# What must not stand in a tracked file

# Written so that this line does not match itself.
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:wor[k]|roo[t]|hom[e]/\w+|User[s]/\w+)/[\w.]")


def tracked_files() -> list[Path]:
    listing = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode != 0:
        pytest.skip("not a git repository")
    return [path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_names_a_path_of_one_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line}"
        for path in tracked_files()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("text", ["/{}k/main", "see /{}t/.cache", "'/{}e/me/x'"])
def test_a_path_of_one_machine_is_recognised(text: str) -> None:
    assert any(MACHINE_PATH.search(text.format(start)) for start in ("wor", "roo", "hom"))


@pytest.mark.parametrize(
    "text", ["docs/work/x", "https://example.com/home", "/workers/1", "../root/x", "/run/myapp/server.sock"]
)
def test_other_paths_are_not(text: str) -> None:
    assert not MACHINE_PATH.search(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


# Levels

# A file imports only from its own level and those below it.
LEVELS = {
    "exceptions": 0,
    "telemetry": 1,
    "html": 1,
    "text": 1,
    "relay": 2,
    "datastar": 3,
    "http": 4,
    "server": 5,
    "testing": 6,
    "report": 6,
    "cli": 7,
    "__main__": 8,
    "__init__": 8,
}
# The one door upwards: with it, `app.serve()` is all that a program needs.
DOOR = ("http/app.py", "server")

# Plain functions of their input, which need no Trio to be run or tested.
NO_TRIO = [
    "exceptions.py",
    "server/phases.py",
    "server/config.py",
    "server/report.py",
    "server/wire/*",
    "http/writer.py",
    "http/coding.py",
    "http/compression.py",
    "http/headers.py",
    "http/query.py",
    "http/cookies.py",
    "http/router.py",
    "http/unmatched.py",
    "http/misfits.py",
    "html.py",
    "text.py",
    "datastar/*",
]

# What only few may touch, and who.
RESERVED = {
    "threading": ["server/threads.py", "telemetry/*", "relay.py", "http/staticassets/threads.py"],
    "signal": ["server/signals.py", "server/asyncio_facade.py"],
    "asyncio": ["server/asyncio_facade.py"],
}


class Import(NamedTuple):
    """One module that a file names, and whether the file really loads it or only its type checker does."""

    module: str
    loaded: bool


def imports_of(source: str, package: str) -> list[Import]:
    """Every import of a file in `package`, those inside functions too, with relative ones made absolute."""
    found: list[Import] = []

    def visit(node: ast.AST, *, loaded: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, loaded) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = ".".join(parents[: len(parents) + 1 - node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            # `from package import name` may name a module as well as a thing inside `package`.
            found.extend(Import(f"{module}.{alias.name}", loaded) for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for guarded in node.body:
                visit(guarded, loaded=False)
            for other in node.orelse:
                visit(other, loaded=loaded)
        else:
            for child in ast.iter_child_nodes(node):
                visit(child, loaded=loaded)

    visit(ast.parse(source), loaded=True)
    return found


def test_imports_are_found_wherever_they_stand() -> None:
    source = """
import trio.lowlevel
from . import phases
from ..relay import Relay
if TYPE_CHECKING:
    from stario_trio.http.app import Stario
def late():
    from stario_trio import http
"""
    assert imports_of(source, "stario_trio.server") == [
        Import("trio.lowlevel", loaded=True),
        Import("stario_trio.server.phases", loaded=True),
        Import("stario_trio.relay.Relay", loaded=True),
        Import("stario_trio.http.app.Stario", loaded=False),
        Import("stario_trio.http", loaded=True),
    ]


class Module(NamedTuple):
    name: str
    imports: list[Import]

    @property
    def level(self) -> int:
        return LEVELS[self.name.split("/")[0].removesuffix(".py")]

    def is_one_of(self, patterns: list[str]) -> bool:
        return any(fnmatch(self.name, pattern) for pattern in patterns)


def read_modules() -> list[Module]:
    modules = list[Module]()
    for path in sorted(PACKAGE.rglob("*.py")):
        package = ".".join(path.parent.relative_to(ROOT).parts)
        imports = imports_of(path.read_text(), package)
        modules.append(Module(path.relative_to(PACKAGE).as_posix(), imports))
    return modules


MODULES = read_modules()
each_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)


@each_module
def test_a_file_imports_only_downwards(module: Module) -> None:
    upwards = list[str]()
    for name, loaded in module.imports:
        top, _, rest = name.partition(".")
        part = rest.split(".")[0]
        if loaded and top == "stario_trio" and (module.name, part) != DOOR:
            # What is no part of the package is a public name, and those stand at the top.
            level = LEVELS.get(part, LEVELS["__init__"])
            if level > module.level:
                upwards.append(name)
    assert upwards == []


@each_module
def test_a_file_that_needs_no_trio_imports_none(module: Module) -> None:
    if module.is_one_of(NO_TRIO):
        assert [name for name, _ in module.imports if name.split(".")[0] == "trio"] == []


@each_module
def test_threads_signals_and_asyncio_stay_where_they_belong(module: Module) -> None:
    loaded = {name.split(".")[0] for name, loaded in module.imports if loaded}
    assert [name for name, homes in RESERVED.items() if name in loaded and not module.is_one_of(homes)] == []


# Documents and code


def table_rows(page: str, heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, as cells."""
    text = (ROOT / "docs" / page).read_text()
    table = re.search(rf"^#+ {re.escape(heading)}\n(?:(?!#).*\n)*?\|---.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert table is not None, f"{page} has no table below {heading!r}"
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in table[1].splitlines()]


def documented_defaults(heading: str) -> dict[str, Any]:
    names = {"math": math, "Limits": Limits}
    rows = table_rows("reference/settings.md", heading)
    return {setting.strip("`"): eval(default.strip("`"), names) for setting, default, _ in rows}


def defaults(of: type[Config | Limits]) -> dict[str, Any]:
    def default(field: Field[Any]) -> Any:
        return field.default_factory() if field.default_factory is not MISSING else field.default

    return {field.name: default(field) for field in fields(of)}


@pytest.mark.parametrize(("heading", "of"), [("Settings", Config), ("Limits", Limits)])
def test_the_settings_page_has_every_setting_and_its_default(heading: str, of: type[Config | Limits]) -> None:
    documented = documented_defaults(heading)
    assert documented == defaults(of)
    assert list(documented) == [field.name for field in fields(of)], "the same order is easier to compare"


def test_the_api_page_has_every_public_name() -> None:
    page = (ROOT / "docs/reference/api.md").read_text()
    documented = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert sorted(documented) == sorted(stario_trio.__all__)
