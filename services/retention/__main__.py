"""`python -m services.retention`."""

import sys

from services.retention.service import may_write, serve
from shared.runtime.start import start_service

sys.exit(start_service("retention", serve, may_write))
