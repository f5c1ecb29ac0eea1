"""A signature as `names.txt` spells it, beside that of a living object."""

from __future__ import annotations

import ast
import inspect
from typing import Any

from tests.parity.upstream import text_of

_KINDS = inspect.Parameter


def read_signature(text: str) -> tuple[inspect.Signature, bool]:
    """The signature that a row spells, annotations and defaults as text, and whether it is async."""
    is_async = text.startswith("async ")
    [function] = ast.parse(f"def f{text.removeprefix('async ')}: ...").body
    assert isinstance(function, ast.FunctionDef)
    args = function.args

    def parameter(arg: ast.arg, kind: Any, default: ast.expr | None = None) -> inspect.Parameter:
        return inspect.Parameter(
            arg.arg,
            kind,
            default=inspect.Parameter.empty if default is None else ast.unparse(default),
            annotation=inspect.Parameter.empty if arg.annotation is None else ast.unparse(arg.annotation),
        )

    positional: list[tuple[ast.arg, Any]] = [(arg, _KINDS.POSITIONAL_ONLY) for arg in args.posonlyargs]
    positional += [(arg, _KINDS.POSITIONAL_OR_KEYWORD) for arg in args.args]
    defaults = [None] * (len(positional) - len(args.defaults)) + args.defaults
    parameters = [parameter(arg, kind, default) for (arg, kind), default in zip(positional, defaults, strict=True)]
    if args.vararg:
        parameters.append(parameter(args.vararg, _KINDS.VAR_POSITIONAL))
    parameters += [
        parameter(arg, _KINDS.KEYWORD_ONLY, default)
        for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)
    ]
    if args.kwarg:
        parameters.append(parameter(args.kwarg, _KINDS.VAR_KEYWORD))
    returns = inspect.Signature.empty if function.returns is None else ast.unparse(function.returns)
    return inspect.Signature(parameters, return_annotation=returns), is_async


def differences(row: inspect.Signature, live: inspect.Signature, names: dict[str, Any], *, exact: bool) -> list[str]:
    """What a caller who knows the first signature would meet in the second.

    Args:
        row: the signature that is promised.
        live: the signature there is.
        names: what the defaults of the first may name.
        exact: nothing may be added, and annotations are compared. Otherwise what is added must be optional.
    """
    found: list[str] = []
    there = list(live.parameters.values())
    promised = [parameter for parameter in row.parameters.values() if not parameter.name.startswith("_")]
    for at, parameter in enumerate(promised):
        name = parameter.name
        mine = live.parameters.get(name)
        if mine is None and not exact and parameter.kind is _KINDS.KEYWORD_ONLY and takes_any_keyword(live):
            continue
        if mine is None:
            found.append(f"no parameter {name}")
            continue
        positional = parameter.kind in (_KINDS.POSITIONAL_ONLY, _KINDS.POSITIONAL_OR_KEYWORD)
        if mine.kind is not parameter.kind:
            found.append(f"{name} is {mine.kind.description}")
        if positional and there.index(mine) != at:
            found.append(f"{name} is at another place")
        if not _same_default(parameter.default, mine.default, names, exact=exact):
            found.append(f"{name} is {mine.default!r} by default, not {parameter.default}")
        if exact and text_of(parameter.annotation) != text_of(mine.annotation):
            found.append(f"{name} is a {text_of(mine.annotation) or '?'}, not a {text_of(parameter.annotation)}")
    for extra in added(row, live):
        if exact or not is_optional(extra):
            found.append(f"{extra.name} is new")
    if exact and text_of(row.return_annotation) != text_of(live.return_annotation):
        found.append(f"returns {text_of(live.return_annotation) or '?'}, not {text_of(row.return_annotation)}")
    return found


def added(row: inspect.Signature, live: inspect.Signature) -> list[inspect.Parameter]:
    """The parameters of the second that the first does not have."""
    return [
        parameter
        for parameter in live.parameters.values()
        if parameter.name not in row.parameters and not parameter.name.startswith("_")
    ]


def by_position(signature: inspect.Signature) -> inspect.Signature:
    """The same without the names of the parameters."""
    parameters = [parameter.replace(name=f"p{at}") for at, parameter in enumerate(signature.parameters.values())]
    return signature.replace(parameters=parameters)


def takes_any_keyword(signature: inspect.Signature) -> bool:
    """Whether it has `**more`."""
    return any(parameter.kind is _KINDS.VAR_KEYWORD for parameter in signature.parameters.values())


def is_optional(parameter: inspect.Parameter) -> bool:
    """Whether a caller may leave it out."""
    several = (_KINDS.VAR_POSITIONAL, _KINDS.VAR_KEYWORD)
    return parameter.default is not parameter.empty or parameter.kind in several


def _same_default(spelled: Any, default: Any, names: dict[str, Any], *, exact: bool) -> bool:
    if spelled is inspect.Parameter.empty:
        return default is inspect.Parameter.empty or not exact
    if default is inspect.Parameter.empty:
        return False
    if default is None and not exact:  # it stands for the one that is spelled
        return True
    expected = eval(spelled, names)
    # True is not 1 for who reads it. A kind of str, which tells whether it was given, is still that str.
    alike = isinstance(default, type(expected)) and isinstance(default, bool) == isinstance(expected, bool)
    return expected is ... or (alike and bool(expected == default))
