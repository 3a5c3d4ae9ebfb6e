"""The application: routes, pages, what they are given, and how errors look."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from litestar import Litestar
from litestar.config.response_cache import ResponseCacheConfig
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.plugins.jinja import JinjaTemplateEngine
from litestar.static_files import create_static_files_router
from litestar.template import TemplateConfig

from services.api import problems
from services.api.asked import given_at
from services.api.askers import Askers
from services.api.chain import Chain
from services.api.files.drive import Drive
from services.api.files.points import Points
from services.api.guard import Guard, mark
from services.api.kept import Kept
from services.api.live import Live
from services.api.login import Logins
from services.api.openapi import description
from services.api.pages import PAGES
from services.api.problems import AccessDenied, LoginNeeded
from services.api.ready import UntilReady
from services.api.refusals import of_access_denied, of_login_needed
from services.api.routes import ROUTES
from services.api.wellformed import WellFormed
from services.api.whose import settings_for, who_asks, who_looks
from shared.adapters.clock import SystemClock
from shared.adapters.jetstream import Bus
from shared.adapters.postgres import EventLog
from shared.config import Settings
from shared.domain.access import Permission
from shared.domain.errors import BackupManagerError
from shared.domain.host_state import moment_of
from shared.domain.wording import ago, duration, size

HERE: Final = Path(__file__).parent
LARGEST_BODY_BYTES: Final = 64 * 1024


def make_app(
    settings: Settings,
    *,
    live: Live,
    chain: Chain,
    events: EventLog,
    bus: Bus,
    clock: SystemClock,
    askers: Askers,
    logins: Logins,
) -> Litestar:
    """The application around a live state, a log, a bus and the users."""
    drive = Drive(settings)
    given: dict[str, Any] = {
        "accounts": logins.accounts,
        "askers": askers,
        "logins": logins,
        "live": live,
        "kept": Kept(),
        "chain": chain,
        "event_log": events,
        "bus": bus,
        "clock": clock,
        "drive": drive,
        "points": Points(live, events, settings, drive),
    }
    engine = JinjaTemplateEngine(directory=HERE / "templates")
    engine.engine.autoescape = True
    engine.engine.filters |= {"size": size, "duration": duration, "ago": ago, "as_shown": _twice}
    engine.engine.globals["moment"] = moment_of
    engine.register_template_callable("who", who_looks)
    static = create_static_files_router("/static", [HERE / "static"], opt={"needs": Permission.PUBLIC})
    return Litestar(
        route_handlers=[*ROUTES, *PAGES, static],
        dependencies={
            **{name: Provide(_giver(value), sync_to_thread=False) for name, value in given.items()},
            "settings": Provide(settings_for(settings), sync_to_thread=False),
            "who": Provide(who_asks, sync_to_thread=False),
            "at": Provide(given_at, sync_to_thread=False),
        },
        exception_handlers={
            LoginNeeded: of_login_needed,
            AccessDenied: of_access_denied,
            BackupManagerError: problems.of_ours,
            HTTPException: problems.of_framework,
            RecursionError: problems.of_nesting,
            Exception: problems.of_defect,
        },
        middleware=[Guard(askers, clock), UntilReady(live), WellFormed()],
        before_send=[mark],
        openapi_config=description(),
        template_config=TemplateConfig(instance=engine),
        response_cache_config=ResponseCacheConfig(),
        request_max_body_size=LARGEST_BODY_BYTES,
        logging_config=None,  # the journal is set up already
        on_shutdown=[drive.close],
        debug=False,
    )


def _twice(values: Iterable[str]) -> list[tuple[str, str]]:
    """Values of a choice that are shown as they are."""
    return [(value, value) for value in values]


def _giver(value: Any) -> Any:
    return lambda: value
