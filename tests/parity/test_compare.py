"""The comparison sees what a caller would meet."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.parity.compare import by_position, differences, read_signature
from tests.parity.upstream import Missing, find, read_names, shape_of, signature_of, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def promised(a: int, /, b: str = "b", *rest: bytes, c: float = 1.0, **more: object) -> None: ...
def wider(a: int, /, b: str = "b", *rest: bytes, c: float = 1.0, d: int = 0, **more: object) -> None: ...
def looser(a: object, /, b: str = "b", *rest: bytes, c: float = 1.0, **more: object) -> None: ...
def renamed(a: int, /, bb: str = "b", *rest: bytes, c: float = 1.0, **more: object) -> None: ...
def moved(b: str = "b", a: int = 0, *rest: bytes, c: float = 1.0, **more: object) -> None: ...
def defaulted(a: int, /, b: str = "x", *rest: bytes, c: float = 1.0, **more: object) -> None: ...
def demanding(a: int, z: int, /, b: str = "b", *rest: bytes, c: float = 1.0, **more: object) -> None: ...
def required(a: int, /, b: str = "b", *rest: bytes, c: float, **more: object) -> None: ...
def returning(a: int, /, b: str = "b", *rest: bytes, c: float = 1.0, **more: object) -> int:
    return a


TEXT = "(a: int, /, b: str = 'b', *rest: bytes, c: float = 1.0, **more: object) -> None"


def meets(function: Callable[..., Any], *, exact: bool) -> list[str]:
    row, _ = read_signature(TEXT)
    return differences(row, signature_of(function), {}, exact=exact)


def test_the_same_is_the_same() -> None:
    assert shape_of(promised) == TEXT
    assert meets(promised, exact=True) == []


@pytest.mark.parametrize("function", [wider, looser, returning])
def test_more_is_fine_unless_it_must_be_exact(function: Callable[..., Any]) -> None:
    assert meets(function, exact=False) == []
    assert len(meets(function, exact=True)) == 1


@pytest.mark.parametrize("function", [renamed, moved, defaulted, demanding, required])
def test_what_breaks_a_call_is_told(function: Callable[..., Any]) -> None:
    assert meets(function, exact=False)
    assert meets(function, exact=True)


@pytest.mark.parametrize(("spelled", "default"), [("1", True), ("1.0", 2.0), ("None", 0), ("'a'", b"a")])
def test_another_default_is_told(spelled: str, default: object) -> None:
    def function(a: object = default) -> None: ...

    row, _ = read_signature(f"(a: object = {spelled}) -> None")
    assert differences(row, signature_of(function), {}, exact=True) != []


def test_none_may_stand_for_a_default_and_anything_for_a_fresh_one() -> None:
    def function(a: str | None = None, b: dict[str, str] = {}) -> None: ...  # noqa: B006  (a default to compare)

    row, _ = read_signature("(a: str = 'x', b: dict[str, str] = ...) -> None")
    assert differences(row, signature_of(function), {}, exact=False) == []
    assert differences(row, signature_of(function), {}, exact=True) != []


def test_keywords_may_go_through_more() -> None:
    def function(**more: object) -> None: ...

    row, _ = read_signature("(*, a: int = 0) -> None")
    assert differences(row, signature_of(function), {}, exact=False) == []
    assert differences(row, signature_of(function), {}, exact=True) != []


def test_operators_are_called_by_position() -> None:
    row, _ = read_signature("(exc_type, exc_val) -> None")
    live, _ = read_signature("(kind, exc) -> None")
    assert differences(row, live, {}, exact=True) != []
    assert differences(by_position(row), by_position(live), {}, exact=True) == []


def test_async_is_read() -> None:
    signature, is_async = read_signature("async (a: int) -> str")
    assert is_async
    assert list(signature.parameters) == ["a"]


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        ("list['X']", "list[X]"),
        ("typing.Any", "Any"),
        ("Literal['a', 'b'] | None", "Literal['a', 'b'] | None"),
        ("typing.Literal['a']", "Literal['a']"),
        (int, "int"),
        (Literal["a"], "Literal['a']"),
        (inspect.Parameter.empty, ""),
    ],
)
def test_annotations_have_one_spelling(annotation: object, text: str) -> None:
    assert text_of(annotation) == text


def test_a_name_is_found_through_modules_and_classes() -> None:
    assert find("stario_trio", "http.app.Stario") is find("stario_trio", "Stario")
    assert inspect.isfunction(find("stario_trio", "http.headers.Headers.add"))
    for name in ("nowhere", "http.nowhere", "http.headers.Headers.nowhere", "http.headers.nowhere.more"):
        assert find("stario_trio", name) is Missing.NAME


def test_a_module_that_fails_to_import_is_not_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_name: str) -> object:
        raise ModuleNotFoundError("no such library", name="library")

    package = find("stario_trio", "http")
    monkeypatch.setattr(
        "tests.parity.upstream.importlib.import_module", lambda name: package if name == "p" else broken(name)
    )
    with pytest.raises(ModuleNotFoundError, match="library"):
        find("p", "unheard_of")


def test_shapes() -> None:
    class Sample:
        @property
        def fixed(self) -> int:
            return 1

        @property
        def settable(self) -> int:
            return 1

        @settable.setter
        def settable(self, value: int) -> None: ...

        async def wait(self, key: Mapping[str, Any], *, more: int = 1) -> None: ...

    found = vars(Sample)
    assert shape_of(found["fixed"]) == "property"
    assert shape_of(found["settable"]) == "property, settable"
    assert shape_of(found["wait"]) == "async (key: Mapping[str, Any], *, more: int = 1) -> None"
    assert (shape_of((1, 2)), shape_of({}), shape_of(1.5), shape_of("text")) == ("len 2", "len 0", "= 1.5", "object")
    assert shape_of(inspect) == "module"


def test_the_names_are_read() -> None:
    names = read_names()
    assert names["http.protocol.KEEP_ALIVE_TIMEOUT"] == "= 5.0"
    assert names["http.router.Router.mount"] == "(prefix: str, router: Router) -> None"
