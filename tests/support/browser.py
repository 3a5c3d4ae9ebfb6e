"""A real browser: Chromium, driven by Playwright, for pages of this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright

# It would otherwise look for updates and for its maker's servers at every start.
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP = (1280, 900)
PHONE = (390, 844)
PATIENCE_MS = 20_000


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """A browser without a window."""
    path = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    assert path is not None, "There is no Chromium: `make dev` installs it, CHROMIUM names another."
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=path, args=list(QUIET))
        try:
            yield started
        finally:
            await started.close()


def is_wrong(said: ConsoleMessage) -> bool:
    """Whether the console tells of a defect; that an answer was 401 or 409 is for the page itself to show."""
    return said.type == "error" and not said.text.startswith("Failed to load resource: the server responded")


@asynccontextmanager
async def visitor(
    browser: Browser, base: str, *, size: tuple[int, int] = DESKTOP, scripts: bool = True
) -> AsyncIterator[BrowserContext]:
    """Somebody with cookies of his own. What any of his pages complains about ends the test."""
    complaints: list[str] = []
    context = await browser.new_context(
        base_url=base,
        viewport={"width": size[0], "height": size[1]},
        java_script_enabled=scripts,
        accept_downloads=True,
    )
    context.set_default_timeout(PATIENCE_MS)

    def listen(page: Page) -> None:
        page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
        page.on("console", lambda said: complaints.append(f"{page.url}: {said.text}") if is_wrong(said) else None)

    context.on("page", listen)
    try:
        yield context
    finally:
        await context.close()
    assert not complaints, "\n".join(complaints)


async def overflow(page: Page) -> int:
    """By how many pixels a page is wider than its window."""
    wider: int = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return wider
