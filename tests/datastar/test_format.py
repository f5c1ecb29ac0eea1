"""What goes into a page: signals by name, and expressions that stay what they are in attributes and scripts."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import shutil
import subprocess
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stario_trio.datastar import js, s
from stario_trio.datastar.format import signal_to_dict
from stario_trio.exceptions import StarioError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Signals by name


@dataclasses.dataclass
class Point:
    x: int
    inner: dict[str, int]


class Model:
    def model_dump(self) -> dict[str, Any]:
        return {"of": "model"}


class Table(dict[str, int]):
    pass


def test_the_kinds_of_signal_data() -> None:
    plain = {"a": 1}
    assert signal_to_dict(plain) is plain
    assert signal_to_dict(Table(a=1)) == {"a": 1}
    assert signal_to_dict(os.environ) == dict(os.environ)
    assert signal_to_dict(Model()) == {"of": "model"}
    point = Point(1, {"y": 2})
    copied = signal_to_dict(point)
    assert copied == {"x": 1, "inner": {"y": 2}}
    assert copied["inner"] is not point.inner


@pytest.mark.parametrize("data", [[("a", 1)], "{}", None, 3, Point, Model])
def test_other_signal_data_is_refused(data: Any) -> None:
    with pytest.raises(StarioError, match=f"^Cannot convert {type(data).__name__} to signal dict\n") as caught:
        signal_to_dict(data)
    assert caught.value.context == {"value_type": type(data).__name__, "value": repr(data)[:100]}


def test_a_pydantic_model() -> None:
    pydantic: Any = pytest.importorskip("pydantic")
    inner = pydantic.create_model("Inner", y=(int, 2))
    model = pydantic.create_model("Outer", x=(int, 1), inner=(inner, inner()))
    assert signal_to_dict(model()) == {"x": 1, "inner": {"y": 2}}
    with pytest.raises(StarioError, match="Cannot convert"):
        signal_to_dict(model)


def test_a_msgspec_struct() -> None:
    msgspec: Any = pytest.importorskip("msgspec")
    inner = msgspec.defstruct("Inner", [("y", int, 2)], frozen=True)
    struct = msgspec.defstruct("Outer", [("x", int, 1), ("inner", inner, inner())])
    assert signal_to_dict(struct()) == {"x": 1, "inner": {"y": 2}}
    as_list = msgspec.defstruct("AsList", [("x", int, 1)], array_like=True)
    for data in (struct, as_list()):
        with pytest.raises(StarioError, match="Cannot convert"):
            signal_to_dict(data)


# Expressions


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (js(), "{}"),
        (js({}), "{}"),
        (js(active="$open", count=5), "{'active':$open,'count':5}"),
        (js({"active": "$open"}), "{'active':$open}"),
        (js({"user-id": s("it's")}), r"{'user-id':'it\'s'}"),
        (js(a=None, b=True, c=False, d=1.5, e=-2), "{'a':null,'b':true,'c':false,'d':1.5,'e':-2}"),
        (js(a=math.nan, b=math.inf, c=-math.inf), "{'a':NaN,'b':Infinity,'c':-Infinity}"),
        (js(a={"b": ["$x", (1, "f()")]}, c=[]), "{'a':{'b':[$x,[1,f()]]},'c':[]}"),
        (js({"a": 1}, b=2), "{'a':1,'b':2}"),
        (js(a=Decimal("1.10")), "{'a':1.10}"),
        (js({1: "x"}), "{'1':x}"),  # type: ignore[dict-item]  # what a JavaScript object does with such a key
        (js({"a'b\n": 1}), r"{'a\'b\n':1}"),
    ],
)
def test_expressions(expression: str, text: str) -> None:
    assert expression == text


@pytest.mark.parametrize("obj", ["x", 1, ["a"], ()])
def test_an_object_is_made_of_a_mapping(obj: Any) -> None:
    with pytest.raises(StarioError, match=f"^js\\(\\) cannot make an object of type {type(obj).__name__}\n"):
        js(obj)


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("", "''"),
        ("plain", "'plain'"),
        ("it's \\", r"'it\'s \\'"),
        ("a\nb\rc\u2028d\u2029e", r"'a\nb\rc\u2028d\u2029e'"),
        ("</script></SCRIPT>", r"'<\/script><\/SCRIPT>'"),
        ("<!--<script>", r"'<\!--<script>'"),
    ],
)
def test_strings(text: str, literal: str) -> None:
    assert s(text) == literal


ESCAPES = {"n": "\n", "r": "\r", "u2028": "\u2028", "u2029": "\u2029"}


def read_string(literal: str) -> str:
    """Read a JavaScript string in single quotes (ECMA-262 section 12.9.4), of which `s` uses a part."""
    assert literal[0] == literal[-1] == "'"
    found = ""
    for escape, character in re.findall(r"\\(u\d{4}|.)|(.)", literal[1:-1], re.DOTALL):
        assert character not in ("'", "\n", "\r", "\u2028", "\u2029", "\\")
        found += character or ESCAPES.get(escape, escape)
    return found


hard_text = st.text(st.characters() | st.sampled_from("'\\\n\r\u2028\u2029<>/!-u")) | st.lists(
    st.sampled_from(["</script", "<!--", "<!-", "</", "<", "\\", "'", "\n", "n"])
).map("".join)


@given(hard_text)
def test_a_string_is_one_string_whatever_is_in_it(text: str) -> None:
    literal = s(text)
    assert read_string(literal) == text
    assert "</" not in literal
    assert "<!--" not in literal


@pytest.mark.skipif(shutil.which("node") is None, reason="the program node is not installed")
def test_javascript_reads_the_same() -> None:
    texts = ["it's \\ </script>\r\n<!-- \u2028\u2029", "\\n", "é\0"]
    values: Mapping[str, Any] = {text: s(text) for text in texts} | {"n": [None, True, 1.5, {"a'": math.inf}]}
    code = f'const o = {js(values)}; for (const k in o) console.log(k === o[k]); console.log(o.n[3]["a\'"])'
    printed = subprocess.run(["node", "-e", code.replace("\0", "\\0")], capture_output=True, text=True, check=True)
    assert printed.stdout.split() == ["true", "true", "true", "false", "Infinity"]
