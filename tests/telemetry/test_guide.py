"""The tracer of docs/how-to/telemetry.md is one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from stario_trio.telemetry import Span, core

if TYPE_CHECKING:
    import pytest

PAGE = Path(__file__).parents[2] / "docs/how-to/telemetry.md"


def test_the_tracer_of_the_guide(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    [program] = re.findall(r"```python\n(class .*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {"Any": Any, "Span": Span, "Self": Self}
    exec(program, names)
    clock = iter([0, 10**8, 0, 15 * 10**8])
    monkeypatch.setattr(core, "perf_counter_ns", lambda: next(clock))
    with names["Slow"]() as tracer:
        tracer("GET", {"request.path": "/quick"}).end()
        tracer("GET", {"request.path": "/slow"}).end()
    assert capsys.readouterr().out == "GET /slow took 1.5 s\n"
