"""A user's day in a real browser, with the whole system running behind it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from shared.domain.events import AlertRaised, ArchiveCompleted, NewEvent, SnapshotCompleted
from shared.domain.ids import derived_id
from shared.domain.names import HostName, host_stream
from tests.support.browser import PHONE, browser, overflow, visitor
from tests.support.installation import Installation, installation, of_type
from tests.support.servers import BOUND_SECONDS

pytestmark = [pytest.mark.timeout(BOUND_SECONDS), pytest.mark.all_jobs]
HOST = "nas"


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    async with browser() as started:
        yield started


@pytest.fixture
async def system(place: Path) -> AsyncIterator[Installation]:
    async with installation(place, [HOST]) as made:
        home = made.source(HOST) / "home"
        (home / "alice").mkdir(parents=True)
        (home / "alice/letter.txt").write_text("Dear <b>reader</b>,\n")
        await made.start()
        await made.wait_for(lambda events: bool(of_type(events, ArchiveCompleted)), what="The first archive")
        yield made


def base(system: Installation) -> str:
    return f"http://127.0.0.1:{system.settings.api_listen[1]}"


async def snapshots_shown(page: Page) -> int:
    return await page.locator("#snapshots + .wide tbody tr").count()


async def raise_alarm(system: Installation, number: int) -> None:
    """An event without any work behind it."""
    log = system.open_log()
    try:
        fact = AlertRaised(kind="test", evidence=f"alarm {number}")
        await log.append(host_stream(HostName(HOST)), None, [NewEvent(derived_id("alarm", str(number)), fact)])
    finally:
        await log.close()


async def test_a_page_follows_a_run_without_being_asked(system: Installation, chromium: Browser) -> None:
    async with visitor(chromium, base(system)) as somebody:
        page = await somebody.new_page()
        await page.goto(f"/hosts/{HOST}")
        assert await snapshots_shown(page) == 1
        await page.get_by_role("button", name="Back up now").click()
        await expect(page.locator("#snapshots + .wide tbody tr")).to_have_count(2)
        assert page.url == f"{base(system)}/hosts/{HOST}"


async def test_all_tabs_share_one_connection(system: Installation, chromium: Browser) -> None:
    async with visitor(chromium, base(system)) as somebody:
        streams: list[str] = []
        somebody.on("request", lambda request: streams.append(request.url) if "stream" in request.url else None)
        pages = [await somebody.new_page() for _ in range(3)]
        for page in pages:
            await page.goto("/events")
        await raise_alarm(system, 1)
        for page in pages:
            await page.bring_to_front()
            await expect(page.get_by_text("alarm 1")).to_be_visible()
        assert len(somebody.pages) == 3
        assert len(streams) <= 1


async def test_who_is_writing_is_not_disturbed(system: Installation, chromium: Browser) -> None:
    async with visitor(chromium, base(system)) as somebody:
        page, other = await somebody.new_page(), await somebody.new_page()
        await other.goto("/events")
        await page.goto(f"/hosts/{HOST}")
        await page.get_by_text("Hold: remove nothing").click()
        await page.get_by_label("Why").fill("the disk cli")
        for number in range(3):  # a page that is disturbed would be by the first of them
            await raise_alarm(system, number)
            await expect(other.get_by_text(f"alarm {number}")).to_be_visible()
        await expect(page.get_by_label("Why")).to_have_value("the disk cli")
        await page.get_by_role("button", name="Hold").click()
        await expect(page.get_by_text("On hold: the disk cli")).to_be_visible()


async def test_the_slider_goes_into_the_past_and_back(system: Installation, chromium: Browser) -> None:
    async with visitor(chromium, base(system)) as somebody:
        page = await somebody.new_page()
        await page.goto(f"/hosts/{HOST}")
        await page.get_by_text("Look at the past").click()
        slider = page.get_by_label("Drag into the past")
        await expect(slider).to_be_visible()
        await slider.focus()
        await page.keyboard.press("Home")
        await page.wait_for_url(re.compile(r"\?at="))
        await expect(page.locator(".past")).to_contain_text("This is the past")
        assert await page.get_by_role("button", name="Back up now").count() == 0
        await page.locator(".past").get_by_role("link", name="Back to now").click()
        await expect(page.get_by_role("button", name="Back up now")).to_be_visible()


async def test_everything_works_without_scripts(system: Installation, chromium: Browser) -> None:
    async with visitor(chromium, base(system), scripts=False) as somebody:
        page = await somebody.new_page()
        await page.goto("/")
        await page.get_by_role("link", name=HOST, exact=True).click()
        done = len(of_type(await system.events(), SnapshotCompleted))
        await page.get_by_role("button", name="Back up now").click()
        await system.wait_for(lambda events: len(of_type(events, SnapshotCompleted)) > done, what="The run")
        await page.reload()
        assert await snapshots_shown(page) == done + 1
        await page.get_by_text("Look at the past").click()
        await page.get_by_label("Or say when").fill("2020-01-01T00:00:00Z")
        await page.get_by_role("button", name="Show").click()
        await expect(page.get_by_text("This is the past")).to_be_visible()
        assert await snapshots_shown(page) == 1  # the row that says: none yet


PAGES = ("/", f"/hosts/{HOST}", "/runs", "/events", "/settings", "/?at=2020-01-01T00:00:00Z")


async def test_every_page_fits_a_phone(system: Installation, chromium: Browser) -> None:
    async with visitor(chromium, base(system), size=PHONE) as somebody:
        page = await somebody.new_page()
        for path in PAGES:
            answer = await page.goto(path)
            assert answer is not None
            assert answer.status == 200, path
            assert await overflow(page) == 0, path
