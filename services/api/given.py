"""What the handlers are given by name."""

from __future__ import annotations

from typing import TypeAlias

from litestar.di import NamedDependency

from services.api.askers import Askers
from services.api.chain import Chain
from services.api.files.drive import Drive
from services.api.files.points import Points
from services.api.kept import Kept
from services.api.live import Live
from services.api.login import Logins
from shared.adapters.clock import SystemClock
from shared.adapters.jetstream import Bus
from shared.adapters.postgres import EventLog
from shared.config import Settings
from shared.domain.access import Who
from shared.runtime.accounts import Accounts

TheChain: TypeAlias = NamedDependency[Chain]
TheLive: TypeAlias = NamedDependency[Live]
TheKept: TypeAlias = NamedDependency[Kept]
TheSettings: TypeAlias = NamedDependency[Settings]
TheBus: TypeAlias = NamedDependency[Bus]
TheLog: TypeAlias = NamedDependency[EventLog]
TheClock: TypeAlias = NamedDependency[SystemClock]
TheDrive: TypeAlias = NamedDependency[Drive]
ThePoints: TypeAlias = NamedDependency[Points]
TheWho: TypeAlias = NamedDependency[Who]
TheAccounts: TypeAlias = NamedDependency[Accounts]
TheAskers: TypeAlias = NamedDependency[Askers]
TheLogins: TypeAlias = NamedDependency[Logins]
