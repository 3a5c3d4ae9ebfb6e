"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.places import new_place


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as folder:
        yield folder
