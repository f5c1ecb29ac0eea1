"""The query of a request target: `?a=1&b=2`, as HTML forms write it (WHATWG URL section 5.1)."""

from __future__ import annotations

from typing import TypeVar, overload
from urllib.parse import unquote_plus

__all__ = ["QueryParams"]

T = TypeVar("T")


class QueryParams:
    """Query parameters, decoded when first asked for: many handlers never look at them.

    Pairs are split at `&` (not at `;`) and at their first `=`; an empty pair is skipped, a missing value is
    `""`. `+` is a space and `%xx` is UTF-8, with U+FFFD for what is not. There is no limit on the number of
    pairs: the limit on the request target is one.

    Args:
        raw: the bytes after the `?`.
    """

    __slots__ = ("_parsed", "_raw")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._parsed: dict[str, list[str]] | None = None

    @property
    def _data(self) -> dict[str, list[str]]:
        if self._parsed is None:
            self._parsed = _parse(self._raw)
        return self._parsed

    @overload
    def get(self, key: str) -> str | None: ...
    @overload
    def get(self, key: str, default: T) -> str | T: ...
    def get(self, key: str, default: T | None = None) -> str | T | None:
        """The first value, or the default."""
        values = self._data.get(key)
        return values[0] if values else default

    def getlist(self, key: str) -> list[str]:
        """All values in their order; a new list, empty if there is none."""
        return self._data.get(key, []).copy()

    def items(self) -> list[tuple[str, str]]:
        """All pairs, those of one key together, keys in the order in which they first came."""
        return [(key, value) for key, values in self._data.items() for value in values]

    def __contains__(self, key: object) -> bool:
        return key in self._data

    def __len__(self) -> int:
        return len(self._data)

    def __eq__(self, other: object) -> bool:
        """Equal to the same parameters, also as a dict: `{"one": "1", "two": ["1", "2"]}`. Hence there is no hash."""
        if isinstance(other, QueryParams):
            return self._data == other._data
        if isinstance(other, dict):
            return other == {key: v[0] if len(v) == 1 else v for key, v in self._data.items()}
        return NotImplemented

    def __repr__(self) -> str:
        return f"QueryParams({self._data!r})"


def _parse(raw: bytes) -> dict[str, list[str]]:
    data: dict[str, list[str]] = {}
    for pair in raw.decode("latin-1").split("&"):
        if pair:
            key, _, value = pair.partition("=")
            data.setdefault(unquote_plus(key), []).append(unquote_plus(value))
    return data
