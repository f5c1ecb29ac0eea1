"""What became of each name of Stario 2.2.1 here. A name that is not in this table is the same, to the letter.

A verdict on a class or a module that is left out holds for everything in it.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["VERDICTS", "Better", "LeftOut", "NameOnly", "Same", "Verdict", "verdict_on"]


@dataclass(frozen=True)
class Verdict:
    """What somebody meets who uses the name as in Stario.

    Attributes:
        why: what is different, and why; for what is left out, what to use instead. Markdown.
        bugs: the defects of Stario that are absent because of it, by their numbers on the page.
    """

    why: str
    bugs: tuple[int, ...]

    #: As on the page.
    words = "?"

    def __init__(self, why: str, *bugs: int) -> None:
        object.__setattr__(self, "why", why)
        object.__setattr__(self, "bugs", bugs)


class Same(Verdict):
    """The same signature and the same behaviour."""

    words = "same"


class Better(Verdict):
    """Every call of Stario's is taken as there; it does more, or something is mended."""

    words = "better"


class NameOnly(Verdict):
    """The name is there and means the same, but only the server makes or calls such a thing."""

    words = "name only"


class LeftOut(Verdict):
    """Not there."""

    words = "left out"


_HTML = "The HTML language is no part of this package: any object with `__html__` is HTML, such as those of htpy."
_EVENT = "Also takes `event_id` and `retry_duration`, the other fields of an event."
_MAPPING = "Attributes may be any mapping."
_GLUE = "The server made it of callbacks. Nothing else calls it."
_SUGAR = "Helps `data` and `at`, which are left out."
_RECORDER = "As that of the writer, which it is: what cannot be sent raises."
_ONE_SHOT = "Any mapping of headers, any status. Framed, checked and refused as by the writer."
_CHAIN = "Typed as whatever the recorder is."

VERDICTS: dict[str, Verdict] = {
    # The top
    "at": LeftOut('Write the action: `data.on("click", "@get(\'/path\')")`, with `data` of the next line.'),
    "data": LeftOut("`from datastar_py import attribute_generator as data` ([example](../how-to/datastar.md))."),
    # exceptions
    "exceptions.HttpException.respond": Better(
        "304 has no `location`, and only 301, 302, 303, 307 and 308 redirect.", 1
    ),
    "exceptions.ClientDisconnected": Better("It is raised: by reading a body whose peer has left.", 22),
    # relay
    "relay.Relay": Better(
        "`maxsize` bounds what waits for a slow subscriber: 1,024 messages, the oldest are dropped.", 60
    ),
    "relay.Relay.publish": Better("A subject that ends in `*` arrives once.", 57),
    "relay.Relay.subscribe": Better(
        "Receives from the call on. What it returns is also a context manager, with `close()` and `dropped`; "
        "leaving the loop unsubscribes at once.",
        *(58, 59),
    ),
    # testing
    "testing.TestRequest": Better("Any mappings."),
    "testing.ResponseRecorder": Better(
        "A real `Writer` in front of a client of memory, so that every handler runs on it. `sent` is the bytes; "
        "`method` may be HEAD; as a context manager it closes what a handler has left open.",
        66,
    ),
    "testing.ResponseRecorder.disconnect": Better("A `trio.Event`. There is `shutdown` as well."),
    "testing.ResponseRecorder.alive": Better(
        "To be called or not, as in `w.alive()`, `w.alive(source)` and `w.alive`.", 66
    ),
    "testing.ResponseRecorder.headers": Better("A dict, with the methods of `Headers` as well.", 66),
    "testing.ResponseRecorder.status": Better(_CHAIN),
    "testing.ResponseRecorder.header": Better(_CHAIN),
    "testing.ResponseRecorder.cookie": Better("Each cookie is a field of its own.", 66),
    "testing.ResponseRecorder.delete_cookie": Better(_CHAIN),
    "testing.ResponseRecorder.patch": Better(_RECORDER),
    "testing.ResponseRecorder.sync": Better(_RECORDER),
    "testing.ResponseRecorder.navigate": Better(_RECORDER),
    "testing.ResponseRecorder.script": Better("Also as `execute`, the writer's name for it.", 66),
    "testing.ResponseRecorder.remove": Better(_RECORDER),
    "testing.ResponseRecorder.respond": Better(f"Also takes `headers`. {_RECORDER}"),
    "testing.ResponseRecorder.json": Better(_ONE_SHOT),
    "testing.ResponseRecorder.html": Better(_ONE_SHOT),
    "testing.ResponseRecorder.text": Better(_ONE_SHOT),
    "testing.ResponseRecorder.redirect": Better(f"{_ONE_SHOT} `location` is what the peer gets, percent-encoded."),
    "testing.ResponseRecorder.empty": Better(_ONE_SHOT),
    "testing.ResponseRecorder.write": Better("Can be chained."),
    "testing.ResponseRecorder.sse": Better("Typed as what it is, a context manager's generator."),
    "testing.ResponseRecorder.started": Better("True after an event too.", 66),
    "testing.SSERecorder": NameOnly("`recorder.sse()` makes it."),
    # http.app
    "http.app.Stario": Better("`compression=None` turns it off. A class as the tracer is refused."),
    "http.app.Stario.on_error": Better(
        "`Exception` is the handler of all the rest; any awaitable is awaited; one that fails is told beside the "
        "error it was called for.",
        *(5, 6, 7),
    ),
    "http.app.Stario.host": Better(
        "A pattern that can never match, and what is no router, is an error. A wildcard needs something in its place."
    ),
    "http.app.Stario.handle_request": Better(
        "A response that fails half-way is cut, a cancelled one sends nothing, and no field of a failed response's "
        "content leaks into the error's. A raised 304 keeps them all.",
        *(8, 9, 67),
    ),
    "http.app.Stario.serve": Better(
        "Also takes `backlog`, `cleanup_timeout`, `limits` and `task_status`; runs under Trio or asyncio."
    ),
    "http.app.Server": Better(
        "Also takes `cleanup_timeout` and `limits`; has `stop()`, `addresses`, `report`, `running()` and `tree()`. "
        "[Settings](settings.md) are checked when it is made.",
        *(18, 19, 20, 21, 23),
    ),
    "http.app.Server.run": Better(
        "`task_status` tells when it listens. It stops by `stop()`, a cancel or a signal, and runs in any thread "
        "([lifecycle](lifecycle.md)).",
        *(10, 11, 12, 13, 15, 16, 17),
    ),
    "http.app.Server.__eq__": LeftOut("Two servers are never equal: each is one run."),
    # http.router
    "http.router.Router.handle": Better(
        "A method in lower case, which nobody could ask for, a plain function and a generator are refused."
    ),
    "http.router.Router.mount": Better("What is no router is refused."),
    "http.router.Router.dispatch": Better(
        "A trailing slash is redirected with its query, within this host and as a POST if it was one; `/files/*` "
        "ends at a segment.",
        *(3, 4),
    ),
    # http.types
    "http.types.Context": Better(
        "Also readable: `c[key]`, `key in c`. Its annotations resolve. `state` may be left out. Still a dataclass.", 2
    ),
    "http.types.Context.__call__": Better(_MAPPING),
    "http.types.Context.__eq__": LeftOut("Two contexts are never equal: each is one request."),
    "http.types.Context.step": Better(f"{_MAPPING} Tasks of one request do not see each other's steps."),
    "http.types.Context.signals": Better(
        "What the page sent wrong is a 400; HEAD and DELETE are read from the query.", 50, 51, 52
    ),
    # http.request
    "http.request.BodyReader": NameOnly(
        "The server makes it of a `receive` function; `BodyReader.of(body)` is one that is there."
    ),
    "http.request.BodyReader.feed": LeftOut(_GLUE),
    "http.request.BodyReader.complete": LeftOut(_GLUE),
    "http.request.BodyReader.abort": LeftOut(_GLUE),
    "http.request.BodyReader.send_100_continue": LeftOut("The server sends it when the body is first read."),
    "http.request.BodyReader.stream": Better(
        "Can be left and begun again also before the whole has come, but keeps no more than 64 KiB: more is streamed "
        "once, unless `read` was first. A peer that leaves raises `ClientDisconnected`; `100 Continue` is sent when it "
        "is needed.",
        *(22, 25, 27),
    ),
    "http.request.BodyReader.read": Better(
        "Goes on after a timeout, and after a stream of up to 64 KiB. `max_size` is a limit for this caller, below "
        "that of the server.",
        22,
    ),
    "http.request.Request.body": Better(
        "A peer that leaves raises `ClientDisconnected`, no 413. For the rest as `BodyReader.read`.", 22
    ),
    "http.request.Request.stream": Better("As `BodyReader.stream`.", 22),
    "http.request.Request.json": Better("Bytes that are not UTF-8 are a 400.", 29),
    # http.headers
    "http.headers.HEADER_LOOKUP": Better(
        "Never grows; bytes are answered without being in it, so its `len` is 182.", 30
    ),
    "http.headers.HEADER_RE": Better("Finds whatever a token may not hold, not only some of it.", 30),
    "http.headers.VALUE_LOOKUP": Better("Bytes are answered without being in it, so its `len` is 119."),
    "http.headers.Headers.add": Better("A name is a token. An equal value is a second value.", 30, 31),
    "http.headers.Headers.radd": Better(
        "An equal value is a second value. CR, LF and NUL are found before the head is sent.", 31
    ),
    "http.headers.Headers.set": Better("A name is a token.", 30),
    "http.headers.Headers.update": Better("Any mapping. If one field is refused, none is set.", 30),
    "http.headers.Headers.setdefault": Better("A name is a token.", 30),
    "http.headers.Headers.get": Better("The default may be anything. Bytes may be in any case, as text may."),
    "http.headers.Headers.getlist": Better("Bytes may be in any case, as text may."),
    "http.headers.Headers.rget": Better("The default may be anything."),
    "http.headers.Headers.remove": Better("Bytes may be in any case, as text may."),
    "http.headers.Headers.__contains__": Better("Bytes may be in any case, as text may."),
    # http.query
    "http.query.QueryParams.get": Better("The default may be anything."),
    "http.query.QueryParams.__bool__": LeftOut("`bool(query)` asks `len(query)`: the same answer."),
    # http.writer
    "http.writer.CompressionConfig": Better("Levels are checked when it is made."),
    "http.writer.CompressionConfig.select": Better("Reads q-values and `*`; a coding that is refused is not sent.", 32),
    "http.writer.Compressor.block": Better("`finish()` ends the stream, so that no decoder takes it for cut.", 35),
    "http.writer.Writer": NameOnly("The server makes it of a `Peer`."),
    "http.writer.Writer.headers": Better("A change after the head was sent is an error. `vary` is merged.", 36),
    "http.writer.Writer.alive": Better(
        "Any async iterable. The code behind it runs, a cancel from outside passes through, and the source is closed "
        "([AL-01 to AL-05](lifecycle.md#w-alive)).",
        *(28, 41, 42, 43, 44),
    ),
    "http.writer.Writer.patch": Better(
        f"{_EVENT} Also `namespace`. A line break cannot forge an event, nor end one early.", 38, 45, 46
    ),
    "http.writer.Writer.sync": Better(f"{_EVENT} NaN is refused.", 48),
    "http.writer.Writer.navigate": Better(f"{_EVENT} `</script>` stays inside the script.", 47),
    "http.writer.Writer.execute": Better(f"{_EVENT} Also `attributes` of the script. `</script>` stays inside it.", 47),
    "http.writer.Writer.remove": Better(f"{_EVENT} A line break in the selector is refused.", 45),
    "http.writer.Writer.respond": Better(
        "No body for HEAD, 204 and 304. `vary` on whatever may be compressed.", 14, 36
    ),
    "http.writer.Writer.json": Better("NaN and infinities are refused: JSON has none."),
    "http.writer.Writer.empty": Better("A 204 has no `content-length`.", 14),
    "http.writer.Writer.cookie": Better(
        "`expires` as a number is a date; no attribute can smuggle in another one; after the head it is an error. The "
        "value is sent as its `str()`, but for None, bytes and containers; the path is percent-encoded; `max_age` is a "
        "whole number.",
        39,
        40,
    ),
    "http.writer.Writer.delete_cookie": Better("As `cookie`.", 40),
    "http.writer.Writer.write_headers": Better(
        "No chunks to HTTP/1.0, no framing for 204 and 304. A status is checked.", 14, 24
    ),
    "http.writer.Writer.write": Better(
        "Exactly the given bytes; an empty piece does not end the body; `content-length` is counted.", 33, 34, 37
    ),
    "http.writer.Writer.end": Better(
        "Too little for `content-length` cuts the connection; a compressed stream is whole.", 35, 37
    ),
    # http.protocol
    "http.protocol": LeftOut("The asyncio protocol. `Limits.keep_alive` is the timeout, 5 seconds as there."),
    # http.staticassets
    "http.staticassets.StaticAssets": Better(
        "The suffix of a file is compared in any case. Hidden files, and links that leave the folder, are not served.",
        53,
    ),
    "http.staticassets.fingerprint": Better(
        "16 hexadecimal digits as there, of BLAKE2b: it needs no dependency. The URLs of files change once."
    ),
    "http.staticassets.CachedFile": Better("Holds what conditional requests need as well."),
    "http.staticassets.StaticAssets.__call__": Better(
        "Answers conditional and range requests. `vary` on every file with variants; a changed file is noticed; a "
        "redirect names the whole path.",
        *(54, 55, 56),
    ),
    # datastar
    "datastar.data": LeftOut("See `data` at the top."),
    "datastar.at": LeftOut("See `at` at the top."),
    "datastar.DatastarActions": LeftOut("The type of `at`."),
    "datastar.DatastarAttributes": LeftOut("The type of `data`."),
    "datastar.actions": LeftOut("See `at`."),
    "datastar.attributes": LeftOut("See `data`."),
    "datastar.sse.patch": Better(
        "Also the other options of Datastar 1.0, and lines in its SDKs' order. `mode` is checked.", 45, 46
    ),
    "datastar.sse.signals": Better(f"{_EVENT} NaN is refused.", 48),
    "datastar.sse.script": Better(f"{_EVENT} Also `attributes`. `el.remove()` as the SDKs write it, without `;`.", 47),
    "datastar.sse.redirect": Better(_EVENT, 47),
    "datastar.sse.remove": Better(f"{_EVENT} Also the options of view transitions; its SDKs' order.", 45),
    "datastar.format.FilterValue": LeftOut(_SUGAR),
    "datastar.format.TimeValue": LeftOut(_SUGAR),
    "datastar.format.time_to_string": LeftOut(_SUGAR),
    "datastar.format.Debounce": LeftOut(_SUGAR),
    "datastar.format.Throttle": LeftOut(_SUGAR),
    "datastar.format.debounce_to_string": LeftOut(_SUGAR),
    "datastar.format.throttle_to_string": LeftOut(_SUGAR),
    "datastar.format.parse_filter_value": LeftOut(_SUGAR),
    "datastar.format.Case": LeftOut(_SUGAR),
    "datastar.format.to_kebab_key": LeftOut(_SUGAR),
    "datastar.format.js": Better("Any mapping. Keywords beside it count too."),
    "datastar.format.s": Better("Line breaks and `</` are escaped too."),
    "datastar.parse.parse_signals": Better(
        "Infinity for an `int` stays as it is; what is no object, or lacks a field, is a 400.", 49, 50
    ),
    "datastar.parse.FieldInfo": Better("A type is whatever stands in the annotation, such as `int | None`."),
    "datastar.signals.get_signals": Better(
        "Bad JSON is a 400; HEAD and DELETE are read from the query. Takes anything request-like.", 51, 52
    ),
    # telemetry
    "telemetry.core.Tracer.__enter__": Better("Typed as whatever the tracer is."),
    "telemetry.core.Tracer.__exit__": Better("Its arguments have types."),
    "telemetry.core.Span": Better(_MAPPING),
    "telemetry.core.Span.__call__": Better(_MAPPING),
    "telemetry.core.Span.step": Better(_MAPPING),
    "telemetry.core.Span.root": Better(_MAPPING),
    "telemetry.core.Span.link": Better(_MAPPING),
    "telemetry.core.Span.__contains__": Better("Anything may be looked for."),
    "telemetry.core.Span.__enter__": Better("Typed as whatever the span is."),
    "telemetry.core.Span.__exit__": Better("A cancellation that passes through is no error."),
    "telemetry.json.JsonTracer": Better(
        "One line for each span, whatever happens to it later, and always JSON.", 61, 63
    ),
    "telemetry.json.JsonTracer.__enter__": Better("Typed as whatever the tracer is."),
    "telemetry.json.JsonTracer.__exit__": Better("Its arguments have types."),
    "telemetry.json.JsonTracer.notify": Better("An error without words is an error.", 61, 62, 63),
    "telemetry.rich.RichTracer": Better(
        "`console` may be given. What was printed is forgotten; threads do not disturb each other.", 64, 65
    ),
    "telemetry.rich.RichTracer.__enter__": Better("Typed as whatever the tracer is."),
    "telemetry.rich.RichTracer.__exit__": Better("Its arguments have types."),
    # What is no part of it
    "html": NameOnly(f"{_HTML} Here the module is what renders them."),
    "toys": LeftOut("Examples are in `examples/`."),
    "cli": LeftOut("Its templates use the HTML language."),
}


def verdict_on(name: str) -> Verdict:
    """What became of a name: its own verdict, or that of what it is part of if that is left out."""
    if name in VERDICTS:
        return VERDICTS[name]
    owner = name
    while "." in owner:
        owner = owner.rpartition(".")[0]
        verdict = VERDICTS.get(owner)
        if isinstance(verdict, LeftOut):
            return verdict
    return Same("")
