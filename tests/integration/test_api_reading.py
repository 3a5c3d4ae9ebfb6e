"""The product's own documents: whole without scripts, within the page's rules, and part of what is installed."""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from services.api.pages.reading import DOCUMENTS
from shared.adapters import process
from shared.adapters.jetstream import Bus
from tests.support.servers import BOUND_SECONDS, Database, NatsServer
from tests.support.serving import served_settings, serving

pytestmark = pytest.mark.timeout(BOUND_SECONDS)

REPOSITORY = Path(__file__).parents[2]
EMPTY = {"path", "rect", "circle", "ellipse", "use", "meta", "link", "br", "input", "hr", "img"}


class Seen(HTMLParser):
    """What a browser would make of a page: its addresses, its links, what is open and never closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._see(tag, attrs)
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._see(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def _see(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name == "href"]


@pytest.fixture
async def client(database: Database, nats_server: NatsServer, bus: Bus) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(served_settings(database, nats_server)) as made:
        yield made


async def test_the_documents_need_no_scripts_and_lead_only_where_something_is(client: httpx.AsyncClient) -> None:
    for path in ("/architecture", "/architecture-dummies"):
        answer = await client.get(path)
        assert answer.status_code == 200
        seen = Seen(answer.text)
        assert seen.open == []
        assert len(set(seen.ids)) == len(seen.ids)
        assert {link[1:] for link in seen.links if link.startswith("#")} <= set(seen.ids)
        assert not {"script", "style"} & set(seen.tags)
        assert not [name for name in seen.attributes if name == "style" or name.startswith("on")]
        for link in {link for link in seen.links if not link.startswith("#")}:
            assert (await client.get(link)).status_code == 200, link


async def test_each_slide_has_its_picture_and_leads_to_the_next(client: httpx.AsyncClient) -> None:
    page = (await client.get("/architecture-dummies")).text
    slides = page.split('<section class="slide"')[1:]
    assert 8 <= len(slides) <= 12
    for number, slide in enumerate(slides, 1):
        assert 'role="img" aria-label=' in slide
        assert (f'href="#slide-{number + 1}" rel="next"' in slide) == (number < len(slides))
        assert (f'href="#slide-{number - 1}" rel="prev"' in slide) == (number > 1)


async def test_the_decisions_are_those_of_the_repository(client: httpx.AsyncClient) -> None:
    page = (await client.get("/architecture")).text
    written = re.findall(r"^\*\*(D\d+)\.", (REPOSITORY / "ARCHITECTURE.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(written) > 20
    assert all(f'id="{number.lower()}"' in page for number in written)


async def test_a_package_made_of_a_source_archive_brings_the_document_itself(tmp_path: Path) -> None:
    source = await _build("sdist", REPOSITORY, tmp_path)
    wheel = await _build("wheel", _unpacked(source, tmp_path / "source"), tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert archive.read("services/api/docs/ARCHITECTURE.md") == (DOCUMENTS / "ARCHITECTURE.md").read_bytes()
    assert {"services/api/static/docs.css", "services/api/templates/drawn/flow.svg"} <= names


async def _build(target: str, source: Path, where: Path) -> Path:
    argv = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(where)]
    done = await process.run(argv, timeout_seconds=BOUND_SECONDS, cwd=source)
    assert done.returncode == 0, done.stderr.decode()
    return _made(where, {"sdist": "*.tar.gz", "wheel": "*.whl"}[target])


def _made(where: Path, named: str) -> Path:
    [made] = where.glob(named)
    return made


def _unpacked(source: Path, where: Path) -> Path:
    with tarfile.open(source) as archive:
        archive.extractall(where, filter="data")
    [unpacked] = where.iterdir()
    return unpacked
