"""Routing: which handler, through which middleware, and what is answered when there is none."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import AsyncMock
from urllib.parse import unquote, unquote_to_bytes, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stario_trio.exceptions import StarioError
from stario_trio.http.headers import Headers
from stario_trio.http.request import BodyReader, Request
from stario_trio.http.router import Router, _normalize_path
from stario_trio.http.types import Context, Handler, Middleware
from stario_trio.http.unmatched import MethodNotAllowed, drop_trailing_slash, not_found

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from stario_trio.http.writer import Writer


class Answer:
    """What a router asks of a writer, written down."""

    def __init__(self) -> None:
        self.headers = Headers()
        self.status: int | None = None
        self.body = ""

    def text(self, content: str, status: int = 200) -> None:
        self.status, self.body = status, content

    def redirect(self, url: str, status: int = 307) -> None:
        self.headers.set("location", url)
        self.status = status


async def ask(router: Router, method: str, path: str, query: bytes = b"") -> tuple[Answer, Request]:
    request = Request(method=method, path=path, query_bytes=query, headers=Headers(), body=BodyReader.of(b""))
    answer = Answer()
    c = Context(cast("Any", None), request, cast("Any", None))
    await router.dispatch(c, cast("Writer", answer))
    return answer, request


def named(name: str) -> Handler:
    async def handler(c: Context, w: Writer) -> None:
        w.text(f"{name}:{c.req.tail}")

    return handler


def around(name: str) -> Middleware:
    def middleware(handler: Handler) -> Handler:
        async def inner(c: Context, w: Writer) -> None:
            await handler(c, w)
            answer = cast("Answer", w)
            answer.body = f"{name}({answer.body})"

        return inner

    return middleware


# Paths


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("", "/"),
        ("/", "/"),
        ("///", "/"),
        ("a", "/a"),
        ("a/", "/a"),
        ("/a/", "/a"),
        ("//d", "/d"),
        ("/a//b/", "/a//b"),
        ("/sp ace", "/sp ace"),
    ],
)
def test_outer_slashes_do_not_matter(written: str, path: str) -> None:
    router = Router()
    router.get(written, named("it"))
    assert _normalize_path(written) == path
    assert list(router._exact) == [path]
    assert not router._catchall


@pytest.mark.parametrize(
    ("written", "prefix"),
    [("*", "/"), ("/*", "/"), ("/f/*", "/f"), ("f/*/", "/f"), ("/a//*", "/a"), ("/a/*/b/*", "/a/*/b")],
)
def test_a_star_at_the_end_is_a_catch_all(written: str, prefix: str) -> None:
    router = Router()
    router.get(written, named("it"))
    assert [known for known, _ in router._catchall] == [prefix]
    assert not router._exact


@pytest.mark.parametrize("path", ["/a*", "/x/*/y", "/**"])
async def test_a_star_elsewhere_is_a_star(path: str) -> None:
    router = Router()
    router.get(path, named("it"))
    assert (await ask(router, "GET", path))[0].body == "it:"
    assert (await ask(router, "GET", path.replace("*", "z")))[0].status == 404


async def test_paths_are_case_sensitive() -> None:
    router = Router()
    router.get("/A", named("it"))
    assert (await ask(router, "GET", "/a"))[0].status == 404


# Methods


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
async def test_each_method_has_its_verb(method: str) -> None:
    router = Router()
    getattr(router, method.lower())("/a", named("it"))
    assert (await ask(router, method, "/a"))[0].body == "it:"
    assert router._exact["/a"].keys() == {method}


async def test_handle_takes_any_method() -> None:
    router = Router()
    router.handle("PROPFIND", "/a", named("it"))
    assert (await ask(router, "PROPFIND", "/a"))[0].body == "it:"


@pytest.mark.parametrize("method", ["get", "Get", "", "GET ", "GE T", "GET\n"])
def test_a_method_nobody_can_ask_for_is_refused(method: str) -> None:
    with pytest.raises(StarioError, match="upper-case token"):
        Router().handle(method, "/a", named("it"))


@pytest.mark.parametrize(
    ("method", "help_text"),
    [("get", "Write 'GET'"), ("GET POST", "one word"), ("GET,POST", "one word"), (["GET", "POST"], "once for each")],
)
def test_the_help_for_a_method_fits_the_mistake(method: Any, help_text: str) -> None:
    with pytest.raises(StarioError) as caught:
        Router().handle(method, "/a", named("it"))
    assert help_text in (caught.value.help_text or "")
    assert f"Write {method!r}" not in (caught.value.help_text or "")


async def test_another_method_is_405_with_those_there_are() -> None:
    router = Router()
    router.get("/a", named("get"))
    router.post("/a", named("post"))
    answer, _ = await ask(router, "HEAD", "/a")
    assert (answer.status, answer.body) == (405, "Method Not Allowed")
    assert answer.headers.get("allow") == "GET, POST"


async def test_no_route_is_404() -> None:
    answer, _ = await ask(Router(), "OPTIONS", "*")
    assert (answer.status, answer.body) == (404, "Not Found")


# Which route


async def test_exact_beats_catch_all_even_for_405() -> None:
    router = Router()
    router.post("/*", named("all"))
    router.post("/a/*", named("below"))
    router.get("/a", named("exact"))
    assert (await ask(router, "GET", "/a"))[0].body == "exact:"
    assert (await ask(router, "POST", "/a"))[0].headers.get("allow") == "GET"


async def test_the_longest_prefix_wins_even_for_405() -> None:
    router = Router()
    router.get("/a/*", named("short"))
    router.post("/a/b/c/*", named("long"))
    router.get("/a/b/*", named("middle"))
    assert [prefix for prefix, _ in router._catchall] == ["/a/b/c", "/a/b", "/a"]
    assert (await ask(router, "GET", "/a/b/x"))[0].body == "middle:x"
    assert (await ask(router, "GET", "/a/b/c/x"))[0].headers.get("allow") == "POST"


async def test_one_prefix_takes_several_methods() -> None:
    router = Router()
    router.get("/a/*", named("get"))
    router.post("/a/*", named("post"))
    assert (await ask(router, "POST", "/a/x"))[0].body == "post:x"
    assert len(router._catchall) == 1


@pytest.mark.upstream_bug(4)
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/files", "files:"),
        ("/files/x", "files:x"),
        ("/files//x", "files:x"),
        ("/files/../x", "files:../x"),
        ("/filesystem", "root:filesystem"),
        ("/", "root:"),
        ("/a/b", "root:a/b"),
    ],
)
async def test_a_prefix_ends_at_a_segment(path: str, body: str) -> None:
    router = Router()
    router.get("/files/*", named("files"))
    router.get("/*", named("root"))
    assert (await ask(router, "GET", path))[0].body == body


async def test_an_exact_route_has_no_tail() -> None:
    router = Router()
    router.get("/a", named("it"))
    _, request = await ask(router, "GET", "/a")
    assert request.tail == ""


segments = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=3)


def path_of(parts: list[str]) -> str:
    return "/" + "/".join(parts)


@given(st.lists(segments, unique_by=path_of), st.lists(segments, unique_by=path_of), segments)
def test_lookup_is_exact_then_longest_prefix(exact: list[list[str]], below: list[list[str]], asked: list[str]) -> None:
    router = Router()
    handlers: dict[str, Handler] = {}
    for path in [*map(path_of, exact), *(path_of([*parts, "*"]) for parts in below)]:
        handlers[path] = named(path)
        router.get(path, handlers[path])
    expected: tuple[Handler, str] = (not_found, "")
    if asked in exact:
        expected = (handlers[path_of(asked)], "")
    else:
        for length in range(len(asked) + 1):
            if asked[:length] in below:
                expected = (handlers[path_of([*asked[:length], "*"])], "/".join(asked[length:]))
    assert router.match("GET", path_of(asked)) == expected


def test_match_answers_without_a_request() -> None:
    router = Router()
    router.get("/a", named("it"))
    router.get("/f/*", named("it"))
    refusal, tail = router.match("PUT", "/f/x")
    assert isinstance(refusal, MethodNotAllowed)
    assert (refusal.allow, tail) == ("GET", "x")
    assert router.match("GET", "/b") == (not_found, "")
    assert router.match("GET", "/a/") == (drop_trailing_slash, "")
    assert router.match("GET", "") == (not_found, "")


# Trailing slashes


@pytest.mark.upstream_bug(3)
@pytest.mark.parametrize(
    ("path", "query", "location"),
    [
        ("/text/", b"", "/text"),
        ("/text//", b"", "/text"),
        ("/a//b/", b"", "/a//b"),
        ("/text/", b"a=1&b=%2F?", "/text?a=1&b=%2F?"),
        ("/text/", b"\xe9|", "/text?%E9%7C"),
        ("//", b"", "/"),
        ("///", b"x", "/?x"),
        ("//evil.com/", b"", "/evil.com"),
        ("/\\evil.com/", b"", "/%5Cevil.com"),
        ("/\t/evil.com/", b"", "/%09/evil.com"),
        ("/a?b/", b"", "/a%3Fb"),
        ("/a#b%/", b"", "/a%23b%25"),
        ("/é x/", b"", "/%C3%A9%20x"),
        ("/~a:b@c=1;2,3/", b"", "/~a:b@c=1;2,3"),
    ],
)
async def test_a_trailing_slash_is_redirected_away(path: str, query: bytes, location: str) -> None:
    answer, _ = await ask(Router(), "GET", path, query)
    assert answer.status == 301
    assert answer.headers.get("location") == location


@pytest.mark.upstream_bug(3)
@pytest.mark.parametrize(("method", "status"), [("GET", 301), ("HEAD", 301), ("POST", 308), ("DELETE", 308)])
async def test_the_redirect_keeps_the_method(method: str, status: int) -> None:
    router = Router()
    router.handle(method, "/*", named("all"))
    answer, _ = await ask(router, method, "/a/")
    assert answer.status == status


async def test_the_root_is_not_redirected() -> None:
    router = Router()
    router.get("/", named("it"))
    assert (await ask(router, "GET", "/"))[0].body == "it:"
    assert (await ask(Router(), "GET", "/"))[0].status == 404


@pytest.mark.upstream_bug(3)
@given(st.text(st.characters(exclude_categories=["Cs"])).map(lambda text: f"/{text}/"), st.binary())
async def test_the_redirect_stays_on_this_host(path: str, query: bytes) -> None:
    answer, _ = await ask(Router(), "GET", path, query)
    location = answer.headers.get("location")
    assert location is not None
    target = urlsplit(location)
    assert (target.scheme, target.netloc, target.fragment) == ("", "", "")
    assert location[:2] != "/\\"
    assert unquote(target.path) == "/" + path.strip("/")
    assert unquote_to_bytes(target.query) == unquote_to_bytes(query)


# Duplicates


def test_a_route_is_registered_once() -> None:
    router = Router()
    router.get("/a", named("it"))
    router.post("/a", named("it"))
    router.get("/f/*", named("it"))
    router.post("/f/*", named("it"))
    with pytest.raises(StarioError, match="Route already registered: GET /a") as caught:
        router.get("a/", named("it"))
    assert caught.value.context == {"method": "GET", "path": "/a"}
    with pytest.raises(StarioError, match=r"Route already registered: GET /f/\*") as caught:
        router.get("f/*", named("it"))
    assert caught.value.context == {"method": "GET", "prefix": "/f"}


def test_the_catch_all_of_everything_is_named_as_written() -> None:
    router = Router()
    router.get("*", named("it"))
    with pytest.raises(StarioError, match=r"Route already registered: GET /\*"):
        router.get("/*", named("it"))


# Middleware


async def test_middleware_from_outer_to_inner() -> None:
    child = Router()
    child.use(around("child1"), around("child2"))
    child.get("/x", named("it"), around("route1"), around("route2"))
    child.get("/f/*", named("it"))
    parent = Router()
    parent.use(around("parent1"))
    parent.use(around("parent2"))
    parent.mount("/api", child)
    assert (await ask(parent, "GET", "/api/x"))[0].body == "parent1(parent2(child1(child2(route1(route2(it:))))))"
    assert (await ask(parent, "GET", "/api/f/t"))[0].body == "parent1(parent2(child1(child2(it:t))))"
    assert (await ask(child, "GET", "/x"))[0].body == "child1(child2(route1(route2(it:))))"


async def test_middleware_is_called_once_and_runs_around_handlers_only() -> None:
    calls: list[Handler] = []

    def counting(handler: Handler) -> Handler:
        calls.append(handler)
        return around("counted")(handler)

    router = Router()
    router.use(counting)
    handler = named("it")
    router.get("/a", handler)
    for _ in range(2):
        assert (await ask(router, "GET", "/a"))[0].body == "counted(it:)"
    assert calls == [handler]
    assert (await ask(router, "GET", "/b"))[0].body == "Not Found"
    assert (await ask(router, "PUT", "/a"))[0].body == "Method Not Allowed"
    assert (await ask(router, "GET", "/a/"))[0].body == ""


def test_middleware_comes_before_routes() -> None:
    assert Router().empty
    router = Router()
    router.get("/a", named("it"))
    router.post("/a", named("it"))
    router.get("/f/*", named("it"))
    assert not router.empty
    with pytest.raises(StarioError, match="Middleware must be registered before routes") as caught:
        router.use(around("late"))
    assert caught.value.context == {"routes_registered": 2}


def test_mounting_counts_as_routes() -> None:
    child, router = Router(), Router()
    child.get("/*", named("it"))
    router.mount("/", child)
    assert not router.empty
    with pytest.raises(StarioError, match="before routes"):
        router.use(around("late"))


def test_middleware_is_a_plain_function() -> None:
    async def asynchronous(handler: Handler) -> Handler:
        return handler

    wrong: Any
    for wrong in (asynchronous, None, "name"):
        with pytest.raises(StarioError, match="not a plain function"):
            Router().use(wrong)
        with pytest.raises(StarioError, match="not a plain function"):
            Router().get("/a", named("it"), wrong)


def test_middleware_returns_a_handler() -> None:
    def forgetful(_handler: Handler) -> None: ...

    wrong: Any = forgetful
    with pytest.raises(StarioError, match="did not return a handler"):
        Router().get("/a", named("it"), wrong)


# Mounting


async def test_mount_copies_the_routes_there_are() -> None:
    child, router = Router(), Router()
    child.get("/", named("index"))
    child.get("/x", named("x"))
    child.post("/x", named("post x"))
    child.get("/f/*", named("files"))
    router.mount("api/", child)
    child.get("/late", named("late"))
    for method, path, body in [
        ("GET", "/api", "index:"),
        ("GET", "/api/x", "x:"),
        ("POST", "/api/x", "post x:"),
        ("GET", "/api/f/1", "files:1"),
        ("GET", "/api/late", "Not Found"),
        ("GET", "/x", "Not Found"),
    ]:
        answer, request = await ask(router, method, path)
        assert answer.body == body
        assert request.path == path


async def test_mount_at_the_root_and_of_the_root() -> None:
    child, router = Router(), Router()
    child.get("/x", named("x"))
    child.get("/*", named("all"))
    router.mount("", child)
    assert (await ask(router, "GET", "/x"))[0].body == "x:"
    assert (await ask(router, "GET", "/y"))[0].body == "all:y"
    outer = Router()
    outer.mount("/p", router)
    assert (await ask(outer, "GET", "/p"))[0].body == "all:"
    assert (await ask(outer, "GET", "/people"))[0].status == 404


def test_mounting_twice_is_a_duplicate() -> None:
    child, router = Router(), Router()
    child.get("/x", named("x"))
    router.mount("/a", child)
    router.mount("/b", child)
    with pytest.raises(StarioError, match="Route already registered: GET /a/x"):
        router.mount("/a", child)


@pytest.mark.parametrize("arguments", [(Router(), "/x"), ("/x", None), ("/x", print), ("/x", Router), (None, Router())])
def test_what_is_no_prefix_and_router_is_not_mounted(arguments: tuple[Any, Any]) -> None:
    with pytest.raises(StarioError, match=r"mount\(\) takes a prefix and a router") as caught:
        Router().mount(*arguments)
    assert 'app.mount("/api", api)' in str(caught.value)


async def test_a_router_can_be_mounted_into_itself() -> None:
    router = Router()
    router.get("/x", named("x"))
    router.get("/f/*", named("f"))
    router.mount("/again", router)
    assert (await ask(router, "GET", "/again/x"))[0].body == "x:"
    assert (await ask(router, "GET", "/again/f/1"))[0].body == "f:1"
    assert len(router._exact) == len(router._catchall) == 2


def test_readers_see_a_whole_table_while_it_grows() -> None:
    router = Router()
    router.get("/a/*", named("a"))
    seen = router._catchall
    router.get("/a/b/*", named("b"))
    assert [prefix for prefix, _ in seen] == ["/a"]


# What can be a handler


async def good(c: Context, w: Writer) -> None:
    w.text("good")


class Page:
    async def __call__(self, c: Context, w: Writer) -> None:
        await good(c, w)

    async def method(self, c: Context, w: Writer) -> None:
        await good(c, w)


async def with_option(_option: int, c: Context, w: Writer) -> None:
    await good(c, w)


@functools.wraps(good)
def decorated(c: Context, w: Writer) -> Awaitable[None]:
    return good(c, w)


class Wrapping:
    """A decorator written as a class."""

    def __init__(self, handler: Handler) -> None:
        functools.update_wrapper(self, handler)
        self.handler = handler

    def __call__(self, c: Context, w: Writer) -> Awaitable[None]:
        return self.handler(c, w)


@pytest.mark.parametrize(
    "handler",
    [
        good,
        Page(),
        Page().method,
        functools.partial(with_option, 1),
        functools.partial(Page()),
        functools.partial(functools.partial(with_option), 1),
        lambda c, w: good(c, w),
        decorated,
        Wrapping(good),
        AsyncMock(side_effect=good),
    ],
)
async def test_what_can_be_awaited_is_a_handler(handler: Handler) -> None:
    router = Router()
    router.get("/", handler)
    assert (await ask(router, "GET", "/"))[0].body == "good"


def test_a_builtin_is_given_the_benefit_of_the_doubt() -> None:
    unknown: Any = {}.get
    router = Router()
    router.get("/", unknown)
    assert router.match("GET", "/") == (unknown, "")


def plain(c: Context, w: Writer) -> None: ...


async def generating(c: Context, w: Writer) -> Any:
    yield


def yielding(c: Context, w: Writer) -> Any:
    yield


class PlainPage:
    def __call__(self, c: Context, w: Writer) -> None: ...

    def method(self, c: Context, w: Writer) -> None: ...


@pytest.mark.parametrize(
    ("handler", "help_text"),
    [
        (plain, "async def"),
        (generating, "`yield`"),
        (yielding, "`yield`"),
        (functools.partial(generating), "`yield`"),
        (PlainPage(), "async def"),
        (PlainPage().method, "async def"),
        (functools.partial(plain), "async def"),
        (functools.partial(PlainPage()), "async def"),
        (Wrapping(cast("Handler", plain)), "async def"),
        (Page, "instance"),
        (None, "not callable"),
        ("/path", "not callable"),
    ],
)
def test_what_cannot_be_awaited_is_refused(handler: Any, help_text: str) -> None:
    with pytest.raises(StarioError, match="Handler is not an async function") as caught:
        Router().get("/", handler)
    assert help_text in (caught.value.help_text or "")
    assert caught.value.context["handler"] is handler


def test_swapped_arguments_are_told() -> None:
    path: Any = good
    handler: Any = "/"
    with pytest.raises(StarioError, match=r"path, handler, \*middleware"):
        Router().get(path, handler)
