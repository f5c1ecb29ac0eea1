"""A recorder's headers: a dict, as tests like it, and the writer's own `Headers`, as handlers know them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stario_trio.http.headers import HEADER_LOOKUP, Headers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

__all__ = ["RecordedHeaders"]

# What the server adds to each response by itself. Shown only if the handler has set it too.
_OF_THE_SERVER: Final = frozenset({"date", "content-length", "transfer-encoding"})


class RecordedHeaders(dict[str, str]):
    """The fields of a recorded response.

    A dict with lower-case names that holds the first value of each, and every method of `Headers` besides; names are
    taken in any case. Until the head is sent it shows what the handler has set, and then what the peer has got,
    without the fields that only delimit or date a message.

    Where the two differ it is a dict: `items()` gives pairs of str. A handler in production gets all values from it,
    in pairs of bytes.

    Args:
        fields: what the writer will send. Every change goes there.
    """

    def __init__(self, fields: Headers) -> None:
        super().__init__()
        self._fields = fields
        self._shown = fields

    def show(self, sent: list[tuple[str, str]]) -> None:
        """The head is sent: show its fields from now on."""
        self._shown = Headers.from_pairs(
            (name.encode(), value.encode("latin-1"))
            for name, value in sent
            if name not in _OF_THE_SERVER or name in self
        )
        self._look()

    def _look(self) -> None:
        super().clear()
        for name, value in self._shown.items():
            super().setdefault(name.decode("ascii"), value.decode("latin-1"))

    # Reading

    def __getitem__(self, name: str | bytes) -> str:
        return super().__getitem__(_key(name))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, (str, bytes)) and super().__contains__(_key(name))

    def get(self, name: str | bytes, default: Any = None) -> Any:
        """See `Headers.get`."""
        return self._shown.get(name, default)

    def getlist(self, name: str | bytes) -> list[str]:
        """See `Headers.getlist`."""
        return self._shown.getlist(name)

    def rget(self, name: bytes, default: Any = None) -> Any:
        """See `Headers.rget`."""
        return self._shown.rget(name, default)

    def rgetlist(self, name: bytes) -> list[bytes]:
        """See `Headers.rgetlist`."""
        return self._shown.rgetlist(name)

    def field_lines(self) -> bytes:
        """See `Headers.field_lines`."""
        return self._shown.field_lines()

    # Changing

    def add(self, name: str | bytes, value: str | bytes) -> Self:
        """See `Headers.add`."""
        self._fields.add(name, value)
        self._look()
        return self

    def set(self, name: str | bytes, value: str | bytes) -> Self:
        """See `Headers.set`."""
        self._fields.set(name, value)
        self._look()
        return self

    def update(self, fields: Mapping[Any, str | bytes] | None = None, /, **more: str) -> Self:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  (the same)
        """See `Headers.update`."""
        self._fields.update({**(fields or {}), **more})
        self._look()
        return self

    def setdefault(self, name: str | bytes, value: str | bytes) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]  (the same)
        """See `Headers.setdefault`."""
        held = self._fields.setdefault(name, value)
        self._look()
        return held

    def radd(self, name: bytes, value: bytes) -> Self:
        """See `Headers.radd`."""
        self._fields.radd(name, value)
        self._look()
        return self

    def rset(self, name: bytes, value: bytes) -> Self:
        """See `Headers.rset`."""
        self._fields.rset(name, value)
        self._look()
        return self

    def remove(self, name: str | bytes) -> Self:
        """See `Headers.remove`."""
        self._fields.remove(name)
        self._look()
        return self

    def clear(self) -> None:
        """See `Headers.clear`."""
        self._fields.clear()
        self._look()

    def seal(self) -> None:
        """See `Headers.seal`."""
        self._fields.seal()

    # As a dict

    def __setitem__(self, name: str | bytes, value: str | bytes) -> None:
        self.set(name, value)

    def __delitem__(self, name: str | bytes) -> None:
        self[name]  # a KeyError if it is absent
        self.remove(name)

    def pop(self, name: str | bytes, *default: Any) -> Any:
        """Remove a name and return its first value."""
        held = super().__getitem__(_key(name)) if not default else self.get(name, default[0])
        self.remove(name)
        return held

    def popitem(self) -> tuple[str, str]:
        """Remove the name that came last."""
        name, value = super().popitem()
        self.remove(name)
        return name, value

    def __ior__(self, fields: Mapping[Any, str | bytes]) -> Self:  # type: ignore[override, misc]  # pyright: ignore[reportIncompatibleMethodOverride]  (the same)
        return self.update(fields)


def _key(name: str | bytes) -> str:
    return HEADER_LOOKUP[name].decode("ascii")
