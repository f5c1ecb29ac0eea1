from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import stario_trio
from stario_trio import datastar
from stario_trio.datastar import format, parse, signals, sse  # noqa: A004  (the original's name)

if TYPE_CHECKING:
    from types import ModuleType


def test_the_names_of_the_original_are_there() -> None:
    assert set(datastar.__all__) == {"FileSignal", "get_signals", "js", "parse_signals", "s", "sse"}
    assert {"patch", "signals", "script", "redirect", "remove"} <= set(sse.__all__)
    assert {"signal_to_dict", "SignalData", "SignalValue", "js", "s"} <= set(format.__all__)
    assert {"parse_signals", "FieldInfo"} <= set(parse.__all__)
    assert {"get_signals", "FileSignal", "SignalValue", "SignalsDict"} <= set(signals.__all__)
    for module in (datastar, sse, format, parse, signals):
        assert [name for name in module.__all__ if not hasattr(module, name)] == []


@pytest.mark.parametrize("module", [datastar, stario_trio])
@pytest.mark.parametrize(("name", "instead"), [("at", "@get('/path')"), ("data", "from datastar_py import")])
def test_a_name_that_is_left_out_tells_what_to_write(module: ModuleType, name: str, instead: str) -> None:
    with pytest.raises(ImportError, match=f"Stario's '{name}' is not here") as caught:
        exec(f"from {module.__name__} import {name}")
    assert instead in str(caught.value)
    with pytest.raises(AttributeError, match="nothing"):
        module.nothing  # noqa: B018


def test_libraries_of_schemas_are_not_imported_for_those_who_use_none() -> None:
    code = """
import dataclasses, sys
from stario_trio.datastar import parse_signals, sse

@dataclasses.dataclass
class Count:
    n: int

assert parse_signals({"n": "1"}, Count) == Count(1)
assert sse.signals(Count(2)).endswith(b'{"n":2}\\n\\n')
print([name for name in ("pydantic", "msgspec", "typing_extensions", "asyncio") if name in sys.modules])
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout == "[]\n"
