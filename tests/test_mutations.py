"""The table of mutations fits the code it wants to break (the session itself is `nox -s mutate`)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutations import MUTATIONS, ROOT, Mutation

each = pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: f"{mutation.clause} {mutation.words}")


@each
def test_a_mutation_changes_one_place_and_is_still_python(mutation: Mutation) -> None:
    code = (ROOT / "stario_trio" / mutation.path).read_text(encoding="utf-8")
    assert code.count(mutation.old) == 1
    ast.parse(code.replace(mutation.old, mutation.new))


def test_each_clause_has_a_mutation() -> None:
    page = Path(ROOT, "docs", "reference", "lifecycle.md").read_text(encoding="utf-8")
    for mutation in MUTATIONS:
        assert f"**{mutation.clause}**" in page
    clauses = {line[4:9] for line in page.splitlines() if line.startswith(("* **ST-", "* **SD-", "* **SK-", "* **AL-"))}
    assert {mutation.clause for mutation in MUTATIONS} == clauses
