"""The application: routes, pages, what they are given, and how errors look."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from litestar import Litestar
from litestar.config.response_cache import ResponseCacheConfig
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.plugins.jinja import JinjaTemplateEngine
from litestar.static_files import create_static_files_router
from litestar.template import TemplateConfig

from services.api import problems
from services.api.guard import LocalOnly
from services.api.live import Live
from services.api.pages import PAGES
from services.api.ready import UntilReady
from services.api.routes import ROUTES
from shared.adapters.clock import SystemClock
from shared.adapters.jetstream import Bus
from shared.adapters.postgres import EventLog
from shared.config import Settings
from shared.domain.errors import BackupManagerError
from shared.domain.host_state import moment_of
from shared.domain.wording import ago, duration, size

HERE: Final = Path(__file__).parent
LARGEST_BODY_BYTES: Final = 64 * 1024


def make_app(settings: Settings, live: Live, events: EventLog, bus: Bus, clock: SystemClock) -> Litestar:
    """The application around a live state, a log and a bus."""
    given: dict[str, Any] = {
        "settings": settings,
        "live": live,
        "event_log": events,
        "bus": bus,
        "clock": clock,
    }
    engine = JinjaTemplateEngine(directory=HERE / "templates")
    engine.engine.autoescape = True
    engine.engine.filters |= {"size": size, "duration": duration, "ago": ago}
    engine.engine.globals["moment"] = moment_of
    return Litestar(
        route_handlers=[*ROUTES, *PAGES, create_static_files_router("/static", [HERE / "static"])],
        dependencies={name: Provide(_giver(value), sync_to_thread=False) for name, value in given.items()},
        exception_handlers={
            BackupManagerError: problems.of_ours,
            HTTPException: problems.of_framework,
            Exception: problems.of_defect,
        },
        middleware=[LocalOnly(), UntilReady(live)],
        openapi_config=OpenAPIConfig(
            title="Backup Manager", version="1", path="/api/schema", render_plugins=[JsonRenderPlugin()]
        ),
        template_config=TemplateConfig(instance=engine),
        response_cache_config=ResponseCacheConfig(),
        request_max_body_size=LARGEST_BODY_BYTES,
        logging_config=None,  # the journal is set up already
        debug=False,
    )


def _giver(value: Any) -> Any:
    return lambda: value
