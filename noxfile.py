"""One verb per command: `nox -s tests`, `lint`, `types`, `compat`, `docs`, `bench`, `mutate`, `demo`.

Plain `nox` runs what a change must pass. Words after `--` go to the tool behind the verb:
`nox -s tests -- -k relay`.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["tests", "lint", "types", "docs"]
nox.options.default_venv_backend = "venv"
# An interpreter that is not here is skipped, with a line that says so. By itself Nox would download it, or
# fail where the environment says CI.
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False

# Coverage is measured on the first: the same answer on every machine, whatever other interpreters it has.
INTERPRETERS = ["3.11", "3.12", "3.13", "3.14", "3.13t", "3.14t"]
MEASURED = INTERPRETERS[0]

PYPROJECT = nox.project.load_toml("pyproject.toml")
CODE = ["stario_trio", "tests", "examples", "benchmarks", "docs", "noxfile.py"]


def pyenv_interpreters() -> list[str]:
    """The folders of the real interpreters that pyenv holds.

    Its shims stand on PATH for every version but run only the active ones; these come behind them on PATH.
    """
    try:
        answer = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return [str(folder) for folder in sorted(Path(answer.stdout.strip()).glob("versions/*/bin"))]


os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], *pyenv_interpreters()])


def groups(*names: str) -> list[str]:
    """The requirements of these `[dependency-groups]`."""
    return list(nox.project.dependency_groups(PYPROJECT, *names))


@nox.session(python=INTERPRETERS)
def tests(session: nox.Session) -> None:
    """Run the tests on every interpreter there is; with words after `--` for pytest, nothing is measured."""
    free_threaded = str(session.python).endswith("t")
    # The oracles are compiled, and few have wheels for free-threaded builds: there, their tests skip. For the
    # same lack, `--prefer-binary`: rather an older Hypothesis that has a wheel than the newest built from Rust.
    oracles = [] if free_threaded else groups("oracles")
    session.install("-q", "--prefer-binary", "-e", ".", *groups("test"), *oracles)
    # Without this, one extension that does not know free threading would quietly bring the GIL back.
    env = {"PYTHON_GIL": "0"} if free_threaded else {}
    if session.posargs or session.python != MEASURED:
        session.run("python", "-m", "pytest", *session.posargs, env=env)
        return
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", env=env)
    session.notify("coverage")


@nox.session
def coverage(session: nox.Session) -> None:
    """Report what `tests`, which queues this, has measured: all of the server, nearly all of the rest."""
    session.install("-q", *(need for need in groups("test") if need.startswith("coverage")))
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report", "--include=stario_trio/server/*", "--fail-under=100")
    session.run("coverage", "report", "--omit=stario_trio/server/*", "--fail-under=95")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and the Trio-specific rules (`.flake8`)."""
    session.install("-q", *groups("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("flake8", *CODE)


@nox.session
def types(session: nox.Session) -> None:
    """Check the types twice, and that every public name has one."""
    session.install("-q", "-e", ".", *groups("types", "test", "bench"))
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "--verifytypes", "stario_trio", "--ignoreexternal")


@nox.session
def mutate(session: nox.Session) -> None:
    """Break each clause of the specification on purpose, and see its tests fail; renews `docs/reference/mutations.md`.

    Words after `--` are the clauses to try, such as SD-07.
    """
    session.install("-q", "-e", ".", *groups("test"))
    session.run("python", "tests/mutations.py", *session.posargs)


@nox.session
def compat(session: nox.Session) -> None:
    """Run `tests/compat` with trio-typing and httpx. No other environment holds trio-typing (README)."""
    session.install("-q", "-e", ".", *groups("test", "compat"))
    session.run("python", "-m", "pytest", "tests/compat", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the docs, every warning an error. `-- --fast` leaves out the links to other sites."""
    session.install("-q", "-e", ".", *groups("docs"))
    sphinx = ("python", "-m", "sphinx", "-W", "--keep-going", "-n", "-q")
    session.run(*sphinx, "-b", "html", "docs", "docs/_build/html")
    if "--fast" not in session.posargs:
        session.run(*sphinx, "-b", "linkcheck", "docs", "docs/_build/links")
    session.log("Open docs/_build/html/index.html")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure CPU time per request or, with `-- stop`, what a stop takes and does; side by side with other servers."""
    session.install("-q", "-e", ".", *groups("bench"))
    benchmark, *words = session.posargs or ["hello"]
    if benchmark.startswith("-"):
        benchmark, words = "hello", session.posargs
    session.run("python", f"benchmarks/{benchmark}.py", *words)


@nox.session
def demo(session: nox.Session) -> None:
    """Serve the example that the README opens in a browser."""
    session.install("-q", "-e", ".")
    session.run("python", "examples/hello.py", *session.posargs)
