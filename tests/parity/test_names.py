"""Every public name of Stario 2.2.1 is what `docs/reference/parity.md` says of it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest

import stario_trio
from stario_trio.http.compression import CompressionConfig
from stario_trio.testing import ResponseRecorder
from tests.parity.compare import by_position, differences, read_signature
from tests.parity.upstream import Missing, find, read_names, signature_of
from tests.parity.verdicts import VERDICTS, Better, LeftOut, NameOnly, Same, verdict_on

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = read_names()
#: What the defaults of a signature name.
DEFAULTS: dict[str, Any] = {"CompressionConfig": CompressionConfig}
#: Objects of the classes whose attributes are not to be seen on the class.
SAMPLES: dict[str, Callable[[], object]] = {
    "exceptions.StarioError": lambda: stario_trio.StarioError("wrong"),
    "exceptions.HttpException": lambda: stario_trio.HttpException(404),
    "testing.ResponseRecorder": ResponseRecorder,
    "telemetry.rich.RichTracer": lambda: stario_trio.RichTracer(),
}


def has_attribute(name: str) -> bool:
    owner, _, attribute = name.rpartition(".")
    if find("stario_trio", name) is not Missing.NAME:
        return True
    cls = find("stario_trio", owner) if owner else None
    promised = attribute in inspect.get_annotations(cls) if inspect.isclass(cls) else False
    return promised or (owner in SAMPLES and hasattr(SAMPLES[owner](), attribute))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_what_the_page_says(name: str) -> None:
    shape, verdict = NAMES[name], verdict_on(name)
    found = find("stario_trio", name)
    if isinstance(verdict, LeftOut):
        assert not has_attribute(name) or is_inherited(name)
    elif shape.startswith(("(", "async (")):
        row, is_async = read_signature(shape)
        live = signature_of(found)
        if name.endswith("__") and not name.endswith("__call__"):  # an operator calls by position
            row, live = by_position(row), by_position(live)
        different = differences(row, live, DEFAULTS, exact=isinstance(verdict, Same))
        # What only the server makes is made differently, or the verdict would be another one.
        assert bool(different) == isinstance(verdict, NameOnly), different
        assert inspect.iscoroutinefunction(found) == is_async
    elif shape.startswith("is "):
        assert found is find("stario_trio", shape.removeprefix("is "))
    elif shape.startswith("len ") and isinstance(verdict, Same):
        assert len(found) == int(shape.removeprefix("len "))
    elif shape.startswith("= "):
        assert found == eval(shape.removeprefix("= "))
    elif shape == "property, settable":
        assert isinstance(found, property)
        assert found.fset is not None
    else:
        assert has_attribute(name)


def is_inherited(name: str) -> bool:
    """An operator that every object has, such as `==`, and that the class does not make its own."""
    operator = name.rpartition(".")[2]
    return find("stario_trio", name) is getattr(object, operator, Missing)


def test_every_verdict_is_about_a_name_of_stario() -> None:
    modules = {name.rpartition(".")[0] for name in NAMES}
    assert [name for name in VERDICTS if name not in NAMES and name not in modules] == []


def test_every_verdict_has_its_reason() -> None:
    for name, verdict in VERDICTS.items():
        assert isinstance(verdict, (Better, NameOnly, LeftOut)), name
        assert verdict.why.endswith("."), name
