"""A user's day in a real browser, with the whole system running behind it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect
from playwright.async_api import Error as PlaywrightError

from shared.domain.events import (
    AlertRaised,
    ArchiveCancelled,
    ArchiveCompleted,
    NewEvent,
    RestoreCompleted,
    SnapshotCompleted,
)
from shared.domain.ids import derived_id
from shared.domain.names import HostName, host_stream
from shared.domain.writers import Service
from tests.support.browser import DESKTOP, PHONE, browser, overflow, visitor
from tests.support.installation import Installation, installation, of_type
from tests.support.servers import BOUND_SECONDS

pytestmark = [pytest.mark.timeout(BOUND_SECONDS), pytest.mark.all_jobs]
HOST = "nas"
PASSWORD = "three brown horses"


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
    return await page.locator("#snapshots + p + .wide tbody tr").count()


async def reloaded_until(page: Page, selector: str, count: int) -> None:
    """Ask for the page again, as somebody without scripts does, until it shows so many."""
    async with asyncio.timeout(20):
        while await page.locator(selector).count() != count:
            await page.reload()


async def there(page: Page, path: str) -> None:
    """Open a page of a dashboard that is only just being started."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(PlaywrightError):
                await page.goto(path)
                return


async def raise_alarm(system: Installation, number: int) -> None:
    """An event without any work behind it."""
    log = system.open_log(Service.RETENTION)
    try:
        fact = AlertRaised(kind="test", evidence=f"alarm {number}")
        await log.append(host_stream(HostName(HOST)), None, [NewEvent(derived_id("alarm", str(number)), fact)])
    finally:
        await log.close()


async def settle_in(page: Page, system: Installation) -> None:
    """Open the set-up link that the service has printed, and become the first admin."""
    link = re.findall(r"http://127\.0\.0\.1:\d+/setup/[\w-]+", system.journal())[-1]
    await page.goto(link)
    await page.get_by_label("Name").fill("alice")
    await page.get_by_label("Password", exact=True).fill(PASSWORD)
    await page.get_by_label("The password again").fill(PASSWORD)
    await page.get_by_role("button", name="Make the admin").click()
    await expect(page.get_by_role("button", name="Log out")).to_be_visible()


async def edit_and_back_up(page: Page, system: Installation, *, scripts: bool) -> None:
    """Change a letter, then press the button, and see the snapshot come: by itself, or when the page is asked again."""
    letter = system.source(HOST) / "home/alice/letter.txt"
    letter.write_text(letter.read_text() + "I hope this finds you well.\n")
    await page.goto(f"/hosts/{HOST}")
    await page.get_by_role("button", name="Back up now").click()
    if not scripts:
        await system.wait_for(lambda events: len(of_type(events, SnapshotCompleted)) > 1, what="The second snapshot")
        await reloaded_until(page, "#snapshots + p + .wide tbody tr", 2)
    await expect(page.locator("#snapshots + p + .wide tbody tr")).to_have_count(2, timeout=20_000)


async def look_for_the_letter(page: Page) -> None:
    """From the newest snapshot to the letter, its content, and the file itself."""
    await page.get_by_role("link", name="Browse the newest").click()
    await page.get_by_role("link", name="home/").click()
    await page.get_by_role("link", name="alice/").click()
    await page.get_by_role("link", name="letter.txt", exact=True).click()
    await expect(page.locator("pre.content")).to_contain_text("Dear <b>reader</b>")
    async with page.expect_download() as downloading:
        await page.get_by_role("link", name=re.compile("^Download")).click()
    path = await (await downloading.value).path()
    assert path.read_text() == "Dear <b>reader</b>,\nI hope this finds you well.\n"


async def have_the_first_version_back(page: Page, system: Installation, *, scripts: bool) -> None:
    """Two versions: the older one is restored, and compared with the backup."""
    await page.get_by_role("link", name="Versions", exact=True).click()
    rows = page.locator("table.files tbody tr")
    await expect(rows).to_have_count(2)
    await rows.last.get_by_role("link", name="Restore from").click()
    await page.get_by_role("button", name="Restore", exact=True).click()
    if not scripts:
        await system.wait_for(lambda events: bool(of_type(events, RestoreCompleted)), what="The restore")
        await reloaded_until(page, ".restores code", 1)
    await expect(page.locator(".restores .word").first).to_have_text("completed", timeout=20_000)
    place = await page.locator(".restores code").first.inner_text()
    assert (Path(place) / "home/alice/letter.txt").read_text() == "Dear <b>reader</b>,\n"


async def go_back_and_leave(page: Page, system: Installation) -> None:
    """Before anything was backed up there was nothing to see; who has logged out sees nothing either."""
    await page.goto(f"/hosts/{HOST}?at=2020-01-01T00:00Z")
    await expect(page.locator(".past")).to_contain_text("This is the past")
    await page.goto("/events?stream=access")
    await expect(page.get_by_text("alice").first).to_be_visible()
    await page.get_by_role("button", name="Log out").click()
    await page.goto(f"/restores/{HOST}")
    await page.wait_for_url(re.compile("/login"))
    await page.get_by_label("Name").fill("alice")
    await page.get_by_label("Password", exact=True).fill("not the password")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("alert")).to_be_visible()
    await page.get_by_label("Password", exact=True).fill(PASSWORD)
    await page.get_by_role("button", name="Log in").click()
    await page.wait_for_url(re.compile(f"/restores/{HOST}$"))


@pytest.mark.parametrize("scripts", [True, False], ids=["with-scripts", "without-scripts"])
async def test_the_whole_day(system: Installation, chromium: Browser, scripts: bool) -> None:
    async with visitor(chromium, base(system), scripts=scripts) as alice:
        page = await alice.new_page()
        await settle_in(page, system)
        await edit_and_back_up(page, system, scripts=scripts)
        await look_for_the_letter(page)
        await have_the_first_version_back(page, system, scripts=scripts)
        await go_back_and_leave(page, system)


async def test_a_page_follows_a_run_without_being_asked(system: Installation, chromium: Browser) -> None:
    async with visitor(chromium, base(system)) as somebody:
        page = await somebody.new_page()
        await page.goto(f"/hosts/{HOST}")
        assert await snapshots_shown(page) == 1
        await page.get_by_role("button", name="Back up now").click()
        await expect(page.locator("#snapshots + p + .wide tbody tr")).to_have_count(2)
        assert page.url == f"{base(system)}/hosts/{HOST}"


async def test_progress_is_seen_as_it_is_made_and_a_button_calls_it_off(place: Path, chromium: Browser) -> None:
    once_a_day = "SNAPSHOT_INTERVAL_HOURS=24\nTAR_INTERVAL_HOURS=24\nTAR_COMPRESSION_LEVEL=9\n"
    async with installation(place, [HOST], env=once_a_day) as system:
        home = system.source(HOST) / "home/alice"
        home.mkdir(parents=True)
        with (home / "film.bin").open("wb") as film:
            for _ in range(300):
                film.write(os.urandom(1_000_000))
        await system.start()
        async with visitor(chromium, base(system)) as somebody:
            page = await somebody.new_page()
            await there(page, f"/hosts/{HOST}")
            under_way = page.locator(".progress", has_text="Archive: ")
            await expect(under_way.locator("progress")).to_be_visible(timeout=60_000)
            await page.get_by_role("button", name="Cancel").click()
            events = await system.wait_for(lambda events: bool(of_type(events, ArchiveCancelled)), what="The cancel")
            cancelled = of_type(events, ArchiveCancelled)[0].event
            assert isinstance(cancelled, ArchiveCancelled)
            assert cancelled.by == "dashboard"
            await expect(under_way).to_have_count(0, timeout=20_000)
            await page.goto("/runs?outcome=cancelled")
            await expect(page.locator(".outcome-cancelled")).to_have_text("cancelled")


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
        await reloaded_until(page, "#snapshots + p + .wide tbody tr", done + 1)
        await page.get_by_text("Look at the past").click()
        await page.get_by_label("Or say when").fill("2020-01-01T00:00Z")
        await page.get_by_role("button", name="Show").click()
        await expect(page.get_by_text("This is the past")).to_be_visible()
        assert await snapshots_shown(page) == 1  # the row that says: none yet


PAGES = (
    "/",
    f"/hosts/{HOST}",
    "/runs",
    "/events",
    "/settings",
    "/?at=2020-01-01T00:00:00Z",
    f"/browse/{HOST}/{{snapshot}}/home/alice",
    f"/preview/{HOST}/{{snapshot}}/home/alice/letter.txt",
    f"/versions/{HOST}/home/alice/letter.txt",
    f"/search/{HOST}?name=letter",
    f"/restore/{HOST}/{{snapshot}}/home/alice/letter.txt",
    f"/restores/{HOST}",
    "/users",
    "/account",
    "/architecture",
    "/architecture-dummies",
)


async def test_every_page_fits_a_phone(system: Installation, chromium: Browser) -> None:
    snapshot = system.snapshots(HOST)[0].name
    async with visitor(chromium, base(system), size=PHONE) as somebody:
        page = await somebody.new_page()
        await settle_in(page, system)
        for path in PAGES:
            answer = await page.goto(path.format(snapshot=snapshot))
            assert answer is not None
            assert answer.status == 200, path
            assert await overflow(page) == 0, path
            await pictured(page, path)
            await page.set_viewport_size({"width": DESKTOP[0], "height": DESKTOP[1]})
            assert await overflow(page) == 0, path
            await pictured(page, path)
            await page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})


async def pictured(page: Page, path: str) -> None:
    """Keep a picture of the page for somebody to look at, where PICTURES says."""
    if folder := os.environ.get("PICTURES"):
        width = (page.viewport_size or {"width": 0})["width"]
        name = re.sub(r"[^a-z]+", "-", path.partition("?")[0]).strip("-") or "dashboard"
        await page.screenshot(path=Path(folder, f"{name}-{width}.png"), full_page=True)
