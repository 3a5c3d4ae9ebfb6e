"""How the API is described to programs: `/api/schema/openapi.json`."""

from __future__ import annotations

from typing import Any, Final

from litestar import Request
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin

from services.api.describing import described

ABOUT: Final = """\
Everything that is read comes from the event log, and most of it can be asked for any past moment with `?at=`.
Everything that is done goes over the bus: an answer of 202 says that a wish was taken, and the events say what came
of it. Whatever goes wrong is told as `application/problem+json` with a sentence, often with a next step.
"""


class CompleteDescription(JsonRenderPlugin):
    """The framework's description, completed once."""

    _rendered: bytes = b""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The description as JSON."""
        if not self._rendered:
            self._rendered = super().render(request, described(openapi_schema))
        return self._rendered


def description() -> OpenAPIConfig:
    """The description of a new application."""
    return OpenAPIConfig(
        title="Backup Manager",
        version="1",
        description=ABOUT,
        path="/api/schema",
        use_handler_docstrings=True,
        render_plugins=[CompleteDescription()],
    )
