"""Header fields of a request or a response (RFC 9110 section 5).

Names are lower-case bytes, values are bytes, and a repeated field keeps each of its values. What a program
sets is checked at once; what the server read off the wire was checked by its parser and comes in through
`from_pairs`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, overload

from stario_trio.http import header_names
from stario_trio.http.header_names import *  # noqa: F403  (every name of it is also one of this module)
from stario_trio.http.header_names import HEADER_LOOKUP as _LOOKUP
from stario_trio.http.header_names import HEADER_VALUE_RE as _BAD_VALUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Self

__all__ = ["Headers", "encode_value"]
__all__ += header_names.__all__

T = TypeVar("T")


def encode_value(value: str | bytes) -> bytes:
    """Check a header value and give its bytes.

    Returns:
        The value, latin-1 encoded if it was a str. Spaces around it are kept.

    Raises:
        ValueError: it holds a control character other than tab, or (as UnicodeEncodeError) a character
            outside latin-1.
        TypeError: it is neither str nor bytes.
    """
    try:
        text = value if isinstance(value, str) else str(value, "latin-1")
        encoded = value.encode("latin-1") if isinstance(value, str) else bytes(value)
    except TypeError as exc:
        exc.add_note("A header value is str or bytes; for a number use str(number).")
        raise
    except UnicodeEncodeError as exc:
        exc.add_note("A header value holds latin-1 only; percent-encode the rest (urllib.parse.quote).")
        raise
    # `isprintable` is the quick answer for nearly all values; it is also False for some harmless ones.
    if not text.isprintable() and (found := _BAD_VALUE.search(encoded)):
        at = found.start()
        raise ValueError(
            f"Invalid header value: control character {text[at]!r} at index {at} of "
            f"{text[:200]!r}. Remove it, or percent-encode the value."
        )
    return encoded


class Headers:
    """Header fields by name, in the order in which the names first came.

    Methods take a name as str or bytes in any case, check it, and give values as str. Those with an `r` in
    front are the raw ones for the framework: lower-case bytes in, bytes out, nothing checked (but see
    `field_lines`).

    When the head of a response has been sent, its fields can be read but no longer changed: every method that
    would is a RuntimeError.

    Args:
        raw_header_data: fields to start with, used as they are: lower-case names, one value or a list that is
            not empty.
    """

    __slots__ = ("_data", "_sent")

    def __init__(self, raw_header_data: dict[bytes, bytes | list[bytes]] | None = None) -> None:
        self._data: dict[bytes, bytes | list[bytes]] = {} if raw_header_data is None else raw_header_data
        self._sent = False

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[bytes, bytes]]) -> Self:
        """Hold the fields of a parsed request.

        Args:
            pairs: what the parser accepted: lower-case names, values without outer spaces.
        """
        if not isinstance(pairs, list):
            pairs = list(pairs)
        data: dict[bytes, bytes | list[bytes]] = dict(pairs)
        headers = cls(data)
        if len(data) != len(pairs):
            data.clear()
            for name, value in pairs:
                headers.radd(name, value)
        return headers

    def add(self, name: str | bytes, value: str | bytes) -> Self:
        """Append a value, next to those the name has already."""
        return self.radd(_LOOKUP[name], encode_value(value))

    def set(self, name: str | bytes, value: str | bytes) -> Self:
        """Replace all values of the name by one."""
        if self._sent:
            raise _too_late()
        self._data[_LOOKUP[name]] = encode_value(value)
        return self

    def update(
        self,
        other: Mapping[str, str | bytes] | Mapping[bytes, str | bytes] | Mapping[str | bytes, str | bytes] | None,
    ) -> Self:
        """`set` each field of the other; if one is refused, none is set."""
        if self._sent:
            raise _too_late()
        if other is not None:
            self._data.update({_LOOKUP[name]: encode_value(value) for name, value in other.items()})
        return self

    def setdefault(self, name: str | bytes, value: str | bytes) -> str:
        """Set the value unless the name has one.

        Returns:
            The first value the name has now.
        """
        if self._sent:
            raise _too_late()
        held = self._data.setdefault(_LOOKUP[name], encode_value(value))
        return _first(held).decode("latin-1")

    @overload
    def get(self, name: str | bytes) -> str | None: ...
    @overload
    def get(self, name: str | bytes, default: T) -> str | T: ...
    def get(self, name: str | bytes, default: T | None = None) -> str | T | None:
        """The first value, decoded as latin-1, or the default."""
        held = self._data.get(_LOOKUP[name])
        return default if held is None else _first(held).decode("latin-1")

    def getlist(self, name: str | bytes) -> list[str]:
        """All values, decoded as latin-1; a new list."""
        return [value.decode("latin-1") for value in self.rgetlist(_LOOKUP[name])]

    @overload
    def rget(self, name: bytes) -> bytes | None: ...
    @overload
    def rget(self, name: bytes, default: T) -> bytes | T: ...
    def rget(self, name: bytes, default: T | None = None) -> bytes | T | None:
        """The first value or the default. Raw."""
        held = self._data.get(name)
        return default if held is None else _first(held)

    def rgetlist(self, name: bytes) -> list[bytes]:
        """All values; a new list. Raw."""
        held = self._data.get(name, [])
        return [held] if isinstance(held, bytes) else held.copy()

    def radd(self, name: bytes, value: bytes) -> Self:
        """`add`, raw and unchecked."""
        if self._sent:
            raise _too_late()
        held = self._data.get(name)
        if held is None:
            self._data[name] = value
        elif isinstance(held, bytes):
            self._data[name] = [held, value]
        else:
            held.append(value)
        return self

    def rset(self, name: bytes, value: bytes) -> Self:
        """`set`, raw and unchecked."""
        if self._sent:
            raise _too_late()
        self._data[name] = value
        return self

    def remove(self, name: str | bytes) -> Self:
        """Forget all values of the name; one that is absent is fine."""
        if self._sent:
            raise _too_late()
        self._data.pop(_LOOKUP[name], None)
        return self

    def clear(self) -> None:
        """Forget everything."""
        if self._sent:
            raise _too_late()
        self._data.clear()

    def seal(self) -> None:
        """Refuse changes from now on: the head is sent, and nobody would see them."""
        self._sent = True

    def items(self) -> list[tuple[bytes, bytes]]:
        """All fields as pairs, the values of one name together."""
        return [(name, value) for name in self._data for value in self.rgetlist(name)]

    def field_lines(self) -> bytes:
        r"""The fields as they go on the wire: `name: value\r\n` each, as in `items` (RFC 9112 section 5).

        The last gate before the peer. Whatever way a field came in, it cannot add a line of its own.

        Raises:
            ValueError: a raw field holds CR, LF or NUL.
        """
        lines: list[bytes] = []
        for name, held in self._data.items():
            if isinstance(held, bytes):
                lines.append(name + b": " + held)
            else:
                lines += [name + b": " + value for value in held]
        lines.append(b"")
        block = b"\r\n".join(lines)
        ends = len(lines) - 1
        if block.count(b"\n") != ends or block.count(b"\r") != ends or b"\0" in block:
            raise ValueError(
                "A header field set with rset, radd or the constructor holds CR, LF or NUL. "
                "Use set or add, which say which one it is."
            )
        return block

    def __contains__(self, name: str | bytes) -> bool:
        return _LOOKUP[name] in self._data

    def __len__(self) -> int:
        return len(self._data)

    def __repr__(self) -> str:
        return f"Headers({self._data!r})"


def _too_late() -> RuntimeError:
    return RuntimeError(
        "The head of the response is sent: its fields cannot be changed any more. Change them before the first "
        "write(), event or one-shot method."
    )


def _first(held: bytes | list[bytes]) -> bytes:
    return held if isinstance(held, bytes) else held[0]
