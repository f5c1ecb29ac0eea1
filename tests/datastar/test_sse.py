from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from datetime import date
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from datastar_py.consts import ElementPatchMode, ElementPatchNamespace
from datastar_py.sse import ServerSentEventGenerator as Official
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from stario_trio.datastar import sse
from stario_trio.exceptions import StarioError

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclasses.dataclass
class Event:
    name: str
    data: str
    last_id: str
    retry: int | None


def read_stream(stream: bytes) -> list[Event]:
    """Read a stream as the HTML standard says, sections 9.2.5 and 9.2.6."""
    events: list[Event] = []
    name, data, last_id, retry = "", "", "", None
    lines = re.split("\r\n|\n|\r", stream.decode("utf-8", "strict").removeprefix("\ufeff"))
    assert lines.pop() == "", "the stream ends inside a line"
    for line in lines:
        if not line:
            if data:
                events.append(Event(name or "message", data.removesuffix("\n"), last_id, retry))
            name, data = "", ""
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data += value + "\n"
        elif field == "id":
            if "\0" not in value:
                last_id = value
        elif field == "retry":
            assert re.fullmatch("[0-9]+", value)
            retry = int(value)
        else:
            raise AssertionError(f"a browser would ignore this line: {line!r}")
    assert (name, data) == ("", ""), "the stream ends inside an event"
    return events


def read_one(stream: bytes) -> Event:
    (event,) = read_stream(stream)
    return event


def fields(event: Event) -> dict[str, str]:
    """The arguments of an event, its data lines grouped by their first word, as the Datastar client does."""
    groups: dict[str, list[str]] = {}
    for line in event.data.split("\n"):
        key, _, value = line.partition(" ")
        groups.setdefault(key, []).append(value)
    return {key: "\n".join(values) for key, values in groups.items()}


def same(ours: bytes, official: bytes | str) -> None:
    """The two streams carry the same events; lines of different keys may come in another order."""
    if isinstance(official, str):
        official = official.encode()
    mine, theirs = read_stream(ours), read_stream(official)
    for a, b in zip(mine, theirs, strict=True):
        assert fields(a) == fields(b)
        assert (a.name, a.last_id, a.retry) == (b.name, b.last_id, b.retry)


GOLDEN = os.environ.get("DATASTAR_GOLDEN")


def golden_event(event: dict[str, Any]) -> bytes:
    """Call our function for one event of an `input.json`."""
    options: dict[str, Any] = {"event_id": event.get("eventId"), "retry_duration": event.get("retryDuration")}
    kind = event["type"]
    if kind == "executeScript":
        return sse.script(
            event["script"],
            auto_remove=event.get("autoRemove", True),
            attributes=event.get("attributes"),
            **options,
        )
    if kind == "patchSignals":
        data = event.get("signals") or json.loads(event["signals-raw"])
        return sse.signals(data, only_if_missing=event.get("onlyIfMissing", False), **options)
    assert kind == "patchElements"
    options["use_view_transition"] = event.get("useViewTransition", False)
    if event.get("mode") == "remove":
        return sse.remove(event["selector"], **options)
    return sse.patch(
        Markup(event["elements"]),
        mode=event.get("mode", "outer"),
        selector=event.get("selector"),
        **options,
    )


GOLDEN_CASES = sorted(Path(GOLDEN).glob("*/*/input.json")) if GOLDEN else []
needs_golden = pytest.mark.skipif(
    GOLDEN is None, reason="DATASTAR_GOLDEN names no folder of golden cases (sdk/tests/golden)"
)


@needs_golden
def test_there_are_golden_cases() -> None:
    assert len(GOLDEN_CASES) >= 20


@needs_golden
@pytest.mark.parametrize("case", GOLDEN_CASES, ids=lambda case: case.parent.name)
def test_a_golden_case(case: Path) -> None:
    events: list[dict[str, Any]] = json.loads(case.read_text())["events"]
    expected = case.with_name("output.txt").read_text()
    if not expected.endswith("\n\n"):
        expected += "\n"
    ours = b"".join(golden_event(event) for event in events)
    if any("signals-raw" in event for event in events):
        # Raw JSON keeps its own layout there; ours comes from the value and is compact.
        mine, theirs = read_one(ours), read_one(expected.encode())
        assert json.loads(fields(mine)["signals"]) == json.loads(fields(theirs)["signals"])
        assert dataclasses.replace(mine, data="") == dataclasses.replace(theirs, data="")
    else:
        same(ours, expected)


#: No line break, no NUL, and none of the characters at which `str.splitlines` cuts besides (the SDK uses it).
one_line = st.text(
    st.characters(exclude_characters="\r\n\0\v\f\x1c\x1d\x1e\x85\u2028\u2029", exclude_categories=["Cs"])
)
#: HTML of some lines with every kind of line end; the last one is not empty, which the SDK would drop.
html_lines = st.builds(
    lambda pairs, last: "".join(line + end for line, end in pairs) + last,
    st.lists(st.tuples(one_line, st.sampled_from(["\n", "\r", "\r\n"]))),
    one_line.filter(bool),
)
retries = st.none() | st.integers(1, 100_000) | st.just(1000)
ids = st.none() | one_line


@given(
    html_lines,
    st.sampled_from(sse.MODES),
    st.none() | one_line,
    st.booleans(),
    st.none() | one_line,
    st.none() | st.sampled_from(sse.NAMESPACES),
    ids,
    retries,
)
def test_patch_says_what_the_official_sdk_says(
    html: str,
    mode: Any,
    selector: str | None,
    transition: bool,
    part: str | None,
    namespace: Any,
    event_id: str | None,
    retry: int | None,
) -> None:
    ours = sse.patch(
        Markup(html),
        mode=mode,
        selector=selector,
        use_view_transition=transition,
        view_transition_selector=part,
        namespace=namespace,
        event_id=event_id,
        retry_duration=retry,
    )
    official = Official.patch_elements(
        html,
        selector,
        ElementPatchMode(mode),
        transition,
        part if transition else None,  # the specification sends it with a transition only
        namespace=None if namespace is None else ElementPatchNamespace(namespace),
        event_id=event_id,
        retry_duration=retry,
    )
    same(ours, official)


@given(one_line.filter(bool), ids, retries)
def test_remove_says_what_the_official_sdk_says(selector: str, event_id: str | None, retry: int | None) -> None:
    same(
        sse.remove(selector, event_id=event_id, retry_duration=retry),
        Official.remove_elements(selector, event_id, retry),
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(st.text(), json_values, max_size=4)


@given(json_objects, st.booleans(), ids, retries)
def test_signals_say_what_the_official_sdk_says(
    data: dict[str, Any], missing: bool, event_id: str | None, retry: int | None
) -> None:
    ours = read_one(sse.signals(data, only_if_missing=missing, event_id=event_id, retry_duration=retry))
    theirs = read_one(Official.patch_signals(data, event_id, missing, retry).encode())
    mine, official = fields(ours), fields(theirs)
    # Same value; only non-ASCII text is written as itself here.
    assert json.loads(mine.pop("signals")) == json.loads(official.pop("signals")) == data
    assert mine == official
    assert dataclasses.replace(ours, data="") == dataclasses.replace(theirs, data="")


@given(
    html_lines.filter(lambda code: "</script" not in code.lower() and "<!--" not in code),
    st.booleans(),
    st.dictionaries(st.from_regex(r"[a-z][a-z0-9:._-]*", fullmatch=True), st.text("ab &<>/.=")),
    ids,
    retries,
)
def test_script_says_what_the_official_sdk_says(
    code: str, auto_remove: bool, attributes: dict[str, str], event_id: str | None, retry: int | None
) -> None:
    same(
        sse.script(code, auto_remove=auto_remove, attributes=attributes, event_id=event_id, retry_duration=retry),
        Official.execute_script(code, auto_remove, attributes, event_id, retry),
    )


def test_the_bytes_of_a_patch() -> None:
    event = sse.patch(
        Markup("<div>l1\nl2</div>"),
        mode="inner",
        selector="#a",
        use_view_transition=True,
        view_transition_selector="#main",
        namespace="svg",
        event_id="7",
        retry_duration=2000,
    )
    assert event == (
        b"event: datastar-patch-elements\nid: 7\nretry: 2000\n"
        b"data: selector #a\ndata: mode inner\ndata: useViewTransition true\n"
        b"data: viewTransitionSelector #main\ndata: namespace svg\n"
        b"data: elements <div>l1\ndata: elements l2</div>\n\n"
    )


def test_defaults_are_not_sent() -> None:
    assert (
        sse.patch("<é>", mode="outer", selector="", namespace="html", event_id="", retry_duration=1000)
        == "event: datastar-patch-elements\ndata: elements &lt;é&gt;\n\n".encode()
    )


def test_the_bytes_of_empty_html() -> None:
    assert sse.patch("") == b"event: datastar-patch-elements\ndata: elements \n\n"


def test_the_bytes_of_signals() -> None:
    event = sse.signals({"n": 1, "s": "é\r\n"}, only_if_missing=True)
    assert event == (
        b"event: datastar-patch-signals\ndata: onlyIfMissing true\n"
        + 'data: signals {"n":1,"s":"é\\r\\n"}\n\n'.encode()
    )


def test_the_bytes_of_script_remove_and_redirect() -> None:
    head = b"event: datastar-patch-elements\ndata: selector body\ndata: mode append\n"
    assert sse.script("go()") == head + b'data: elements <script data-effect="el.remove()">go()</script>\n\n'
    assert sse.script("go()", auto_remove=False) == head + b"data: elements <script>go()</script>\n\n"
    assert sse.redirect('/a"é') == (
        head + b'data: elements <script data-effect="el.remove()">'
        b'setTimeout(() => window.location = "/a\\"\\u00e9");</script>\n\n'
    )
    assert sse.remove("#x", use_view_transition=True, view_transition_selector="#y") == (
        b"event: datastar-patch-elements\ndata: selector #x\ndata: mode remove\n"
        b"data: useViewTransition true\ndata: viewTransitionSelector #y\n\n"
    )


any_text = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\r\n\0: <>"))


@pytest.mark.upstream_bug(46)
@given(any_text)
def test_bug_46_html_is_read_back_whole_in_one_event(html: str) -> None:
    event = read_one(sse.patch(Markup(html)))
    assert event.name == "datastar-patch-elements"
    assert fields(event) == {"elements": re.sub("\r\n|\r", "\n", html)}


@given(any_text)
def test_only_a_line_end_of_sse_ends_a_line(text: str) -> None:
    # U+2028, form feed and the other ends of `str.splitlines` belong to the text.
    lines = re.split("\r\n|\r|\n", text)
    assert sse.patch(Markup(text)).count(b"data: ") == len(lines) + text.count("data: ")


#: Also with lone surrogates, which JSON from a client may hold.
every_text = st.text(st.characters() | st.sampled_from("\r\n\0\ufeff: <>") | st.characters(categories=["Cs"]))


@given(every_text, st.data())
def test_no_parameter_writes_a_line_of_its_own(text: str, data: st.DataObject) -> None:
    """Whatever is given where, it is refused, or what arrives is one event with the fields we meant."""
    event_id = data.draw(st.none() | st.just(text))
    place = data.draw(st.just("x") | st.just(text))
    page = {"data-x": text}
    calls: list[tuple[set[str], Callable[[], bytes]]] = [
        (
            {"selector", "useViewTransition", "viewTransitionSelector", "elements"},
            lambda: sse.patch(
                Markup(text),
                selector=place,
                use_view_transition=True,
                view_transition_selector=text,
                event_id=event_id,
            ),
        ),
        ({"elements"}, lambda: sse.patch([text, Markup(text)], event_id=event_id)),
        ({"mode", "selector"}, lambda: sse.remove(text, event_id=event_id)),
        ({"signals"}, lambda: sse.signals({text: [text]}, event_id=event_id)),
        ({"mode", "selector", "elements"}, lambda: sse.script(text, attributes=page, event_id=event_id)),
        ({"mode", "selector", "elements"}, lambda: sse.redirect(text, event_id=event_id)),
    ]
    for keys, call in calls:
        try:
            event = read_one(call())
        except StarioError:
            continue
        assert set(fields(event)) <= keys
        assert event.name in ("datastar-patch-elements", "datastar-patch-signals")
        assert event.last_id == re.sub("[\ud800-\udfff]", "\ufffd", event_id or "")
        assert event.retry is None


def test_a_lone_surrogate_in_html_becomes_the_replacement_character() -> None:
    # One visitor's broken text must not end the stream of everybody who is shown it.
    assert fields(read_one(sse.patch("a\ud800b"))) == {"elements": "a\ufffdb"}
    assert sse.script("'\udfff'") == sse.script("'\ufffd'")


def one_line_fields(value: str) -> list[Any]:
    return [
        lambda: sse.patch("x", selector=value),
        lambda: sse.patch("x", event_id=value),
        lambda: sse.patch("x", use_view_transition=True, view_transition_selector=value),
        lambda: sse.remove(value),
        lambda: sse.remove("#x", event_id=value),
        lambda: sse.signals({}, event_id=value),
        lambda: sse.script("x", event_id=value),
        lambda: sse.redirect("x", event_id=value),
    ]


@pytest.mark.upstream_bug(45)
@pytest.mark.parametrize("evil", ["\r", "\n", "\0", "a\r\ndata: elements <b>", "#x\n\nevent: other", "#a\0"])
@pytest.mark.parametrize("which", range(8))
def test_bug_45_a_field_of_one_line_refuses_a_second(evil: str, which: int) -> None:
    with pytest.raises(StarioError, match="no line break and no NUL"):
        one_line_fields(evil)[which]()


@pytest.mark.parametrize("wrong", [5, b"#a"])
@pytest.mark.parametrize("which", range(8))
def test_a_field_that_is_no_text_is_refused(wrong: Any, which: int) -> None:
    with pytest.raises(StarioError, match="It is text: decode bytes"):
        one_line_fields(wrong)[which]()


@pytest.mark.parametrize("wrong", [5, b"f()", None])
def test_code_that_is_no_text_is_refused(wrong: Any) -> None:
    with pytest.raises(StarioError, match="Invalid code") as caught:
        sse.script(wrong)
    assert caught.value.context == {"code": wrong}


@given(one_line.filter(bool))
def test_a_field_of_one_line_is_read_back(value: str) -> None:
    event = read_one(sse.patch("x", selector=value, event_id=value))
    assert event.last_id == value
    assert fields(event)["selector"] == value


@given(any_text, any_text)
def test_script_and_redirect_are_one_event(code: str, url: str) -> None:
    assert set(fields(read_one(sse.script(code)))) == {"selector", "mode", "elements"}
    assert set(fields(read_one(sse.redirect(url)))) == {"selector", "mode", "elements"}


@pytest.mark.upstream_bug(45)
@pytest.mark.parametrize("mode", ["", "remove", "Outer", "outer\n", None])
def test_bug_45_mode_is_checked(mode: Any) -> None:
    with pytest.raises(StarioError, match="outer, inner, replace, prepend, append, before, after"):
        sse.patch("x", mode=mode)


@pytest.mark.parametrize("namespace", ["", "xml", "svg\n"])
def test_namespace_is_checked(namespace: Any) -> None:
    with pytest.raises(StarioError, match=r"html, svg, mathml\.$"):
        sse.patch("x", namespace=namespace)


@pytest.mark.parametrize("retry", [0, -1, True, 1.5, "5\n"])
def test_retry_is_checked(retry: Any) -> None:
    with pytest.raises(StarioError, match="whole milliseconds"):
        sse.patch("x", retry_duration=retry)


def test_remove_needs_a_selector() -> None:
    with pytest.raises(StarioError, match="needs a selector"):
        sse.remove("")


class Scripts(HTMLParser):
    """Collects what lies inside and outside of script elements."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.inside: list[str] = []
        self.outside = ""
        self.attributes: list[tuple[str, str | None]] = []
        self.depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag == "script"
        self.depth += 1
        self.inside.append("")
        self.attributes = attrs

    def handle_endtag(self, tag: str) -> None:
        self.depth -= 1

    def handle_data(self, data: str) -> None:
        if self.depth:
            self.inside[-1] += data
        else:
            self.outside += data


def scripts(event: bytes) -> Scripts:
    parser = Scripts()
    parser.feed(fields(read_one(event))["elements"])
    parser.close()
    assert parser.depth == 0
    return parser


html_words = st.lists(
    st.sampled_from(["</script>", "</SCRIPT ", "</scr", "ipt>", "<!--", "-->", "<script>", "<!", "--", "x", " "])
).map("".join)


@pytest.mark.upstream_bug(47)
@given(html_words)
def test_bug_47_code_stays_inside_its_element(code: str) -> None:
    parser = scripts(sse.script(code))
    assert len(parser.inside) == 1
    assert parser.outside == ""
    (sent,) = parser.inside
    assert "<!--" not in sent
    assert sent.replace("<\\/", "</").replace("<\\!", "<!") == code


def test_the_two_spellings_in_code() -> None:
    (sent,) = scripts(sse.script("a='</ScRiPt><!--'")).inside
    assert sent == r"a='<\/ScRiPt><\!--'"


@pytest.mark.upstream_bug(47)
@given(html_words | any_text)
def test_bug_47_a_url_stays_inside_its_string(url: str) -> None:
    (sent,) = scripts(sse.redirect(url)).inside
    found = re.fullmatch(r"setTimeout\(\(\) => window\.location = (\".*\")\);", sent)
    assert found is not None
    assert "<" not in sent
    assert sent.isascii()
    assert json.loads(found[1]) == url


@given(any_text)
def test_attribute_values_are_escaped(value: str) -> None:
    parser = scripts(sse.script("x", auto_remove=False, attributes={"data-x": value}))
    if "\0" not in value:  # which HTML itself replaces
        assert parser.attributes == [("data-x", re.sub("\r\n|\r", "\n", value))]
    assert parser.inside == ["x"]


@pytest.mark.parametrize("attributes", [{"async": None}, {"async": True}, {"n": 5}, {5: "n"}, {"n": b"x"}])
def test_attributes_are_text(attributes: Any) -> None:
    with pytest.raises(StarioError, match="Attributes are text") as caught:
        sse.script("x", attributes=attributes)
    assert "attributes={'async': ''}" in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "a>", "a=b", "a/", 'a"', "a'", "<a", "a\n", "a\0", "\x7f"])
def test_attribute_names_are_checked(name: str) -> None:
    with pytest.raises(StarioError, match="Invalid attribute name"):
        sse.script("x", attributes={name: ""})


@pytest.mark.upstream_bug(48)
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_bug_48_what_json_cannot_say_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        sse.signals({"n": number})


@pytest.mark.parametrize("value", [date(2026, 1, 1), {1}, Decimal(1)])
def test_values_without_a_json_form_are_refused(value: object) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        sse.signals({"v": value})


@given(st.characters(categories=["Cs"]))
def test_a_lone_surrogate_is_sent_as_an_escape(text: str) -> None:
    # A client can send one in its own JSON, and the handler may send it back.
    data = fields(read_one(sse.signals({"s": text})))["signals"]
    assert data.isascii()
    assert json.loads(data) == {"s": text}


def test_signals_of_a_dataclass() -> None:
    @dataclasses.dataclass
    class Point:
        x: int
        inner: dict[str, int]

    assert fields(read_one(sse.signals(Point(1, {"y": 2})))) == {"signals": '{"x":1,"inner":{"y":2}}'}
