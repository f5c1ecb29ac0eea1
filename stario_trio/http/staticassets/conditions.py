"""What a request says about a file it may have already: preconditions and ranges (RFC 9110 sections 13 and 14).

Plain functions of the request's fields. What cannot be understood is ignored, as section 13 and 14.2 ask for: the
answer is then the whole file.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_tz
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from stario_trio.http.headers import Headers

__all__ = ["failed_precondition", "http_date", "requested_range", "same_as_before"]

#: Section 8.8.3. The W/ of a weak tag is a group of its own.
_ENTITY_TAG: Final = re.compile(rb'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
#: One range in a list, which may have empty elements (section 5.6.1). Of several ranges a server may ignore all.
_ONE_RANGE: Final = re.compile(rb"[Bb][Yy][Tt][Ee][Ss]=[\t ,]*([0-9]*)-([0-9]*)[\t ,]*")
#: More digits than any file size has. Python itself refuses to read thousands of them.
_ENDLESS: Final = 10**19
#: The longest date of section 5.6.7 has 33 characters.
_LONGEST_DATE: Final = 40

#: Year, month, day, hour, minute, second.
_Date: TypeAlias = tuple[int, int, int, int, int, int]


def failed_precondition(headers: Headers, etag: bytes, modified: int) -> int | None:
    """Evaluate the preconditions of a GET or HEAD, in the order of section 13.2.2.

    Args:
        headers: of the request.
        etag: of the selected representation; a strong one.
        modified: its last modification, in Unix seconds.

    Returns:
        304 if the client has the representation already, 412 if it wants another one, None to go on.
    """
    if (tags := _list(headers, b"if-match")) is not None:
        if not _matches(tags, etag, strong=True):
            return 412
    elif (date := _date(headers, b"if-unmodified-since")) is not None and modified > date:
        return 412
    if (tags := _list(headers, b"if-none-match")) is not None:
        return 304 if _matches(tags, etag, strong=False) else None
    date = _date(headers, b"if-modified-since")
    return 304 if date is not None and modified <= date else None


def requested_range(headers: Headers, size: int) -> range | None:
    """Read the `Range` of a GET.

    Args:
        headers: of the request.
        size: of the representation, in bytes.

    Returns:
        The positions of the bytes to send, empty if the range cannot be satisfied (416). None for no range, for
        several, and for what is none: the whole is sent.
    """
    values = headers.rgetlist(b"range")
    found = _ONE_RANGE.fullmatch(values[0]) if len(values) == 1 else None
    if found is None or found.groups() == (b"", b""):
        return None
    first, last = found.groups()
    if not first:  # a suffix: the last so many bytes
        # The end of nothing is satisfiable by section 14.1.2, but no Content-Range can say it.
        return None if size == 0 and _number(last) else range(max(0, size - _number(last)), size)
    start = _number(first)
    if not last:
        return range(start, size)
    stop = _number(last) + 1
    return None if stop <= start else range(start, min(stop, size))


def same_as_before(headers: Headers, etag: bytes, modified: int) -> bool:
    """Evaluate `If-Range` (section 13.1.5): whether the rest of the file still fits what the client has.

    Returns:
        True without the field, or if it names this very representation. A weak tag never does.
    """
    value = headers.rget(b"if-range")
    return value is None or value == etag or http_date(value) == modified


def http_date(value: bytes) -> int | None:
    """Read a date in one of the three formats of section 5.6.7.

    Returns:
        Unix seconds, or None if it is no such date.
    """
    text = value.decode("latin-1").strip()
    if not text[:1].isalpha() or len(text) > _LONGEST_DATE:  # each format begins with the day's name
        return None
    parsed = parsedate_tz(text)
    if parsed is None or parsed[9]:  # a zone that is not GMT
        return None
    date = parsed[:6]
    if str(date[0]) not in text:
        date = _in_full(date, datetime.now(UTC))
    try:
        return int(datetime(*date, tzinfo=UTC).timestamp())
    except ValueError:
        return None


def _in_full(date: _Date, now: datetime) -> _Date:
    """Complete a date of which only the last two digits of the year are known (section 5.6.7).

    Returns:
        The next such date from this year on, or, if that is more than 50 years ahead, the last one in the past.
    """
    year = now.year + (date[0] - now.year) % 100
    half_a_century = (now.year + 50, now.month, now.day, now.hour, now.minute, now.second)
    if (year, *date[1:]) > half_a_century:
        year -= 100
    return (year, *date[1:])


def _matches(tags: bytes, etag: bytes, *, strong: bool) -> bool:
    """Compare one tag with a list (section 8.8.3.2)."""
    if tags == b"*":
        return True
    return any(tag == etag and not (strong and weak) for weak, tag in _ENTITY_TAG.findall(tags))


def _list(headers: Headers, name: bytes) -> bytes | None:
    """All values of a list field as one (section 5.3)."""
    if headers.rget(name) is None:
        return None
    return b", ".join(headers.rgetlist(name)).strip()


def _date(headers: Headers, name: bytes) -> int | None:
    value = headers.rget(name)
    return None if value is None else http_date(value)


def _number(digits: bytes) -> int:
    digits = digits.lstrip(b"0")
    return int(digits or b"0") if len(digits) < 20 else _ENDLESS
