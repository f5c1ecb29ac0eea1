"""What Stario 2.2.1 offers, read from the package itself: the facts in `names.txt`.

In an environment where Stario is installed (this file needs nothing else):

    python tests/parity/upstream.py --check     # says where names.txt and the package differ
    python tests/parity/upstream.py --write     # writes names.txt anew

Each line is a public name below the package and its shape: a signature, `async` in front of one that must be awaited,
`property`, `attribute`, `type` (an alias), `class` or `object`, `= value` or `len n` of a constant, or the place that
the name `is` imported from.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = Path(__file__).with_name("names.txt")
VERSION = "2.2.1"

MODULES = [
    "",
    "exceptions",
    "relay",
    "testing",
    *("http", "http.app", "http.router", "http.types", "http.request", "http.headers", "http.query", "http.writer"),
    *("http.protocol", "http.staticassets"),
    *("datastar", "datastar.sse", "datastar.format", "datastar.parse", "datastar.signals"),
    *("telemetry", "telemetry.core", "telemetry.json", "telemetry.rich"),
]
#: Modules that are out of scope as a whole; their names are not listed.
CLOSED = ["html", "toys", "cli", "datastar.actions", "datastar.attributes"]
#: Modules whose names are those of other modules on purpose.
SHOP_WINDOWS = ["", "http", "datastar", "telemetry"]
#: Names a module has for its own use, although it does not say so.
TOOLS = {"TYPE_CHECKING", "RenderableType"}
OPERATORS = {
    *("__getitem__", "__setitem__", "__delitem__", "__contains__", "__len__", "__eq__", "__bool__"),
    *("__call__", "__enter__", "__exit__"),
}


class Missing(Enum):
    """What `find` gives for a name that is not there."""

    NAME = "missing"


def find(package: str, name: str) -> Any:
    """The object of a dotted name below a package: modules as far as they go, then attributes."""
    found: Any = importlib.import_module(package)
    path = package
    for part in name.split("."):
        if isinstance(found, ModuleType):
            try:
                found = getattr(found, part)
            except ImportError:  # a name that is left out, and the module says what to write instead
                return Missing.NAME
            except AttributeError:
                path += f".{part}"
            else:
                path += f".{part}"
                continue
            try:
                found = importlib.import_module(path)
            except ModuleNotFoundError as exc:
                if exc.name != path:
                    raise
                return Missing.NAME
            continue
        try:
            found = inspect.getattr_static(found, part) if inspect.isclass(found) else getattr(found, part)
        except AttributeError:
            return Missing.NAME
        if isinstance(found, (staticmethod, classmethod)):
            found = found.__func__
    return found


def signature_of(found: Any) -> inspect.Signature:
    """The signature of an object, annotations as text, without `self`."""
    # Python 3.14 shows annotations as text only when asked, and older ones hold them as text already.
    options: dict[str, Any] = {}
    if sys.version_info >= (3, 14):
        import annotationlib

        options["annotation_format"] = annotationlib.Format.STRING
    signature = inspect.signature(found, **options)
    parameters = list(signature.parameters.values())
    if parameters and parameters[0].name == "self":
        parameters = parameters[1:]
    if inspect.isclass(found):
        signature = signature.replace(return_annotation="None")
    return signature.replace(parameters=parameters)


class _Plain(ast.NodeTransformer):
    """Take the quotes off forward references, and the modules off names."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        return ast.Name(node.attr)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.parse(node.value, mode="eval").body if isinstance(node.value, str) else node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        literal = ast.unparse(node.value).split(".")[-1] == "Literal"
        return ast.Subscript(ast.Name("Literal"), node.slice) if literal else self.generic_visit(node)


def text_of(annotation: Any) -> str:
    """An annotation in one spelling, `""` if there is none."""
    if annotation is inspect.Parameter.empty:
        return ""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return ast.unparse(_Plain().visit(ast.parse(text, mode="eval")))


def signature_text(signature: inspect.Signature) -> str:
    """A signature as source: defaults by `repr`, and `...` for one that is made anew each time."""
    pieces: list[str] = []
    parameters = list(signature.parameters.values())
    kinds = [parameter.kind for parameter in parameters]
    for at, parameter in enumerate(parameters):
        kind = parameter.kind
        if kind is kind.KEYWORD_ONLY and not {kind.KEYWORD_ONLY, kind.VAR_POSITIONAL} & set(kinds[:at]):
            pieces.append("*")
        # Nobody calls by the name of what is positional.
        name = parameter.name.lstrip("_") if kind is kind.POSITIONAL_ONLY else parameter.name
        piece = {kind.VAR_POSITIONAL: "*", kind.VAR_KEYWORD: "**"}.get(kind, "") + name
        annotation = text_of(parameter.annotation)
        if annotation:
            piece += f": {annotation}"
        if parameter.default is not parameter.empty:
            default = repr(parameter.default)
            piece += (" = " if annotation else "=") + ("..." if default.startswith("<") else default)
        pieces.append(piece)
        if kind is kind.POSITIONAL_ONLY and kind not in kinds[at + 1 :]:
            pieces.append("/")
    returns = text_of(signature.return_annotation)
    return f"({', '.join(pieces)})" + (f" -> {returns}" if returns else "")


def shape_of(found: Any) -> str:
    """What a name stands for, as one line."""
    if isinstance(found, ModuleType):
        return "module"
    if isinstance(found, property):
        return "property" if found.fset is None else "property, settable"
    if inspect.isclass(found) or inspect.isfunction(found):
        try:
            signature = signature_text(signature_of(found))
        except ValueError:  # an exception without a constructor of its own, a TypedDict
            return "class"
        return "async " * inspect.iscoroutinefunction(found) + signature
    if isinstance(found, (tuple, dict)):
        return f"len {len(found)}"
    if isinstance(found, (int, float)):
        return f"= {found!r}"
    return "object"


def public_names(package: str) -> Iterator[tuple[str, str]]:
    """Every public name below the package with its shape."""
    for module in MODULES:
        full = f"{package}.{module}".rstrip(".")
        namespace = importlib.import_module(full)
        for name in getattr(namespace, "__all__", vars(namespace)):
            found = getattr(namespace, name)
            if name.startswith("_") or name in TOOLS or isinstance(found, ModuleType):
                continue
            dotted = f"{module}.{name}".lstrip(".")
            home = getattr(found, "__module__", None)
            alias = type(found).__name__ in ("TypeAliasType", "Union")
            if home not in (None, full) and not (alias and home == "typing"):
                # What a module has imported is a name of it only where that is what the module is for.
                if module in SHOP_WINDOWS and home.startswith(package):
                    original = getattr(found, "__name__", name)
                    same = getattr(sys.modules[home], original, None) is found
                    shape = f"is {home}.{original}".replace(f"is {package}.", "is ") if same else "object"
                    yield dotted, shape
                elif type(found).__name__ == "Pattern":
                    yield dotted, "object"
                continue
            yield dotted, "type" if alias else shape_of(found)
            if inspect.isclass(found):
                for member, value in vars(found).items():
                    if not member.startswith("_") or member in OPERATORS:
                        callable_or_property = isinstance(value, property) or inspect.isfunction(value)
                        yield f"{dotted}.{member}", shape_of(value) if callable_or_property else "attribute"
    for module in CLOSED:
        importlib.import_module(f"{package}.{module}")
        yield module, "module"


def read_names() -> dict[str, str]:
    """The facts: shapes by name."""
    lines = NAMES.read_text(encoding="utf-8").splitlines()
    return dict(line.split(" ", 1) for line in lines if not line.startswith("#"))


def main(arguments: list[str]) -> int:
    """Compare or renew the facts."""
    try:
        stario = importlib.import_module("stario")
    except ModuleNotFoundError:
        print("Stario is not installed here: nothing to compare with.")
        return 0
    if stario.__version__ != VERSION:
        print(f"Stario {stario.__version__} is installed, names.txt is about {VERSION}.")
    there = dict(public_names("stario"))
    if arguments == ["--write"]:
        head = f"# The public names of Stario {VERSION}, written by upstream.py.\n"
        NAMES.write_text(head + "".join(f"{name} {shape}\n" for name, shape in there.items()), encoding="utf-8")
        return 0
    held = read_names()
    for name in {**held, **there}:
        if held.get(name) != there.get(name):
            print(f"{name}\n  names.txt: {held.get(name)}\n  package:   {there.get(name)}")
    return int(held != there)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
