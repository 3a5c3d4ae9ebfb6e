"""What the handlers are given by name."""

from __future__ import annotations

from typing import TypeAlias

from litestar.di import NamedDependency

from services.api.chain import Chain
from services.api.kept import Kept
from services.api.live import Live
from shared.adapters.clock import SystemClock
from shared.adapters.jetstream import Bus
from shared.adapters.postgres import EventLog
from shared.config import Settings

TheChain: TypeAlias = NamedDependency[Chain]
TheLive: TypeAlias = NamedDependency[Live]
TheKept: TypeAlias = NamedDependency[Kept]
TheSettings: TypeAlias = NamedDependency[Settings]
TheBus: TypeAlias = NamedDependency[Bus]
TheLog: TypeAlias = NamedDependency[EventLog]
TheClock: TypeAlias = NamedDependency[SystemClock]
