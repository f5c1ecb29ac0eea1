"""Request targets and hosts (RFC 9112 section 3.2)."""

from __future__ import annotations

import re
from urllib.parse import unquote

from stario_trio.server.wire.errors import WireError

__all__ = ["is_host", "read_target"]

# uri-host [ ":" port ] (RFC 9110 section 7.2, RFC 3986 section 3.2.2). Left out are the comma, which is legal
# but in a Host field a sign of two values joined, and IPvFuture. The repeats are possessive: one within
# another would be exponential otherwise.
_HOST = re.compile(
    rb"(?:(?:[-A-Za-z0-9._~!$&'()*+;=]++|%[0-9A-Fa-f]{2})*+|\[[0-9A-Fa-f:.]++\])"
    rb"(?::[0-9]{0,5})?"
)

# http-URI and https-URI (RFC 9110 section 4.2); behind a proxy that speaks TLS, the second one is ours too.
_ABSOLUTE_FORM = re.compile(rb"(?i:https?)://([^/?]*)(.*)")


def is_host(value: bytes) -> bool:
    """Say whether this is a host with an optional port; the empty host is one (RFC 9110 section 7.2)."""
    return _HOST.fullmatch(value) is not None


def read_target(method: str, target: bytes) -> tuple[str, bytes, bytes | None]:
    """Take a request target (visible ASCII) apart.

    Returns:
        The percent-decoded path, the raw query, and the authority if the target is in absolute-form.

    Raises:
        WireError: 400 if it is in none of the forms that this method may use.
    """
    # A fragment is no part of a target, but clients that send one do no harm.
    target, _, _ = target.partition(b"#")
    authority = None
    if not target.startswith(b"/"):  # origin-form, section 3.2.1, needs no look at the rest
        if target == b"*" and method == "OPTIONS":  # asterisk-form, section 3.2.4
            return "*", b"", None
        match = _ABSOLUTE_FORM.fullmatch(target)  # section 3.2.2
        if match is None:
            raise WireError(400, "Invalid request target")
        authority, target = match[1], match[2]
        # RFC 9110 section 4.2.1: a recipient must reject an empty host.
        if not is_host(authority) or authority.partition(b":")[0] == b"":
            raise WireError(400, "Invalid host in request target")
    raw_path, _, query = target.partition(b"?")
    path = raw_path.decode("ascii")
    if "%" in path:
        path = unquote(path)  # UTF-8, U+FFFD for what is none
    return path or "/", query, authority
