"""`python -m services.restorer`."""

import sys

from services.restorer.service import may_write, serve
from shared.runtime.start import start_service

sys.exit(start_service("restorer", serve, may_write))
