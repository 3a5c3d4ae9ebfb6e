"""What was tried is shown at the end, also when everything went well: a number is worth what it was spread over."""

from __future__ import annotations

from collections.abc import Callable

import pytest

TRIED = "tried"
Tell = Callable[..., None]


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Have sentences shown at the end of the session, whichever process runs the test."""

    def keep(*sentences: str) -> None:
        record_property(TRIED, "\n    ".join(sentences))

    return keep


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show them."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in getattr(report, "user_properties", ()):
                if name == TRIED and report.when == "call":
                    terminalreporter.write_line(str(value))
