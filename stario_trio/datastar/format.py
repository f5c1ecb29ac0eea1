"""From Python values to what a page understands: signals by name, and JavaScript expressions for attributes."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Protocol, TypeAlias, cast

from stario_trio.exceptions import StarioError

__all__ = ["SignalData", "SignalValue", "js", "s", "signal_to_dict"]

#: What a signal can hold: the values of JSON.
SignalValue: TypeAlias = "str | int | float | bool | list[SignalValue] | dict[str, SignalValue] | None"


class DataclassInstance(Protocol):
    """An instance of a class made by `@dataclass`."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


class SupportsModelDump(Protocol):
    """A pydantic model, or what behaves like one."""

    def model_dump(self) -> dict[str, Any]:
        """The model's fields by name."""
        ...


class StructInstance(Protocol):
    """An instance of a `msgspec.Struct`."""

    __struct_fields__: ClassVar[tuple[str, ...]]


#: Signals by name; the values must be what JSON can say.
SignalData: TypeAlias = "Mapping[str, object] | DataclassInstance | SupportsModelDump | StructInstance"

#: What would end a string in single quotes, or its line. JavaScript has two line ends more than SSE.
IN_STRING: Final = str.maketrans(
    {"\\": r"\\", "'": r"\'", "\n": r"\n", "\r": r"\r", "\u2028": r"\u2028", "\u2029": r"\u2029"}
)
#: What would end a script element, or begin the state in which its end is not seen (HTML standard, "Restrictions for
#: contents of script elements").
SCRIPT_END: Final = re.compile("<(?=/|!--)")


def signal_to_dict(data: SignalData) -> dict[str, Any]:
    """Signals by name: a dict is returned itself, other mappings, models, structs and dataclass instances are copied.

    Raises:
        StarioError: `data` is none of these.
    """
    if isinstance(data, dict):
        return data
    if isinstance(data, Mapping):
        return dict(data)
    if not isinstance(data, type):
        if hasattr(data, "model_dump"):
            return cast("SupportsModelDump", data).model_dump()
        if dataclasses.is_dataclass(data):
            return dataclasses.asdict(data)
        if hasattr(data, "__struct_fields__"):
            import msgspec  # who has a struct has imported it

            built: object = msgspec.to_builtins(data)
            if isinstance(built, dict):  # and not a list, as a struct may choose to be written
                return cast("dict[str, Any]", built)
    raise StarioError(
        f"Cannot convert {type(data).__name__} to signal dict",
        context={"value_type": type(data).__name__, "value": repr(data)[:100]},
        help_text="Give a dict, a dataclass instance, a pydantic model or a msgspec struct.",
    )


def js(obj: Mapping[str, Any] | None = None, /, **kwargs: Any) -> str:
    """A JavaScript object whose values are expressions: `js(active="$open", count=5)` is `{'active':$open,'count':5}`.

    A `str` is code and is taken as it is; wrap text in `s`. Dicts, lists and tuples may be nested; None, booleans and
    numbers become JavaScript's; of any other object its `str()` is the code.

    Args:
        obj: values by name, for names that are no Python identifiers.
        kwargs: further values by name.

    Raises:
        StarioError: `obj` is no mapping.
    """
    if obj is not None and not _is_mapping(obj):
        raise StarioError(
            f"js() cannot make an object of type {type(obj).__name__}",
            help_text="Give a dict, or keywords: js({'a': 1}), js(a=1).",
        )
    return _expression({**(obj or {}), **kwargs})


def s(value: str) -> str:
    r"""Text as a JavaScript string in single quotes.

    It stays one string whatever the text is, in an attribute and in a script element: `</` is written `<\/`.
    """
    return f"'{SCRIPT_END.sub(_escape_next, value.translate(IN_STRING))}'"


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _escape_next(_: re.Match[str]) -> str:
    return "<\\"


def _expression(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        pairs = cast("Mapping[object, Any]", value).items()
        return "{" + ",".join([f"{s(str(key))}:{_expression(item)}" for key, item in pairs]) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join([_expression(item) for item in cast("list[Any]", value)]) + "]"
    return str(value)
