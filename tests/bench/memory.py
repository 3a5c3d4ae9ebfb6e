"""Stub."""

from tests.bench.options import Options
from tests.bench.table import Found


async def measure(options: Options) -> Found:
    return Found("x", [])
