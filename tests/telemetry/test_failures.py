from __future__ import annotations

import pytest
import trio

from stario_trio.telemetry.failures import error_text, only_cancelled, text, unfold


class Hostile(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


async def real_cancelled() -> trio.Cancelled:
    caught: list[trio.Cancelled] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as exc:
            caught.append(exc)
            raise
    return caught[0]


def test_text_survives_a_str_that_raises() -> None:
    assert text(12) == "12"
    assert text(Hostile()) == "<unprintable Hostile>"


@pytest.mark.parametrize(
    ("exc", "expected"),
    [
        (ValueError("boom"), "boom"),
        (ValueError(), "ValueError"),
        (KeyError(""), "''"),
        (Exception(""), "Exception"),
    ],
)
def test_an_empty_message_becomes_the_name_of_the_type(exc: Exception, expected: str) -> None:
    assert error_text(exc) == expected


@pytest.mark.parametrize(
    ("notes", "expected"), [(["a", 5, Hostile()], "boom\na\n5\n<unprintable Hostile>"), (7, "boom"), ((), "boom")]
)
def test_notes_are_lines_whatever_they_are(notes: object, expected: str) -> None:
    exc = ValueError("boom")
    exc.__notes__ = notes  # type: ignore[assignment]
    assert error_text(exc) == expected


def test_unfold_yields_groups_and_their_members_in_order() -> None:
    one, two, three = ValueError("1"), KeyError("2"), OSError("3")
    inner = ExceptionGroup("inner", [two])
    outer = ExceptionGroup("outer", [one, inner, three])
    assert list(unfold(outer)) == [outer, one, inner, two, three]
    assert list(unfold(one)) == [one]


async def test_only_cancelled() -> None:
    cancelled = await real_cancelled()
    assert only_cancelled(cancelled)
    assert only_cancelled(BaseExceptionGroup("", [cancelled, BaseExceptionGroup("", [cancelled])]))
    assert not only_cancelled(BaseExceptionGroup("", [cancelled, ValueError()]))
    assert not only_cancelled(ValueError())
    assert not only_cancelled(KeyboardInterrupt())


def test_an_exception_whose_notes_raise_has_none() -> None:
    class Odd(ValueError):
        def __getattr__(self, name: str) -> object:
            raise KeyError(name)  # where the rest of Python expects an `AttributeError`

    assert error_text(Odd("boom")) == "boom"
