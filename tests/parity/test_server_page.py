"""What Stario's page on its server promises, where no other test shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stario_trio import Context, Relay, Router, Stario, Writer
from stario_trio.telemetry import NoopTracer
from stario_trio.testing import TestClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Markup:
    """HTML as template engines make it."""

    def __init__(self, html: str) -> None:
        self.html = html

    def __html__(self) -> str:
        return self.html


async def test_messages_are_pairs_and_what_is_html_is_sent_as_it_is() -> None:
    """The page shows `w.patch(render(msg))` for each `msg` of a subscription."""
    relay: Relay[str] = Relay()
    subscription = relay.subscribe("updates.*")
    relay.publish("updates.mine", "<b>hi</b>")

    async def updates() -> AsyncIterator[tuple[str, str]]:
        async for message in subscription:
            yield message
            return

    async def handler(_c: Context, w: Writer) -> None:
        async for subject, data in w.alive(updates()):
            w.patch(Markup(f"<p>{subject}: {data}</p>"))
            w.patch(data)

    app = Stario(NoopTracer())
    app.get("/", handler)
    async with TestClient(app) as client:
        response = await client.get("/")
    assert "data: elements <p>updates.mine: <b>hi</b></p>\n" in response.text
    assert "data: elements &lt;b&gt;hi&lt;/b&gt;\n" in response.text


@pytest.mark.parametrize("key", ["user_id", "absent"])
async def test_the_cleanup_example_can_read_what_it_has_set(key: str) -> None:
    seen: list[object] = []

    async def handler(c: Context, w: Writer) -> None:
        c["user_id"] = 7
        async with w.alive():
            pass
        seen.append(c[key])
        w.empty()

    router = Router()
    router.get("/stream", handler)
    app = Stario(NoopTracer())
    app.mount("/room", router)
    async with TestClient(app) as client:
        assert (await client.get("/room/stream")).status_code == 204
    assert seen == [7 if key == "user_id" else None]
