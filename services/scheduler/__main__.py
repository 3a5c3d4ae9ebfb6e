"""`python -m services.scheduler`."""

import sys

from services.scheduler.service import serve
from shared.runtime.confined import nowhere
from shared.runtime.start import start_service

sys.exit(start_service("scheduler", serve, nowhere))
