"""Text on its way to bytes and back: UTF-8, and JSON in both directions."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from stario_trio.exceptions import HttpException

__all__ = ["json_text", "read_json", "utf8"]

#: UTF-8 has no form for it; where text must be sent, a browser puts U+FFFD in its place (Infra standard, "scalar value
#: string").
SURROGATE: Final = re.compile("[\ud800-\udfff]")


def utf8(text: str) -> bytes:
    """Text as UTF-8.

    A visitor can send a lone surrogate in JSON, and it must not break the page, or the stream, of whom it is shown to:
    it becomes U+FFFD.

    Raises:
        TypeError: it is no text.
    """
    try:
        return text.encode()
    except UnicodeEncodeError:
        return SURROGATE.sub("\ufffd", text).encode()
    except AttributeError:
        raise TypeError(
            f"Text is str, not {type(text).__name__}. Decode bytes, or send them with respond(); of others take str()."
        ) from None


def json_text(data: Any) -> str:
    """Compact JSON, which has no raw line break; non-ASCII text as itself.

    Raises:
        TypeError: a value has no JSON form (a date, a set, a Decimal).
        ValueError: a number has no JSON form (NaN, Infinity), or a container contains itself.
    """
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate exists as an escape only
        return json.dumps(data, separators=(",", ":"))
    return text


def read_json(text: str | bytes) -> Any:
    """The value that a JSON text of a peer stands for: whatever is wrong with it is the peer's mistake.

    Python's reader is used as it is: it takes `NaN` and `Infinity`, which JSON has not.

    Raises:
        HttpException: 400 `Invalid JSON: ...`, which says what is wrong and repeats nothing of the text.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as exc:
        raise HttpException(400, f"Invalid JSON: {exc.msg}") from exc
    except UnicodeDecodeError as exc:
        raise HttpException(400, "Invalid JSON: not UTF-8") from exc
    except ValueError as exc:  # Python reads no integer of more than 4,300 digits
        raise HttpException(400, "Invalid JSON: a number is too long") from exc
    except RecursionError as exc:
        raise HttpException(400, "Invalid JSON: nested too deeply") from exc
