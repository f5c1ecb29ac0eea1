"""Who is to blame, and what is answered: `stario_trio.exceptions`."""

from __future__ import annotations

import pytest
import trio

from stario_trio.exceptions import (
    ClientDisconnected,
    HttpException,
    StarioError,
    sole_leaf,
    without_groups,
    without_own_group,
)
from tests.support.peer import FakePeer, Response


def answer(exc: HttpException, method: str = "GET") -> Response:
    peer = FakePeer()
    exc.respond(peer.writer(method))
    return Response(peer.sent, method=method)


# StarioError


def test_an_error_of_configuration_tells_what_is_wrong_and_how_to_mend_it() -> None:
    error = StarioError("No.", context={"k": "v", "n": 1}, help_text="Do this.", example="  this()\n  that()")
    assert (error.message, error.help_text, error.example) == ("No.", "Do this.", "  this()\n  that()")
    assert error.context == {"k": "v", "n": 1}
    assert str(error) == "No.\n  Context: k='v', n=1\n  Help: Do this.\n  Example:\n  this()\n  that()"


def test_what_is_not_given_is_not_told() -> None:
    error = StarioError("No.")
    assert (error.context, error.help_text, error.example) == ({}, None, None)
    assert str(error) == "No."
    assert error.args == ("No.",)
    assert str(StarioError("No.", context={}, help_text="", example="")) == "No."


# HttpException


def test_an_answer_has_a_status_and_a_detail() -> None:
    exc = HttpException(404, "no such room")
    assert (exc.status_code, exc.detail, exc.args, str(exc)) == (404, "no such room", ("no such room",), "no such room")
    response = answer(exc)
    assert (response.status, response.text) == (404, "no such room")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"


def test_without_a_detail_the_body_says_error() -> None:
    response = answer(HttpException(418))
    assert (response.status, response.text) == (418, "Error")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_status_that_a_client_follows_redirects(status: int) -> None:
    response = answer(HttpException(status, "/login"))
    assert (response.status, response.body) == (status, b"")
    assert response.headers["location"] == "/login"


@pytest.mark.upstream_bug(1)
@pytest.mark.parametrize("detail", ["", "/x"])
def test_bug_1_304_has_no_location_and_no_body(detail: str) -> None:
    response = answer(HttpException(304, detail))
    assert (response.status, response.body, response.complete, response.rest) == (304, b"", True, b"")
    assert set(response.headers) == {"date"}


@pytest.mark.upstream_bug(1)
@pytest.mark.parametrize("status", [300, 305, 306])
def test_bug_1_a_status_that_nobody_follows_does_not_redirect(status: int) -> None:
    response = answer(HttpException(status, "choose"))
    assert (response.status, response.text) == (status, "choose")
    assert "location" not in response.headers


def test_204_answers_without_a_body() -> None:
    response = answer(HttpException(204, "nothing to say"))
    assert (response.status, response.body, response.rest) == (204, b"", b"")
    assert set(response.headers) == {"date"}


@pytest.mark.parametrize("status", [0, 100, 600])
def test_a_status_that_does_not_exist_is_refused_before_anything_is_sent(status: int) -> None:
    peer = FakePeer()
    with pytest.raises(StarioError, match="Invalid status"):
        HttpException(status).respond(peer.writer())
    assert not peer.sent


@pytest.mark.upstream_bug(22)
def test_a_peer_that_left_is_no_answer() -> None:
    assert not issubclass(ClientDisconnected, HttpException)
    assert str(ClientDisconnected("gone")) == "gone"


# sole_leaf


def test_an_exception_of_its_own_is_its_leaf() -> None:
    error = ValueError()
    assert sole_leaf(error) is error


def test_groups_of_one_are_opened_at_any_depth() -> None:
    error = ValueError()
    assert sole_leaf(ExceptionGroup("a", [ExceptionGroup("b", [error])])) is error
    stop = KeyboardInterrupt()
    assert sole_leaf(BaseExceptionGroup("a", [stop])) is stop


def test_a_group_of_several_stays_a_group() -> None:
    several = ExceptionGroup("b", [ValueError(), KeyError()])
    assert sole_leaf(several) is several
    assert sole_leaf(ExceptionGroup("a", [several])) is several


# without_groups


def test_a_group_of_one_comes_out_as_its_leaf_with_its_own_story() -> None:
    error = ValueError()
    error.__cause__ = KeyError("cause")
    error.__context__ = KeyError("context")
    with pytest.raises(ValueError) as info, without_groups():  # noqa: PT011
        raise ExceptionGroup("a", [ExceptionGroup("b", [error])])
    assert info.value is error
    assert isinstance(error.__cause__, KeyError)
    assert str(error.__context__) == "'context'"


def test_a_group_of_several_comes_out_as_a_group() -> None:
    several = ExceptionGroup("b", [ValueError(), KeyError()])
    with pytest.raises(ExceptionGroup) as info, without_groups():
        raise ExceptionGroup("a", [several])
    assert info.value is several


def test_without_a_group_nothing_changes() -> None:
    error = ValueError()
    with pytest.raises(ValueError) as info, without_groups():  # noqa: PT011
        raise error
    assert info.value is error
    with without_groups():
        pass


# without_own_group


async def test_only_the_group_of_the_nursery_is_undone() -> None:
    error = ValueError()
    error.__context__ = KeyError("context")
    with pytest.raises(ExceptionGroup) as info, without_own_group():
        async with trio.open_nursery(strict_exception_groups=True):
            raise ExceptionGroup("a", [error])
    assert info.value.message == "a"
    with pytest.raises(ValueError) as leaf, without_own_group():  # noqa: PT011
        async with trio.open_nursery(strict_exception_groups=True):
            raise error
    assert leaf.value is error
    assert str(error.__context__) == "'context'"


def test_several_failures_stay_a_group() -> None:
    several = ExceptionGroup("a", [ValueError(), KeyError()])
    with pytest.raises(ExceptionGroup) as info, without_own_group():
        raise several
    assert info.value is several
