"""`python -m services.snapshotter`."""

import sys

from services.snapshotter.service import serve
from shared.runtime.start import start_service

sys.exit(start_service("snapshotter", serve))
