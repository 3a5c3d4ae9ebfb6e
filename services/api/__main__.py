"""`python -m services.api`."""

import sys

from services.api.service import serve
from shared.runtime.confined import nowhere
from shared.runtime.start import start_service

sys.exit(start_service("api", serve, nowhere))
