"""Signals as a type of the program. Annotations are strings in this file; `without_strings` has them as objects."""

from __future__ import annotations

import dataclasses
import gc
import math
import sys
import types
import typing
import weakref
from dataclasses import InitVar, dataclass, field
from typing import (  # noqa: UP035  (people use `List`)
    Annotated,
    Any,
    ClassVar,
    Generic,
    List,
    Literal,
    NamedTuple,
    NotRequired,
    Optional,
    Required,
    TypedDict,
    TypeVar,
    Union,
)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stario_trio.datastar import parse
from stario_trio.datastar.parse import FieldInfo, parse_signals, signals_object
from stario_trio.exceptions import HttpException, StarioError

if typing.TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

T = TypeVar("T")


@dataclass
class Search:
    text: str
    page: int = 1
    tags: list[int] = field(default_factory=list)


class Filter(TypedDict):
    active: bool
    limit: NotRequired[int]


def refused(data: Any, schema: type) -> str:
    """The detail of the 400 that the signals are answered with."""
    with pytest.raises(HttpException) as info:
        parse_signals(data, schema)
    assert info.value.status_code == 400
    return info.value.detail


# Coercion: the table of the original


@pytest.mark.parametrize(
    ("target", "value", "result"),
    [
        (bool, True, True),
        (bool, "true", True),
        (bool, "YES", True),
        (bool, "on", True),
        (bool, "1", True),
        (bool, " true", False),
        (bool, "no", False),
        (bool, "", False),
        (bool, 2, True),
        (bool, [], False),
        (int, 3, 3),
        (int, True, 1),
        (int, 3.7, 3),
        (int, " 4_2 ", 42),
        (int, "abc", "abc"),
        (int, "3.14", "3.14"),
        (int, "", ""),
        (int, [1], [1]),
        (float, 3, 3.0),
        (float, True, 1.0),
        (float, "3.5", 3.5),
        (float, "x", "x"),
        (float, {}, {}),
        (str, "é", "é"),
        (str, 1, "1"),
        (str, True, "True"),
        (str, [1, None], "[1, None]"),
        (list[int], ["1", "x", None], [1, "x", None]),
        (list[int], "1", "1"),
        (list[list[int]], [["1"], "2"], [[1], "2"]),
        (list, ["1"], ["1"]),
        (List[int], ["1"], [1]),  # noqa: UP006
        (List, ["1"], ["1"]),  # noqa: UP006
        (str | int, "42", "42"),
        (str | int, 42, "42"),
        (int | str, "42", 42),
        (int | None, "abc", "abc"),
        (int | None, "7", 7),
        (Optional[int], "7", 7),  # noqa: UP045
        (Union[int, str], "x", "x"),  # noqa: UP007
        (bool | str, "no", False),
        (list[int] | int, "7", 7),
        (list[int] | int, ["7"], [7]),
        (Literal["a"] | int, "7", 7),
        (Literal["a"] | int, "a", "a"),
        (type(None), "x", "x"),
        (dict[str, int], {"a": "1"}, {"a": "1"}),
        (tuple[int, int], ["1", "2"], ["1", "2"]),
        (set[int], ["1"], ["1"]),
        (Literal["1", 2], "2", "2"),
        (Any, "1", "1"),
        (Search, {"text": 1}, {"text": 1}),
        (Filter, {"active": 1}, {"active": 1}),
    ],
)
def test_coercion(target: Any, value: Any, result: Any) -> None:
    coerced = parse._coerce(value, target)
    assert coerced == result
    assert type(coerced) is type(result)
    assert parse._coerce(None, target) is None


@pytest.mark.upstream_bug(49)
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_bug_49_what_is_no_integer_stays_as_it_came(value: float) -> None:
    assert parse._coerce(value, int) is value


@pytest.mark.upstream_bug(49)
def test_bug_49_other_numbers_and_depths_stay_too() -> None:
    assert parse._coerce(10**400, float) == 10**400
    assert parse._coerce(10**5000, str) == 10**5000
    deep: list[Any] = []
    for _ in range(200_000):
        deep = [deep]
    assert parse._coerce(deep, str) is deep


# Dataclasses


def test_a_dataclass() -> None:
    assert parse_signals({"text": 1, "page": "2", "tags": ["3"], "other": 4}, Search) == Search("1", 2, [3])
    assert parse_signals({"text": "x"}, Search) == Search("x", 1, [])
    assert parse_signals({"text": None, "page": None}, Search) == Search(None, None)  # type: ignore[arg-type]


@pytest.mark.upstream_bug(50)
def test_bug_50_a_missing_field_is_named() -> None:
    assert refused({}, Search) == "Invalid signals: missing text"

    @dataclass
    class Two:
        a: int
        b: int
        c: int = 3

    assert refused({"b": 1}, Two) == "Invalid signals: missing a"
    assert refused({"c": 1}, Two) == "Invalid signals: missing a, b"


@pytest.mark.upstream_bug(50)
@pytest.mark.parametrize("value", [[1], [], None, "x", "", 1, 0, True, 1.5])
@pytest.mark.parametrize("schema", [Search, Filter])
def test_bug_50_what_is_no_object_is_refused(value: Any, schema: type) -> None:
    assert refused(value, schema) == "Invalid signals: not a JSON object"
    with pytest.raises(HttpException, match="not a JSON object"):
        signals_object(value)


def test_a_page_cannot_set_what_the_constructor_does_not_take() -> None:
    @dataclass
    class Order:
        name: str
        paid: bool = field(init=False, default=False)
        limit: ClassVar[int] = 5

    order = parse_signals({"name": "x", "paid": True, "limit": 9, "__class__": 1}, Order)
    assert order == Order("x")
    assert not order.paid
    assert Order.limit == 5


def test_an_init_var_is_a_signal() -> None:
    @dataclass
    class Area:
        size: int = field(init=False)
        width: InitVar[int]
        height: InitVar[int] = 2

        def __post_init__(self, width: int, height: int) -> None:
            self.size = width * height

    assert parse_signals({"width": "3"}, Area).size == 6
    assert parse_signals({"width": "3", "height": "4"}, Area).size == 12
    assert refused({}, Area) == "Invalid signals: missing width"


def test_keyword_only_slots_frozen_and_inherited_fields() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Base:
        a: int = 1
        b: int

    @dataclass(frozen=True, slots=True)
    class Derived(Base):
        c: float

    assert parse_signals({"b": "2"}, Base) == Base(b=2)
    derived = parse_signals({"b": "2", "c": "3"}, Derived)
    assert derived == Derived(3.0, b=2)
    assert type(derived) is Derived


def test_a_subclass_without_a_decorator_has_the_constructor_of_its_base() -> None:
    class Derived(Search):
        more: int = 7

    found = parse_signals({"text": "x", "more": "8"}, Derived)
    assert (type(found), found.text, found.more) == (Derived, "x", 7)


def test_a_constructor_written_by_hand() -> None:
    @dataclass(init=False)
    class Hand:
        a: int

        def __init__(self, a: int, b: str = "b", *rest: int, **others: int) -> None:
            self.a = a
            self.given = (b, rest, others)

    found: Any = parse_signals({"a": "1", "b": 2, "rest": 3, "others": 4}, Hand)
    assert (found.a, found.given) == (1, (2, (), {}))


def test_errors_of_the_program_come_out_as_themselves() -> None:
    problem = ValueError("not on a Sunday")

    @dataclass
    class Visit:
        day: str

        def __post_init__(self) -> None:
            raise problem

    with pytest.raises(ValueError, match="Sunday") as info:
        parse_signals({"day": "Sunday"}, Visit)
    assert info.value is problem


def test_the_fields_of_a_dataclass() -> None:
    assert parse._dataclass_fields(Search) == (
        FieldInfo("text", str, required=True, default=None),
        FieldInfo("page", int, required=False, default=1),
        FieldInfo("tags", list[int], required=False, default=None),
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse._dataclass_fields(Search)[0].name = "x"  # type: ignore[misc]


# TypedDicts


class Partial(TypedDict, total=False):
    a: Required[int]
    b: int


class Whole(Partial):
    c: Annotated[NotRequired[float], "of something"]
    d: list[Annotated[int, "each"]]


def test_a_typed_dict() -> None:
    assert parse_signals({"active": "true", "limit": "3", "other": 1}, Filter) == {"active": True, "limit": 3}
    assert dict(parse_signals({}, Filter)) == {}, "what is missing is not an error here"
    given = {"a": "1", "b": "2", "c": "3", "d": ["4"]}
    assert parse_signals(given, Whole) == {"a": 1, "b": 2, "c": 3.0, "d": [4]}
    assert given["a"] == "1"


def test_which_keys_of_a_typed_dict_are_required() -> None:
    found = {info.name: info.required for info in parse._typeddict_fields(Whole)}
    assert found == {"a": True, "b": False, "c": False, "d": True}


def test_keys_that_are_no_names() -> None:
    schema = TypedDict("schema", {"user-id": int, "class": str})
    assert parse_signals({"user-id": "1", "class": 2}, schema) == {"user-id": 1, "class": "2"}


@pytest.mark.parametrize("source", ["typing", "typing_extensions"])
def test_read_only_keys(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(pytest.importorskip(source), "ReadOnly"):
        pytest.skip(f"{source} has no ReadOnly")
    schema = without_strings(
        f"from {source} import NotRequired, ReadOnly, TypedDict\n"
        "class Schema(TypedDict):\n"
        "    a: ReadOnly[int]\n"
        "    b: NotRequired[ReadOnly[int]]\n"
        "    c: ReadOnly[NotRequired[list[int]]]\n",
        monkeypatch,
    ).Schema
    assert parse_signals({"a": "1", "b": "2", "c": ["3"]}, schema) == {"a": 1, "b": 2, "c": [3]}
    assert [info.required for info in parse._typeddict_fields(schema)] == [True, False, False]


# Annotations


def without_strings(source: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module whose annotations are objects, or deferred where Python defers them (3.14)."""
    module = types.ModuleType("without_strings")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(source, module.__name__, "exec", dont_inherit=True), vars(module))
    return module


def test_annotations_that_are_no_strings(monkeypatch: pytest.MonkeyPatch) -> None:
    module = without_strings(
        "import dataclasses\n"
        "from typing import ClassVar, TypedDict\n"
        "@dataclasses.dataclass\n"
        "class Data:\n"
        "    a: int\n"
        "    b: 'list[int]'\n"
        "    c: dataclasses.InitVar[int] = 1\n"
        "    d: ClassVar[int] = 2\n"
        "class Dict(TypedDict):\n"
        "    a: int\n"
        "    b: 'int'\n"
        "def local():\n"
        "    class Kind: pass\n"
        "    @dataclasses.dataclass\n"
        "    class Local:\n"
        "        kind: Kind | int\n"
        "    return Local\n",
        monkeypatch,
    )
    assert parse_signals({"a": "1", "b": ["2"], "c": "3", "d": 4}, module.Data) == module.Data(1, [2])
    assert parse_signals({"a": "1", "b": "2"}, module.Dict) == {"a": 1, "b": 2}
    local = module.local()
    assert parse_signals({"kind": "5"}, local) == local(5)


def test_a_class_that_names_itself() -> None:
    assert parse_signals({"size": "1", "parent": {"size": "2"}}, Node) == Node(1, {"size": "2"})  # type: ignore[arg-type]


@dataclass
class Node:
    size: int
    parent: Node | None = None


def schemas_that_cannot_be_resolved() -> list[type]:
    class Kind:
        pass

    @dataclass
    class Local:
        kind: Kind

    class LocalDict(TypedDict):
        kind: Kind

    @dataclass
    class OnlyForCheckers:
        price: Decimal

    Misspelt = dataclasses.make_dataclass("Misspelt", [("a", "itn")])
    Attribute = dataclasses.make_dataclass("Attribute", [("a", "math.missing")], namespace={"__module__": __name__})
    return [Local, LocalDict, OnlyForCheckers, Misspelt, Attribute]


@pytest.mark.parametrize("schema", schemas_that_cannot_be_resolved())
def test_annotations_that_cannot_be_resolved(schema: type) -> None:
    with pytest.raises(StarioError, match="^Cannot resolve the annotations of .*" + schema.__name__) as info:
        parse_signals({}, schema)
    assert "TYPE_CHECKING" in str(info.value)
    assert info.value.__cause__ is not None
    assert str(info.value.__cause__) == info.value.context["problem"]


# What is kept


def test_fields_are_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class Base:
        a: int

    @dataclass
    class Derived(Base):
        b: int = 0

    assert parse_signals({"a": "1"}, Base) == Base(1)
    assert parse_signals({"a": "1", "b": "2"}, Derived) == Derived(1, 2), "a subclass does not take its base's fields"

    def fail(_: Any) -> Any:
        raise AssertionError("asked again")

    monkeypatch.setattr(parse, "_dataclass_fields", fail)
    assert parse_signals({"a": "3"}, Base) == Base(3)
    assert parse_signals({"a": "3", "b": "4"}, Derived) == Derived(3, 4)


@pytest.mark.skipif(
    sys.version_info < (3, 14) and not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="without the GIL, 3.13 keeps every class for ever",
)
def test_a_schema_that_is_forgotten_is_collected() -> None:
    def use() -> weakref.ref[type]:
        @dataclass
        class Local:
            a: int

        Local.__annotations__["a"] = list[Local]  # a field that holds its own class
        assert parse_signals({"a": ["x"]}, Local) == Local(["x"])  # type: ignore[arg-type]
        return weakref.ref(Local)

    found = use()
    gc.collect()
    assert found() is None


# Schemas that check


def pydantic_model(**fields: Any) -> Any:
    pydantic: Any = pytest.importorskip("pydantic")
    return pydantic.create_model("Model", **fields)


def test_a_pydantic_model() -> None:
    model = pydantic_model(n=(int, ...), name=(str, "x"))
    found = parse_signals({"n": "42", "other": 1}, model)
    assert type(found) is model
    assert (found.n, found.name) == (42, "x")


def test_what_pydantic_refuses_is_told_without_the_value() -> None:
    inner = pydantic_model(n=(int, ...))
    model = pydantic_model(n=(int, ...), kind=(Literal["a", "b"], "a"), inner=(types.GenericAlias(list, (inner,)), []))
    assert refused({}, model) == "Invalid signals: n: missing"
    data = {"n": "secret", "kind": "secret", "inner": [{"n": "1"}, {"n": "secret"}]}
    assert refused(data, model) == "Invalid signals: n: int_parsing, kind: literal_error, inner.1.n: int_parsing"
    assert refused([1], model) == "Invalid signals: not a JSON object"
    with pytest.raises(HttpException) as info:
        parse_signals({"n": "secret"}, model)
    cause: Any = info.value.__cause__
    assert cause.errors()[0]["input"] == "secret", "the whole error is there for the program"


def test_an_explanation_is_short() -> None:
    model = pydantic_model(n=(list[int], ...))
    detail = refused({"n": ["x"] * 1000}, model)
    assert detail.startswith("Invalid signals: n.0: int_parsing, n.1: int_parsing")
    assert len(detail) == parse.MAX_DETAIL


def test_an_explanation_can_be_sent() -> None:
    model = pydantic_model(n=(dict[str, int], ...))
    refused({"n": {"\ud800": "x"}}, model).encode()


def test_a_dataclass_of_pydantic() -> None:
    pydantic: Any = pytest.importorskip("pydantic")

    class Plain:
        __annotations__ = {"n": int}

    checked: Any = pydantic.dataclasses.dataclass(Plain)
    assert parse_signals({"n": "42"}, checked).n == 42
    assert refused({"n": "secret"}, checked) == "Invalid signals: n: int_parsing"


def msgspec_struct(*fields: Any, **options: Any) -> Any:
    msgspec: Any = pytest.importorskip("msgspec")
    return msgspec.defstruct("Struct", fields, **options)


def test_a_msgspec_struct() -> None:
    struct = msgspec_struct(("n", int), ("name", str, "x"))
    assert parse_signals({"n": "42", "other": 1}, struct) == struct(42)


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        ({}, "Object missing required field `n`"),
        ({"n": "secret"}, "Expected `int`, got `str` - at `$.n`"),
        ({"n": 1, "kind": "secret"}, "Invalid enum value - at `$.kind`"),
        ({"n": 1, "kind": "secret - at `$.n`\nx"}, "Invalid enum value - at `$.kind`"),
        ({"n": 1, "more": {"secret": "x"}}, "Expected `int`, got `str` - at `$.more[...]`"),
        ({"n": 1, "type": "secret"}, "Invalid value - at `$.type`"),
        ({"n": 1, "\ud800": 2}, "a lone surrogate"),
    ],
)
def test_what_msgspec_refuses_is_told_without_the_value(data: Any, detail: str) -> None:
    struct = msgspec_struct(
        ("n", int),
        ("kind", Literal["a", "b"], "a"),
        ("more", dict[str, int], {}),
        tag=True,
        forbid_unknown_fields=True,
    )
    assert refused(data, struct) == f"Invalid signals: {detail}"


# Other schemas


class Point(NamedTuple):
    x: int


class Box(Generic[T]):
    x: T


@pytest.mark.parametrize("schema", [dict, int, Point, Box, Search("x"), list[int], dict[str, int], "Search", None])
def test_other_schemas_are_refused(schema: Any) -> None:
    name = getattr(schema, "__name__", schema)
    with pytest.raises(StarioError, match=r"^Unsupported schema type for signals parsing: ") as info:
        parse_signals({}, schema)
    assert info.value.message.endswith(f": {name}")
    assert "dataclass" in str(info.value)


# Whatever a page sends


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([10**400, math.inf, "1", "true", "a"])
    | st.text(st.characters() | st.characters(categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class Everything(TypedDict):
    a: bool
    b: int | None
    c: float | list[int]
    d: list[list[str]] | Literal["a"]


@dataclass
class EverythingData:
    a: bool
    b: int | None
    c: float | list[int] = 1.0
    d: list[list[str]] | Literal["a"] = "a"


def make_everything() -> list[Callable[[], Any]]:
    types_of = {"a": bool, "b": int | None, "c": float | list[int], "d": list[list[str]]}
    return [
        lambda: Everything,
        lambda: EverythingData,
        lambda: pydantic_model(**{name: (of, ...) for name, of in types_of.items()}),
        lambda: msgspec_struct(*types_of.items()),
    ]


@pytest.mark.parametrize("make", make_everything())
def test_no_json_fails_in_another_way(make: Callable[[], Any]) -> None:
    schema = make()

    @given(json_values | st.fixed_dictionaries({}, optional=dict.fromkeys("abcd", json_values)))
    def check(value: Any) -> None:
        answers = list[tuple[int, bytes]]()
        try:
            parse_signals(value, schema)
        except HttpException as exc:
            answers.append((exc.status_code, exc.detail.encode()))
        assert all(status == 400 and detail.startswith(b"Invalid signals: ") for status, detail in answers)

    check()
