"""The signals that a page sends along with its requests."""

from __future__ import annotations

from typing import Any, Final, NotRequired, Protocol, TypeAlias, TypedDict, cast

from stario_trio.text import read_json

__all__ = ["FileSignal", "SignalValue", "SignalsDict", "get_signals", "read_signals"]

#: What a signal can hold: the values of JSON.
SignalValue: TypeAlias = str | int | float | bool | list[Any] | dict[str, Any] | None
#: Signals by name.
SignalsDict: TypeAlias = dict[str, SignalValue]

#: The methods with which Datastar 1.0 sends signals in the query. HEAD asks what GET would answer (RFC 9110
#: section 9.3.2), so the two read alike.
QUERY_METHODS: Final = frozenset({"GET", "HEAD", "DELETE"})


class FileSignal(TypedDict):
    """One file of a file input that is bound to a signal; such a signal is a list of these.

    `name` is what the visitor's machine calls the file, `contents` is base64, and `mime` is a guess of the browser.
    """

    name: str
    contents: str
    mime: NotRequired[str]


class Query(Protocol):
    """Query parameters, such as `Request.query`."""

    def get(self, key: str, /) -> str | None:
        """The first value of a parameter, None without one."""
        ...


class SignalRequest(Protocol):
    """What signals are read from; a `Request` is one."""

    @property
    def method(self) -> str:
        """The method, upper-case."""
        ...

    @property
    def query(self) -> Query:
        """The parameters of the query."""
        ...

    async def body(self) -> bytes:
        """The whole body."""
        ...


async def read_signals(r: SignalRequest) -> Any:
    """The JSON value that a request carries for its signals, `{}` if it carries none.

    GET, HEAD and DELETE carry it in the query, as the parameter `datastar`. Other methods carry it in the body,
    whatever its content type; so does a DELETE without that parameter, as before Datastar 1.0.

    Raises:
        HttpException: 400, it is not JSON; and what reading the body raises.
        ClientDisconnected: the peer left before the end of the body.
    """
    if r.method in QUERY_METHODS:
        text = r.query.get("datastar")
        if text is not None:
            return read_json(text)
        if r.method != "DELETE":
            return {}
    body = await r.body()
    return read_json(body) if body else {}


async def get_signals(r: SignalRequest) -> SignalsDict:
    """The signals of a request, for code that has no `c.signals()`.

    Returns:
        Signals by name; an empty dict also for JSON that is no object, which `c.signals()` refuses.

    Raises:
        HttpException: 400, not JSON; and what reading the body raises, as for `read_signals`.
    """
    value = await read_signals(r)
    return cast("SignalsDict", value) if isinstance(value, dict) else {}
