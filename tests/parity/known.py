"""The defects of Stario 2.2.1 that are known, and what its documentation promises beside what its code does.

A test shows a defect to be absent by its marker, `@pytest.mark.upstream_bug(23)`: `pytest --bug 23` runs them.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["BUGS", "SERVER_PAGE", "WIRE", "Bug", "Promise"]


class Bug(NamedTuple):
    """A defect: what Stario does, and what happens here."""

    there: str
    here: str


class Promise(NamedTuple):
    """A sentence of Stario's page on its server, or a request.

    Attributes:
        says: the page, or the peer.
        does: the code of 2.2.1.
        here: what this package does.
        tests: where that is shown, as `file::test`.
    """

    says: str
    does: str
    here: str
    tests: tuple[str, ...]


BUGS: dict[int, Bug] = {
    1: Bug(
        "`HttpException(304)` is a 304 with a `location`",
        "304 has no location and no body; 300 and 305 do not redirect",
    ),
    2: Bug("the annotations of `Context` cannot be resolved", "`typing.get_type_hints` works"),
    3: Bug(
        "the redirect of a trailing slash loses the query, makes a GET of a POST, and can lead to another host",
        "keeps the query, is a 308 but for GET and HEAD, escapes the path and stays on this host",
    ),
    4: Bug("`/files/*` serves `/filesystem`", "a prefix ends at a segment"),
    5: Bug("`on_error(Exception, ...)` is never called", "it takes what no other handler takes"),
    6: Bug("an error handler's awaitable is dropped unless it is a coroutine", "any awaitable is awaited"),
    7: Bug("an error handler that fails after the head escapes", "the connection is cut, and both errors are told"),
    8: Bug("a response that fails half-way ends as if it were whole", "it is cut, so that the peer can tell"),
    9: Bug("a cancelled handler answers 204", "it answers nothing"),
    10: Bug("`run()` needs the main thread", "it runs in any; `stop()` takes the place of signals"),
    11: Bug("the span of a failed start is no error", "it has the error, and it ends"),
    12: Bug("a start that takes over 2 seconds ends silently", "it is waited for, however long it takes"),
    13: Bug("cancelling `run()` stops nothing", "it closes everything at once and then goes on"),
    14: Bug("bodies are sent for HEAD, 204 and 304", "there is none, and a 204 has no `content-length`"),
    15: Bug("signal handlers stay after `run()`", "those from before are back"),
    16: Bug("an idle connection holds a stop up", "it is closed at once"),
    17: Bug(
        "a handler that swallows its cancellation holds a stop up for ever",
        "it has `cleanup_timeout`, then it is reported and left",
    ),
    18: Bug("two workers on one Unix socket fail in the stop", "one socket, made and removed once"),
    19: Bug("whatever file stands at the path of the Unix socket is removed", "only a socket that nobody answers at"),
    20: Bug("`backlog` does not count for Unix sockets", "it does"),
    21: Bug("a head may have any size", "`Limits.header_bytes`, `header_fields`, `target_bytes`: 431 or 414"),
    22: Bug("a peer that leaves in its body is a 413", "it raises `ClientDisconnected`"),
    23: Bug("after one byte of a head there is no time limit", "`Limits.header_timeout`: 408"),
    24: Bug("HTTP/1.0 gets chunks", "the end of the connection ends the body"),
    25: Bug("`Expect: 100-continue` is not answered", "it is, when the body is first read"),
    26: Bug("garbage behind a request is answered in the middle of its response", "after it"),
    27: Bug("a large body that nobody reads jams the connection", "it is skipped, or the connection closes"),
    28: Bug(
        "unsent bytes wait in memory without a limit, and hide that the peer has left",
        "`Limits.high_water` and `max_unsent`; leaving is seen",
    ),
    29: Bug("JSON that is not UTF-8 is a 500", "a 400"),
    30: Bug("a header may have an empty name, or one outside ASCII", "a name is a token"),
    31: Bug("of two equal values of a header one is lost", "both stay"),
    32: Bug("`Accept-Encoding` is searched for words: `br;q=0` chooses br", "it is read, with q-values and `*`"),
    33: Bug('`write(b"")` ends the body', "it sends nothing"),
    34: Bug("`write` compresses and does not say so", "it sends exactly its bytes"),
    35: Bug("compressed streams have no end", "`end` writes it"),
    36: Bug(
        "`vary` is replaced, and missing where nothing was compressed",
        "it is merged, and on every response that could be",
    ),
    37: Bug("`content-length` is not compared with what is written", "too much raises, too little cuts"),
    38: Bug("a stream of events keeps a `content-length`, and says `keep-alive` when it will close", "neither"),
    39: Bug("a cookie's `expires=5` is no date", "a number is a time"),
    40: Bug("a cookie's domain can smuggle in an attribute", "`;` and an unknown `samesite` are refused"),
    41: Bug(
        "a disconnect escapes from `async for ... in w.alive()` as a cancellation",
        "the loop ends, and the code behind it runs",
    ),
    42: Bug("`async with w.alive()` swallows every cancellation", "only its own"),
    43: Bug("a cancel is left over after the block", "nothing is"),
    44: Bug("a block that begins too late, or never waits, does not end", "each round looks first"),
    45: Bug("a line break in a selector forges an event", "it is refused"),
    46: Bug("a CR in HTML ends its line", "CRLF, CR and LF all begin a new one"),
    47: Bug("`</script>` in code or in a URL ends the script", "it is escaped"),
    48: Bug("signals may hold NaN, which is no JSON", "it is a ValueError"),
    49: Bug("Infinity for an `int` signal is a 500", "the value stays as it is"),
    50: Bug("signals that are no object are a 500 with a schema", "a 400"),
    51: Bug("bad JSON in a GET's signals is a 500", "a 400"),
    52: Bug(
        "signals of a DELETE are looked for in the body only",
        "in the query, where Datastar 1.0 puts them, and then in the body",
    ),
    53: Bug("`UP.CSS` is no style sheet", "suffixes are compared in any case"),
    54: Bug("`vary` is missing from a file's uncompressed form", "it is on each"),
    55: Bug(
        "a file that has changed is sent under its old length", "it is noticed before the head, or the response is cut"
    ),
    56: Bug("the redirect to a fingerprinted name can lead to the wrong folder", "it names the whole path"),
    57: Bug("a subject that ends in `*` arrives twice", "once"),
    58: Bug("a subscription begins with its first message asked for", "with the call, inside a Trio run"),
    59: Bug("a subscription that is dropped stays until garbage collection", "it is gone with its last reference"),
    60: Bug("a slow subscriber's queue has no limit", "`maxsize`; the oldest are dropped and counted"),
    61: Bug("a span that changes after its end is printed again", "one line for each span"),
    62: Bug("an error without words looks like success", "it is an error"),
    63: Bug("a span that is no JSON is dropped, NaN makes bad JSON", "all of it becomes text"),
    64: Bug(
        "the terminal's tracer keeps what it has printed, and loses late children",
        "it forgets the one and shows the other",
    ),
    65: Bug("the terminal's tracer shares a set with its thread, without a lock", "there is a queue between them"),
    66: Bug("the recorder lacks half of the writer", "it has what the writer has"),
    67: Bug(
        "a 500 carries the cache headers of the response that failed",
        "a bare 500 carries none of its fields; another answer to an exception none of its content, its validators "
        "and its leave to be cached, but what forbids that",
    ),
}

_STOP = "tests/spec/test_stop.py::"
_ALIVE = "tests/spec/test_alive.py::"
_SERVER = "tests/server/test_server.py::"
_SIGNALS = "tests/server/test_signals.py::"
_SOCKETS = "tests/server/test_sockets.py::"
_THREADS = "tests/server/test_threads.py::"

SERVER_PAGE: list[Promise] = [
    Promise(
        'the cleanup example reads `c["user_id"]`',
        "a `Context` cannot be read",
        "it can",
        ("tests/http/test_types.py::test_attributes_go_to_the_current_step",),
    ),
    Promise(
        "the code after `async for ... in w.alive()` runs on a disconnect or a stop",
        "only if the cancel comes while the source waits",
        "as the page says",
        (
            f"{_ALIVE}test_a_running_body_finishes_its_round",
            f"{_ALIVE}test_without_a_source_the_loop_ends_between_rounds",
        ),
    ),
    Promise(
        "handlers in `alive` exit automatically",
        "by a cancel that also hides those from outside",
        "as the page says, and cancels from outside pass",
        (
            f"{_ALIVE}test_the_block_is_cancelled_and_the_code_after_it_runs",
            f"{_ALIVE}test_the_block_swallows_only_its_own_cancellation",
        ),
    ),
    Promise(
        "`async for msg in w.alive(relay.subscribe(...))`: `w.patch(render(msg))`",
        "`msg` is a tuple of subject and data, and text is escaped again",
        "a tuple, and what has `__html__` is not escaped",
        ("tests/parity/test_server_page.py::test_messages_are_pairs_and_what_is_html_is_sent_as_it_is",),
    ),
    Promise(
        "each worker has a thread of its own",
        "the first worker has the caller's",
        "with `workers=N` each has one; with one worker it is the caller's",
        (f"{_THREADS}test_n_named_threads_serve_one_address",),
    ),
    Promise(
        "`uvloop.run(app.serve(workers=4))` is faster",
        "only the first worker runs on uvloop",
        "it works; handlers are on Trio",
        ("tests/server/test_asyncio.py::test_it_serves_from_a_running_loop",),
    ),
    Promise(
        "`unix_socket` excludes host and port",
        "it wins silently",
        "host or port that are given beside it are an error",
        (f"{_SOCKETS}test_unix_socket_and_an_explicit_address_exclude_each_other",),
    ),
    Promise(
        "`backlog` is 2048",
        "for TCP only, and not for `app.serve`",
        "for both, and `app.serve` takes it",
        (
            f"{_SOCKETS}test_backlog_counts_for_unix_sockets",
            "tests/http/test_app.py::test_serve_passes_each_setting_on",
        ),
    ),
    Promise(
        "a stale socket file is removed",
        "any file is",
        "as the page says",
        (
            f"{_SOCKETS}test_a_stale_socket_file_is_replaced",
            f"{_SOCKETS}test_what_is_no_socket_is_refused_and_untouched",
        ),
    ),
    Promise(
        "the socket's mode is 0666 and it is removed at the end",
        "by its path, whoever it belongs to; not after a cancel",
        "as the page says, and only the server's own",
        (
            f"{_SOCKETS}test_anybody_may_connect_to_a_unix_socket",
            f"{_SOCKETS}test_the_file_is_gone_after_an_outer_cancel",
            f"{_SOCKETS}test_another_servers_file_is_not_removed",
        ),
    ),
    Promise(
        "all workers share one socket",
        "two of them fail in the stop",
        "as the page says",
        (f"{_THREADS}test_one_unix_socket_is_made_once_and_removed_once",),
    ),
    Promise(
        "all workers bind before one accepts; if one fails, all do",
        "within 2 seconds, or silently not at all",
        "as the page says",
        (f"{_THREADS}test_nobody_accepts_before_all_have_bound", f"{_THREADS}test_a_worker_that_needs_3_s_to_bind"),
    ),
    Promise(
        "a stop waits for connections to drain",
        "idle ones too",
        "idle ones are closed",
        (f"{_STOP}test_idle_connections_close_at_once_without_a_response",),
    ),
    Promise(
        "cancelled tasks are gathered",
        "for ever, if need be",
        "for `cleanup_timeout`",
        (
            f"{_STOP}test_cancelled_handlers_have_time_for_their_cleanup",
            f"{_STOP}test_a_handler_that_stays_is_reported_with_its_route_and_stack",
        ),
    ),
    Promise(
        "a signal makes the span `server.shutdown`",
        "only the first; a cancel makes none",
        "every stop makes one",
        (f"{_SERVER}test_the_report_and_the_shutdown_span",),
    ),
    Promise(
        "the attributes of the startup and shutdown spans",
        "as listed",
        "as listed",
        (f"{_SERVER}test_the_startup_span", f"{_SERVER}test_the_report_and_the_shutdown_span"),
    ),
    Promise(
        "signal handlers work on Unix and Windows",
        "in the main thread only, and they are never taken back",
        "off the main thread there are none, and they are taken back",
        (
            f"{_SERVER}test_off_the_main_thread_everything_works_but_signals",
            f"{_SERVER}test_the_release_is_complete_when_run_returns",
        ),
    ),
    Promise(
        "one `date` a second, for all workers",
        "as said",
        "as said",
        (f"{_THREADS}test_one_date_for_all",),
    ),
    Promise(
        "the table of defaults, `Server(app, ...)`, `await server.run()`, `w.shutting_down`",
        "as said; `graceful_timeout` in tenths of a second, rounded down",
        "as said; `graceful_timeout` is exact",
        (
            "tests/parity/test_names.py::test_a_name_is_what_the_page_says",
            f"{_STOP}test_the_drain_ends_exactly_at_its_deadline",
        ),
    ),
    Promise(
        "tasks that the server did not start are never touched",
        "as said",
        "as said",
        (f"{_STOP}test_tasks_the_server_did_not_start_are_never_touched",),
    ),
    Promise(
        "nothing on a second signal, `port=0`, or a thread that does not end",
        "ignored; the port is not told; `graceful_timeout + 5` seconds",
        "it ends the grace; `server.addresses` tells; it is left behind and reported",
        (
            f"{_SIGNALS}test_a_second_signal_leaves_out_the_grace",
            f"{_SOCKETS}test_port_0_is_told_as_the_real_one",
            f"{_THREADS}test_a_blocked_thread_is_left_behind",
        ),
    ),
    Promise(
        "`asyncio.run(main())`",
        "asyncio",
        "`trio.run(app.serve)`, or asyncio as before",
        (
            "tests/server/test_asyncio.py::test_it_serves_from_a_running_loop",
            f"{_SERVER}test_start_returns_when_the_server_listens",
        ),
    ),
]

_HTTP = "tests/server/test_http.py::"
_MESSAGE = "tests/http/test_rfc9112_message.py::"
_WRITER = "tests/http/test_writer.py::"

#: Where the same program answers the same bytes with others, and no defect above is the reason.
WIRE: list[Promise] = [
    Promise(
        "`Connection: close`, or HTTP/1.0",
        "closes, and does not say so",
        "says `connection: close`; to HTTP/1.0 that asks for it, `connection: keep-alive`",
        (f"{_HTTP}test_close_asked_for_by_the_request", f"{_HTTP}test_http_1_0_keeps_alive_when_asked_and_says_so"),
    ),
    Promise(
        "HTTP/1.1 without `Host`, or with two",
        "answered",
        "400, as RFC 9112 wants it",
        (f"{_MESSAGE}test_3_2_a_request_without_host_is_400", f"{_MESSAGE}test_3_2_two_hosts_are_400"),
    ),
    Promise(
        "no version, or HTTP/2.0",
        "answered as HTTP/1.1",
        "400, or 505",
        (f"{_MESSAGE}test_2_3_http_0_9_has_no_version_and_is_400", f"{_MESSAGE}test_2_3_other_versions_are_505"),
    ),
    Promise(
        "`http://host/path` as the target",
        "the host is that of `Host`",
        "the host is that of the target, as RFC 9112 wants it",
        (f"{_MESSAGE}test_3_2_2_absolute_form_replaces_host",),
    ),
    Promise(
        "a method in lower case",
        "400",
        "405: methods are any token, and none of that name is routed",
        (f"{_MESSAGE}test_3_1_methods_are_case_sensitive_tokens_and_passed_on",),
    ),
    Promise(
        "`Upgrade`",
        "400, `Upgrade not supported`",
        "ignored, and answered in HTTP/1.1",
        (f"{_HTTP}test_an_upgrade_is_ignored",),
    ),
    Promise(
        "a request that is no HTTP",
        "400, `Invalid HTTP request`, and close",
        "the same shape; the body says more where there is more to say",
        (f"{_HTTP}test_a_bad_request_is_answered_and_harms_nobody",),
    ),
    Promise(
        "a peer that has sent its last byte, and still reads",
        "gets nothing",
        "gets its answer; `w.alive()` ends",
        (f"{_HTTP}test_a_half_closed_client_still_gets_its_answer",),
    ),
    Promise(
        "a body that is too large",
        "413 when it is read, and the rest is read over",
        "413 at once if its size is declared, and then close",
        (f"{_HTTP}test_a_body_too_large_is_refused_before_it_is_sent",),
    ),
    Promise(
        "an answer whose status is no final one, such as 99999",
        "sent",
        "refused before anything is sent",
        (f"{_WRITER}test_a_status_that_does_not_exist_is_refused_before_anything_is_sent",),
    ),
]
