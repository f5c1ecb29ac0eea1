"""Settings and limits: the defaults, and that a wrong one never gets as far as a socket."""

from __future__ import annotations

import math
import socket
from dataclasses import FrozenInstanceError, fields
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stario_trio.exceptions import StarioError
from stario_trio.server.config import DEFAULT_HOST, DEFAULT_PORT, Config, Limits

MIB = 1024 * 1024


def test_the_defaults_of_the_server() -> None:
    assert Config().items() == [
        ("host", "127.0.0.1"),
        ("port", 8000),
        ("unix_socket", None),
        ("workers", 1),
        ("graceful_timeout", 5.0),
        ("backlog", 2048),
        ("cleanup_timeout", 5.0),
        ("limits", Limits()),
    ]


def test_the_defaults_of_the_limits() -> None:
    assert {f.name: f.default for f in fields(Limits)} == {
        "header_bytes": 64 * 1024,
        "header_fields": 100,
        "target_bytes": 8 * 1024,
        "body_bytes": 10 * MIB,
        "header_timeout": 10.0,
        "keep_alive": 5.0,
        "body_timeout": 30.0,
        "write_timeout": 30.0,
        "connections": math.inf,
        "high_water": MIB,
        "max_unsent": 16 * MIB,
    }


def test_settings_do_not_change_under_a_running_server() -> None:
    with pytest.raises(FrozenInstanceError):
        Config().port = 1  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        Limits().keep_alive = 1  # type: ignore[misc]


GOOD: list[tuple[str, object]] = [
    ("host", ""),
    ("host", "::1"),
    ("port", 0),
    ("port", 65535),
    ("workers", 1),
    ("backlog", 1),
    ("backlog", 2**31 - 1),
    ("graceful_timeout", 0),
    ("graceful_timeout", 0.29),
    ("graceful_timeout", math.inf),
    ("cleanup_timeout", 0),
    ("cleanup_timeout", math.inf),
    ("unix_socket", "/run/app.sock"),
    ("unix_socket", None),
]


@pytest.mark.parametrize(("setting", "value"), GOOD)
def test_a_good_setting_is_taken_as_it_is(setting: str, value: object) -> None:
    assert dict(Config(**cast("Any", {setting: value})).items())[setting] == value


BAD: list[tuple[str, object]] = [
    ("host", None),
    ("host", b"localhost"),
    ("port", -1),
    ("port", 65536),
    ("port", "80"),
    ("port", 80.0),
    ("port", True),
    ("port", math.inf),
    ("workers", 0),
    ("workers", -1),
    ("workers", 1.5),
    ("workers", math.inf),
    ("backlog", 0),
    ("backlog", 2**31),
    ("backlog", math.inf),
    ("graceful_timeout", -0.1),
    ("graceful_timeout", math.nan),
    ("graceful_timeout", -math.inf),
    ("graceful_timeout", None),
    ("graceful_timeout", "5"),
    ("graceful_timeout", True),
    ("cleanup_timeout", -1),
    ("cleanup_timeout", math.nan),
    ("limits", None),
    ("limits", {"keep_alive": 1}),
    ("unix_socket", ""),
    ("unix_socket", "a\0b"),
    ("unix_socket", b"/run/app.sock"),
]


@pytest.mark.parametrize(("setting", "value"), BAD)
def test_a_bad_setting_is_refused_with_help(setting: str, value: object) -> None:
    with pytest.raises(StarioError, match=f"^Invalid {setting}") as info:
        Config(**cast("Any", {setting: value}))
    assert info.value.context == {setting: value}
    assert info.value.help_text
    assert info.value.help_text.startswith("Give ")


GOOD_LIMITS: list[tuple[str, object]] = [
    ("header_bytes", 1024),
    ("header_fields", 1),
    ("target_bytes", 1),
    ("body_bytes", 0),
    ("body_bytes", math.inf),
    ("connections", 1),
    ("connections", math.inf),
    ("high_water", 1),
    ("max_unsent", MIB),
    ("max_unsent", math.inf),
    *[
        (name, value)
        for name in ("header_timeout", "keep_alive", "body_timeout", "write_timeout")
        for value in (0.001, 1, math.inf)
    ],
]


@pytest.mark.parametrize(("limit", "value"), GOOD_LIMITS)
def test_a_good_limit_is_taken_as_it_is(limit: str, value: object) -> None:
    assert getattr(Limits(**cast("Any", {limit: value})), limit) == value


BAD_LIMITS: list[tuple[str, object]] = [
    ("header_bytes", 1023),
    ("header_bytes", math.inf),
    ("header_fields", 0),
    ("header_fields", math.inf),
    ("target_bytes", 0),
    ("body_bytes", -1),
    ("body_bytes", 1.5),
    ("body_bytes", -math.inf),
    ("body_bytes", math.nan),
    ("connections", 0),
    ("connections", None),
    ("high_water", 0),
    ("high_water", math.inf),
    ("max_unsent", 0),
    ("max_unsent", True),
    *[
        (name, value)
        for name in ("header_timeout", "keep_alive", "body_timeout", "write_timeout")
        for value in (0, 0.0, -1, math.nan, None, "1", False)
    ],
]


@pytest.mark.parametrize(("limit", "value"), BAD_LIMITS)
def test_a_bad_limit_is_refused_with_help(limit: str, value: object) -> None:
    with pytest.raises(StarioError, match=f"^Invalid {limit}") as info:
        Limits(**cast("Any", {limit: value}))
    assert list(info.value.context) == [limit]
    assert info.value.help_text
    assert info.value.help_text.startswith("Give ")


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("port", -1, "Give a whole number, 0 to 65,535."),
        ("workers", 0, "Give a whole number, 1 or more."),
        ("graceful_timeout", -1, "Give seconds as a number, 0 or more; math.inf means no limit."),
    ],
)
def test_the_help_says_what_would_be_right(setting: str, value: object, says: str) -> None:
    with pytest.raises(StarioError) as info:
        Config(**cast("Any", {setting: value}))
    assert info.value.help_text == says


def test_the_help_of_a_limit_says_whether_it_can_be_lifted() -> None:
    with pytest.raises(StarioError) as info:
        Limits(body_bytes=-1)
    assert info.value.help_text == "Give a whole number, 0 or more; math.inf means no limit."


def test_max_unsent_must_not_be_below_the_high_water_mark() -> None:
    assert Limits(high_water=10, max_unsent=10).max_unsent == 10
    with pytest.raises(StarioError, match="Invalid max_unsent") as info:
        Limits(high_water=10, max_unsent=9)
    assert info.value.context == {"max_unsent": 9, "high_water": 10}


@given(st.floats() | st.integers())
def test_a_time_is_a_number_that_is_not_negative(value: float) -> None:
    if value >= 0:
        assert Config(graceful_timeout=value).graceful_timeout == value
    else:
        with pytest.raises(StarioError):
            Config(graceful_timeout=value)


# SK-06


@pytest.mark.spec("SK-06")
@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"host": "127.0.0.1"}, "host"),
        ({"port": 8000}, "port"),
        ({"host": "::1", "port": 0}, "host and port"),
    ],
)
def test_a_unix_socket_excludes_an_explicit_host_and_port(given: dict[str, Any], names: str) -> None:
    with pytest.raises(StarioError, match=rf"^unix_socket cannot be combined with {names}\n") as info:
        Config(unix_socket="/run/app.sock", **given)
    assert info.value.context == {"unix_socket": "/run/app.sock", **given}


@pytest.mark.spec("SK-06")
def test_the_defaults_are_not_explicit_also_when_passed_on() -> None:
    config = Config(unix_socket="/run/app.sock", host=DEFAULT_HOST, port=DEFAULT_PORT)
    assert (config.unix_socket, config.host, config.port) == ("/run/app.sock", "127.0.0.1", 8000)


# SK-01


@pytest.mark.spec("SK-01")
def test_workers_cannot_share_a_port_where_the_platform_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT", raising=False)
    with pytest.raises(StarioError, match=r"Cannot use 2 workers \(SO_REUSEPORT unavailable\)"):
        Config(workers=2)
    assert Config(workers=1).workers == 1
    assert Config(workers=2, unix_socket="/run/app.sock").workers == 2


@pytest.mark.spec("SK-01")
def test_workers_share_a_port_where_the_platform_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "SO_REUSEPORT", 15, raising=False)
    assert Config(workers=2).workers == 2
