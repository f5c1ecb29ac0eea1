from __future__ import annotations

import subprocess
import sys

import pytest

from stario_trio import telemetry

FRESH = """
import sys
import stario_trio.telemetry
assert "rich" not in sys.modules, "importing stario_trio.telemetry imported rich"
from stario_trio.telemetry import RichTracer
assert "rich" in sys.modules
print(RichTracer.__name__)
"""


def test_rich_is_imported_when_its_tracer_is_asked_for() -> None:
    run = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "RichTracer\n", "")


def test_every_public_name_is_there() -> None:
    assert [name for name in telemetry.__all__ if getattr(telemetry, name).__name__ != name] == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"'stario_trio\.telemetry' has no attribute 'LogTracer'"):
        telemetry.__getattr__("LogTracer")
