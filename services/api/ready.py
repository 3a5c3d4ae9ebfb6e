"""Until the state is the present for the first time, everybody is told how far it is: half a state is never shown."""

from __future__ import annotations

from typing import Final

import msgspec
from litestar.datastructures import Headers
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from services.api.live import Live
from services.api.problems import MEDIA_TYPE, Problem

RETRY_SECONDS: Final = 1
OPEN: Final = ("/static/", "/api/schema")
PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{retry}">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Backup Manager</title>
<link rel="stylesheet" href="/static/style.css"></head><body><main><h1>{sentence}</h1>
<p>This page comes by itself as soon as it can be shown.</p></main></body></html>
"""


class UntilReady(ASGIMiddleware):
    """Answers 503 while the log is read for the first time."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Go on with the request, or say how far it is."""
        path = str(scope.get("path", ""))
        if self._live.caught_up.is_set() or path.startswith(OPEN) or scope["type"] != "http":  # type: ignore[comparison-overlap]  # of the framework's types
            await next_app(scope, receive, send)
            return
        media_type, body = self._answer(as_page="text/html" in Headers.from_scope(scope).get("accept", ""))
        headers = [
            (b"content-type", media_type.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"retry-after", str(RETRY_SECONDS).encode()),
        ]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    def _answer(self, *, as_page: bool) -> tuple[str, bytes]:
        if self._live.log_is_away:
            sentence = "The event log cannot be reached. Is Postgres running?"
        else:
            sentence = f"The event log is being read: {self._live.percent_read} %."
        if as_page:
            return "text/html; charset=utf-8", PAGE.format(retry=RETRY_SECONDS, sentence=sentence).encode()
        problem = Problem("Service Unavailable", 503, sentence, "Ask again in a moment.")
        return MEDIA_TYPE, msgspec.json.encode(problem)
