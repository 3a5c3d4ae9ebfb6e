"""`python -m services.archiver`."""

import sys

from services.archiver.service import may_write, serve
from shared.runtime.start import start_service

sys.exit(start_service("archiver", serve, may_write))
