"""Signals as a type of the program: a dataclass, a TypedDict, a pydantic model or a msgspec struct.

A page holds text where a program wants a number, and a visitor types what he likes. Dataclasses and TypedDicts
therefore take a value as well as they can: one that cannot be coerced is passed as it came. Pydantic and msgspec
check, and what they refuse is answered with a 400. Neither is imported here before a schema is one of theirs.
"""

from __future__ import annotations

import inspect
import re
import sys
import typing
from dataclasses import MISSING, Field, InitVar, dataclass, is_dataclass
from functools import partial
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, NotRequired, Required, TypeVar, cast, get_args, get_origin

from stario_trio.exceptions import HttpException, StarioError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["FieldInfo", "parse_signals", "signals_object"]

T = TypeVar("T")

#: Longest explanation of a refusal, in characters: a union of many models has an error for each.
MAX_DETAIL: Final = 300
#: The one message of msgspec that repeats what was sent: "Invalid enum value 'x' - at `$.field`".
REPEATED_VALUE: Final = re.compile(r"^(Invalid (?:enum )?value) .*?(?= - at `\$[^`]*`$|$)", re.DOTALL)
#: Where a class keeps its fields, see `_fields_of`.
KEPT: Final = "__stario_trio_fields__"


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """A signal that a schema knows.

    Attributes:
        name: its name, in the page and in the schema.
        type: what a value is coerced to, see `parse_signals`.
        required: whether a dataclass cannot be made without it. A TypedDict can.
        default: what the schema says to use instead; None also where it makes one by a factory.
    """

    name: str
    type: Any
    required: bool
    default: Any


def parse_signals(data: dict[str, Any], schema: type[T]) -> T:
    """Make an instance of `schema` from signals; those it does not know are left out.

    Dataclasses and TypedDicts are lenient. None stays None. `int`, `float` and `str` are called with the value, for
    `bool` the words true, 1, yes and on are true; of a union the first member that fits or changes the value wins,
    and a `list[X]` is coerced item by item. A value that cannot be coerced, and every other type (nested
    dataclasses too), stays as it came. For a dataclass, signals are the parameters of its constructor.

    Pydantic models and msgspec structs check; structs do it with `strict=False`, which reads numbers from text.

    Args:
        data: signals by name.
        schema: the class of the result.

    Raises:
        HttpException: 400, for what the page has sent: no object, a field of a dataclass missing, or a
            value that pydantic or msgspec refuses. The detail names the place and never repeats a value.
        StarioError: the schema is of no such kind, or its annotations cannot be resolved.
    """
    signals = signals_object(data)
    if isinstance(cast("object", schema), type):
        if _has(schema, "model_validate", "model_fields"):
            return cast("T", _checked_by_pydantic(partial(cast("Any", schema).model_validate, signals)))
        if _has(schema, "__struct_fields__"):
            return _convert_struct(signals, schema)
        if is_dataclass(schema):
            return _make_dataclass(signals, schema)
        if _has(schema, "__required_keys__"):  # `typing.is_typeddict` does not know those of typing_extensions
            return cast("T", _coerce_known(signals, _fields_of(schema, _typeddict_fields)))
    raise StarioError(
        f"Unsupported schema type for signals parsing: {getattr(schema, '__name__', schema)}",
        context={"schema": str(schema), "schema_type": type(schema).__name__},
        help_text="Use a dataclass, a TypedDict, a pydantic BaseModel or a msgspec Struct.",
        example="@dataclass\nclass Search:\n    text: str = ''\n    page: int = 1\n\nsearch = await c.signals(Search)",
    )


def signals_object(value: object) -> dict[str, Any]:
    """Signals come by name: anything but a JSON object is refused.

    Raises:
        HttpException: 400, `value` is another kind of JSON.
    """
    if not isinstance(value, dict):
        raise HttpException(400, "Invalid signals: not a JSON object")
    return cast("dict[str, Any]", value)


# Kinds of schemas


def _has(schema: object, *names: str) -> bool:
    return all(hasattr(schema, name) for name in names)


def _make_dataclass(signals: dict[str, Any], schema: type[T]) -> T:
    fields = _fields_of(schema, _dataclass_fields)
    missing = [field.name for field in fields if field.required and field.name not in signals]
    if missing:
        raise HttpException(400, f"Invalid signals: missing {', '.join(missing)}")
    known = _coerce_known(signals, fields)
    return _checked_by_pydantic(partial(schema, **known))  # which has dataclasses as well


def _coerce_known(signals: dict[str, Any], fields: tuple[FieldInfo, ...]) -> dict[str, Any]:
    return {field.name: _coerce(signals[field.name], field.type) for field in fields if field.name in signals}


def _checked_by_pydantic(make: Callable[[], T]) -> T:
    try:
        return make()
    except ValueError as exc:
        # Pydantic's ValidationError, not imported. Any other error is one of the program's own.
        errors = getattr(exc, "errors", None)
        if not callable(errors):
            raise
        # The types of the errors, and not their messages, some of which repeat what was sent.
        found = cast("list[dict[str, Any]]", errors(include_url=False, include_context=False, include_input=False))
        raise _refused(", ".join([f"{'.'.join(map(str, error['loc']))}: {error['type']}" for error in found])) from exc


def _convert_struct(signals: dict[str, Any], schema: type[T]) -> T:
    import msgspec  # who has a struct has imported it

    try:
        return msgspec.convert(signals, schema, strict=False)
    except msgspec.ValidationError as exc:
        raise _refused(REPEATED_VALUE.sub(r"\1", str(exc))) from exc
    except UnicodeEncodeError as exc:  # of a key, or of text for a number
        raise _refused("a lone surrogate") from exc


def _refused(detail: str) -> HttpException:
    return HttpException(400, f"Invalid signals: {detail}"[:MAX_DETAIL])


# The fields of a schema


def _fields_of(schema: type, analyse: Callable[[Any], tuple[FieldInfo, ...]]) -> tuple[FieldInfo, ...]:
    """The fields of a class, found once and kept on the class itself.

    There they live as long as the class, even if a field's type is the class again, so schemas made in functions do
    not pile up. No lock: two threads that are the first together find the same, and the later one is kept.
    """
    try:
        return cast("tuple[FieldInfo, ...]", vars(schema)[KEPT])  # not inherited: a subclass has more fields
    except KeyError:
        fields = analyse(schema)
        type.__setattr__(schema, KEPT, fields)
        return fields


def _dataclass_fields(schema: Any) -> tuple[FieldInfo, ...]:
    """The parameters of the constructor: `InitVar`s are among them, fields with `init=False` are not."""
    hints = _hints(schema)
    declared = cast("dict[str, Field[Any]]", schema.__dataclass_fields__)
    found = list[FieldInfo]()
    for parameter in inspect.signature(schema).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue  # of a constructor written by hand
        hint = hints.get(parameter.name, Any)
        field = declared.get(parameter.name)
        default = parameter.default if field is None else field.default
        found.append(
            FieldInfo(
                name=parameter.name,
                type=cast("Any", hint).type if isinstance(hint, InitVar) else hint,
                required=parameter.default is parameter.empty,
                default=None if default is MISSING or default is parameter.empty else default,
            )
        )
    return tuple(found)


def _typeddict_fields(schema: Any) -> tuple[FieldInfo, ...]:
    found = list[FieldInfo]()
    qualified = _hints(schema, include_extras=True)
    for name, hint in _hints(schema).items():
        qualifiers = _split(qualified[name])[0]
        if Required in qualifiers or NotRequired in qualifiers:
            required = Required in qualifiers
        else:
            required = name in schema.__required_keys__  # by itself not enough: it does not see what is in a string
        found.append(FieldInfo(name=name, type=_split(hint)[1], required=required, default=None))
    return tuple(found)


def _split(hint: Any) -> tuple[list[Any], Any]:
    """What stands around the type of a TypedDict's key, and the type."""
    sources = (typing, sys.modules.get("typing_extensions"))
    read_only = [getattr(source, "ReadOnly", None) for source in sources]
    found = list[Any]()
    while (origin := get_origin(hint)) is not None and origin in (Required, NotRequired, typing.Annotated, *read_only):
        found.append(origin)
        hint = get_args(hint)[0]
    return found, hint


def _hints(schema: Any, *, include_extras: bool = False) -> dict[str, Any]:
    try:
        return typing.get_type_hints(schema, include_extras=include_extras)
    except Exception as exc:  # whatever an annotation runs into while it is evaluated
        raise StarioError(
            f"Cannot resolve the annotations of {schema.__qualname__}",
            context={"module": schema.__module__, "problem": str(exc)},
            help_text="Its types must be names of the module when it runs: not local to a function, "
            "and not imported under `if TYPE_CHECKING` only.",
        ) from exc


# Coercion


def _coerce(value: Any, target: Any) -> Any:
    """The value as the type wants it, or the value itself; never an error."""
    if value is None:
        return None
    origin = get_origin(target)
    if origin is typing.Union or origin is UnionType:
        return _coerce_to_one_of(value, get_args(target))
    if origin is list and isinstance(value, list):
        [item_type] = get_args(target) or (Any,)
        return [_coerce(item, item_type) for item in cast("Sequence[Any]", value)]
    if target is bool:
        if isinstance(value, str):
            return value.lower() in ("true", "1", "yes", "on")
        return bool(value)
    if target is int or target is float or target is str:
        try:
            return target(value)
        except (ValueError, TypeError, OverflowError, RecursionError):
            pass  # "abc" or [] to int, Infinity to int, 10**400 to float, a very deep list to str
    return value


def _coerce_to_one_of(value: Any, members: tuple[Any, ...]) -> Any:
    for member in members:
        if member is not type(None):
            result = _coerce(value, member)
            if result is not value or _is_a(value, member):
                return result
    return value


def _is_a(value: object, member: Any) -> bool:
    try:
        return isinstance(value, member)
    except TypeError:  # list[int], Literal, Any and others that are no classes
        return False
