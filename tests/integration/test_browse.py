"""Looking into restore points over real HTTP: every odd name byte for byte, and nothing from outside."""

from __future__ import annotations

import asyncio
import fcntl
import gzip
import io
import os
import tarfile
import zipfile
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from services.embedded.sshd import free_port
from shared.adapters import beneath
from shared.adapters.jetstream import Bus
from shared.adapters.point_tree import PathMissing, PathRefused, PointTree
from shared.adapters.postgres import EventLog
from shared.adapters.store import HostFolder
from shared.config import Settings
from shared.domain.access import Role
from shared.domain.events import Kind, PointTrashed, RemovalOrdered
from shared.domain.names import host_stream
from shared.domain.paths import token_of
from tests.support.backups import mounted
from tests.support.browsing import (
    DEEP_NAME,
    ODD_NAMES,
    SECRET,
    content_of,
    hostile,
    put_tree,
)
from tests.support.builders import HOST, SLOT, build, new, some_settings
from tests.support.places import new_place
from tests.support.servers import BOUND_SECONDS, Database, NatsServer
from tests.support.serving import serving
from tests.support.stock import put_golden, put_snapshot, stocked

pytestmark = pytest.mark.timeout(BOUND_SECONDS)

ONE = "2026-03-06_0800"
API = f"/api/hosts/{HOST}/snapshots/{ONE}"
STREAM = host_stream(HOST)


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as made:
        yield made


@pytest.fixture
def settings(database: Database, nats_server: NatsServer, place: Path) -> Settings:
    return some_settings(
        [HOST, "web"],
        root=place,
        nats_url=nats_server.url,
        postgres_dsn=database.worker_dsn,
        api_listen=("127.0.0.1", free_port()),
    )


@pytest.fixture
def folder(settings: Settings) -> Iterator[HostFolder]:
    with stocked(settings.backup_root) as made:
        yield made


@pytest.fixture
async def client(settings: Settings, bus: Bus, log: EventLog, folder: HostFolder) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API whose host has one hostile snapshot."""
    await log.append(STREAM, None, put_tree(folder, SLOT, hostile))
    async with serving(settings, Role.OPERATOR) as made:
        yield made


async def get(client: httpx.AsyncClient, path: str, **headers: str) -> httpx.Response:
    """Ask for exactly this address: no dot, escape or slash of it is changed."""
    host, port = client.base_url.host, client.base_url.port
    reader, writer = await asyncio.open_connection(host, port)
    token = client.headers["authorization"]
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}:{port}", "Connection: close", f"Authorization: {token}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    async with asyncio.timeout(30):
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.read()
    writer.close()
    status, *rest = head.decode("latin-1").split("\r\n")
    pairs = [line.split(": ", 1) for line in rest if line]
    if ("transfer-encoding", "chunked") in [(k.lower(), v) for k, v in pairs]:
        body = _joined(body)
    kept = [(k, v) for k, v in pairs if k.lower() != "transfer-encoding"]
    return httpx.Response(int(status.split()[1]), headers=kept, content=body)


def _joined(body: bytes) -> bytes:
    stream, found = io.BytesIO(body), b""
    while length := int(stream.readline() or b"0", 16):
        found += stream.read(length)
        stream.readline()
    assert stream.read() == b"\r\n", "the answer has no end"
    return found


async def test_every_odd_name_is_listed_shown_safely_and_downloaded_byte_for_byte(client: httpx.AsyncClient) -> None:
    found = (await client.get(f"{API}/files", params={"path": "home", "limit": 1000})).json()
    by_token = {one["path"]: one for one in found["entries"]}
    for name in ODD_NAMES:
        one = by_token[token_of(b"home/" + name)]
        assert one["type"] == "file"
        assert one["name"].isprintable()
        for address in (
            f"{API}/content?path={one['path']}",
            f"/download/{HOST}/{ONE}/{one['path']}",
        ):
            answer = await get(client, address)
            assert answer.status_code == 200
            assert answer.content == content_of(name)
            assert answer.headers["content-disposition"].startswith("attachment; filename=")
            assert answer.headers["content-disposition"].isascii()
            assert "nosniff" in answer.headers["x-content-type-options"]
        preview = await get(client, f"/preview/{HOST}/{ONE}/{one['path']}")
        assert preview.status_code == 200
        assert b"<script>alert" not in preview.content
        assert "\u202e" not in preview.text
        assert b"\x1b" not in preview.content
        assert (await get(client, f"/versions/{HOST}/{one['path']}")).status_code == 200
    page = await client.get(f"/browse/{HOST}/{ONE}/home")
    assert page.status_code == 200
    assert "&lt;script&gt;alert(1)&lt;script&gt;.html" in page.text
    assert "<script>alert" not in page.text
    assert "\x1b" not in page.text
    assert "\u202e" not in page.text


async def test_what_the_product_writes_down_itself_is_hidden_and_the_hosts_file_of_that_name_is_not(
    client: httpx.AsyncClient,
) -> None:
    top = (await client.get(f"{API}/files")).json()
    assert [one["name"] for one in top["entries"]] == ["home"]
    for record in (".snapshot_complete", ".files.zst", ".changes.jsonl.zst"):
        assert (await client.get(f"{API}/content", params={"path": record})).status_code == 404
    ours = await client.get(f"{API}/content", params={"path": "home/.snapshot_complete"})
    assert ours.content == content_of(b".snapshot_complete")


def lines_of(path: Path) -> list[bytes]:
    """The lines of a file; none when this user may not read it."""
    return path.read_bytes().splitlines() if os.access(path, os.R_OK) else []


OUTSIDE = (
    "home/shadow",
    "home/climbing",
    "home/etc/passwd",
    "home/etc",
    "home/up/home/plain.txt",
    "..",
    "../../../../../../etc/passwd",
    "home/../../../../../../../etc/passwd",
    "home/..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "home/%2e%2e/%2e%2e/%2e%2e/%2e%2e/.backup-root.json",
    "/etc/passwd",
    "//etc/passwd",
    "%2fetc%2fpasswd",
    "home/plain.txt%00",
    "home/plain.txt%00/../../../../../etc/passwd",
    "home/.",
    "home//plain.txt%2f..",
    "home/pipe",
    "home/socket",
    "home/zero",
    "home/plain.txt/below",
    "home/nothing",
    "x" * 300,
    "y/" * 3000,
    "%ff%fe",
)


SECRETS = [line for file in (SECRET, "/etc/passwd") for line in lines_of(Path(file)) if len(line) > 8]


async def test_not_one_byte_comes_from_outside_and_nothing_hangs_or_fails(client: httpx.AsyncClient) -> None:
    for path in OUTSIDE:
        await stays_inside(client, path)


async def stays_inside(client: httpx.AsyncClient, path: str) -> None:
    for address in (
        f"{API}/content?path={path}",
        f"{API}/files?path={path}",
        f"/api/hosts/{HOST}/versions?path={path}",
        f"/browse/{HOST}/{ONE}/{path}",
        f"/download/{HOST}/{ONE}/{path}",
        f"/preview/{HOST}/{ONE}/{path}",
        f"/image/{HOST}/{ONE}/{path}",
        f"/versions/{HOST}/{path}",
    ):
        answer = await get(client, address)
        assert answer.status_code < 500, (address, answer.text)
        assert not any(line in answer.content for line in SECRETS), address
        assert b"BACKUP" not in answer.content.upper() or b"UUID" not in answer.content.upper()
        if "content?" in address or "/image/" in address:
            assert answer.status_code in {400, 403, 404}, (address, answer.text)
            assert answer.json()["detail"]


async def test_a_folder_that_becomes_a_link_while_it_is_looked_at_leads_nowhere(
    client: httpx.AsyncClient, folder: HostFolder
) -> None:
    home = folder.path / "hourly" / ONE / "home"
    (home / "swapped").mkdir()
    (home / "swapped" / "passwd").write_text("decoy")
    assert (await client.get(f"{API}/content", params={"path": "home/swapped/passwd"})).text == "decoy"
    (home / "swapped" / "passwd").unlink()
    (home / "swapped").rmdir()
    (home / "swapped").symlink_to("/etc")
    assert (await client.get(f"{API}/content", params={"path": "home/swapped/passwd"})).status_code == 404
    assert (await client.get(f"{API}/files", params={"path": "home/swapped"})).status_code == 404


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
async def test_what_is_mounted_inside_is_not_part_of_the_backup(client: httpx.AsyncClient, folder: HostFolder) -> None:
    inside, outside = folder.path / "hourly" / ONE / "home" / "mounted", folder.path.parent.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text("from outside")
    async with mounted(inside, "--bind", str(outside)):
        listed = (await client.get(f"{API}/files", params={"path": "home", "limit": 1000})).json()["entries"]
        one = next(one for one in listed if one["name"] == "mounted")
        assert one == {"name": "mounted", "path": "home/mounted", "type": "mount"}
        refused = await client.get(f"{API}/content", params={"path": "home/mounted/secret"})
        assert refused.status_code == 403
        assert "mounted" in refused.json()["detail"]
        (inside.parent / "huge").unlink()
        assert (await client.get(f"{API}/content", params={"path": "home", "as": "tar.gz"})).status_code == 403
        zipped = await client.get(f"{API}/content", params={"path": "home", "as": "zip"})
        assert zipped.status_code == 200, zipped.text
        with zipfile.ZipFile(io.BytesIO(zipped.content)) as made:
            assert not [name for name in made.namelist() if "mounted" in name]
            assert b"left out, a mount: home/mounted" in made.read("home/ABOUT-THIS-ZIP.txt")


async def test_paths_longer_than_the_kernel_takes_them_are_reached(client: httpx.AsyncClient) -> None:
    folder = "/".join(["home", *[DEEP_NAME] * (4_400 // 201)])
    assert len(folder) > 4_096
    listed = await client.get(f"{API}/files", params={"path": folder})
    assert [one["name"] for one in listed.json()["entries"]] == ["at the end"]
    answer = await client.get(f"{API}/content", params={"path": f"{folder}/at the end"})
    assert answer.content == b"deep"
    assert (await client.get(f"/browse/{HOST}/{ONE}/{folder}")).status_code == 200


async def test_a_file_without_end_is_sent_lazily_and_ends_with_who_asked(
    client: httpx.AsyncClient, folder: HostFolder
) -> None:
    tree = folder.path / "hourly" / ONE
    size = (tree / "home" / "huge").stat().st_size
    async with client.stream("GET", f"{API}/content", params={"path": "home/huge"}) as answer:
        assert answer.headers["content-length"] == str(size)
        got = 0
        async for piece in answer.aiter_raw():
            assert not piece.strip(b"\0")
            got += len(piece)
            if got > 3_000_000:
                break
        assert in_use(tree)
    await gone(tree)
    last = await get(client, f"{API}/content?path=home/huge", Range="bytes=-5")
    assert (last.status_code, last.content) == (206, b"\0" * 5)
    assert last.headers["content-range"] == f"bytes {size - 5}-{size - 1}/{size}"
    assert "no text" in (await client.get(f"/preview/{HOST}/{ONE}/home/huge")).text
    assert (await client.get("/api/status")).status_code == 200


def in_use(tree: Path) -> bool:
    """Whether somebody holds a restore point, as retention would see it."""
    descriptor = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


async def gone(tree: Path) -> None:
    """Wait until nobody holds the restore point any more."""
    async with asyncio.timeout(10):
        while in_use(tree):  # noqa: ASYNC110  # the kernel tells nobody that a lock is free
            await asyncio.sleep(0.01)


async def test_parts_of_a_file_are_sent_as_asked(client: httpx.AsyncClient) -> None:
    content, address = content_of(b"plain.txt"), f"{API}/content?path=home/plain.txt"
    whole = await get(client, address)
    tag = whole.headers["etag"]
    for asked, expected in (("bytes=0-9", content[:10]), ("bytes=100-", content[100:]), ("bytes=-7", content[-7:])):
        part = await get(client, address, Range=asked, If_Range=tag)
        assert (part.status_code, part.content) == (206, expected)
    assert (await get(client, address, Range="bytes=0-9", If_Range='"other"')).content == content
    assert (await get(client, address, Range="bytes=0-1,4-5")).content == content
    assert (await get(client, address, Range="lines=1-2")).content == content
    assert (await get(client, address, Range="bytes=99999-")).status_code == 416
    assert (await get(client, address, If_None_Match=tag)).status_code == 304


async def test_a_folder_comes_as_tar_gz_and_as_zip(client: httpx.AsyncClient, folder: HostFolder) -> None:
    home = folder.path / "hourly" / ONE / "home"
    (home / "huge").unlink()
    packed = await get(client, f"{API}/content?path=home")
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed.content)), errors="surrogateescape") as tar:
        members = {os.fsencode(member.name): member for member in tar.getmembers()}
        for name in ODD_NAMES:
            reader = tar.extractfile(members[b"home/" + name])
            assert reader is not None
            assert reader.read() == content_of(name)
        assert members[b"home/shadow"].issym()
        assert members[b"home/pipe"].isfifo()
        assert b"home/socket" not in members
        assert members[b"home/plain.txt"].uname == ""
    zipped = await get(client, f"/download/{HOST}/{ONE}/home?as=zip")
    with zipfile.ZipFile(io.BytesIO(zipped.content)) as made:
        assert made.testzip() is None
        names = set(made.namelist())
        for name in ODD_NAMES:
            if name != b"not\xff\xfeutf8.bin":
                assert made.read(f"home/{name.decode()}") == content_of(name)
        assert made.read("home/not%FF%FEutf8.bin") == content_of(b"not\xff\xfeutf8.bin")
        assert (made.getinfo("home/shadow").external_attr >> 28, made.read("home/shadow")) == (0xA, SECRET.encode())
        assert not {"home/pipe", "home/socket"} & names
        note = made.read("home/ABOUT-THIS-ZIP.txt").decode()
        assert "left out, a pipe: home/pipe" in note
    await gone(folder.path / "hourly" / ONE)


async def test_a_download_that_is_given_up_ends_at_once_and_one_that_cannot_be_whole_is_not_taken_for_it(
    client: httpx.AsyncClient, folder: HostFolder
) -> None:
    tree = folder.path / "hourly" / ONE
    (tree / "home" / "noise").write_bytes(os.urandom(30_000_000))
    for packed in ("tar.gz", "zip"):
        async with client.stream("GET", f"{API}/content", params={"path": "home", "as": packed}) as answer:
            assert await anext(answer.aiter_raw())
            assert in_use(tree)
        await gone(tree)
    with pytest.raises(httpx.TransportError):
        await shortened_meanwhile(client, tree / "home" / "huge")
    await gone(tree)
    assert (await client.get("/api/status")).status_code == 200


async def shortened_meanwhile(client: httpx.AsyncClient, file: Path) -> None:
    async with client.stream("GET", f"{API}/content", params={"path": "home/huge"}) as answer:
        pieces = answer.aiter_raw()
        await anext(pieces)
        os.truncate(file, 0)
        async for _ in pieces:
            pass


def test_where_the_kernel_has_no_openat2_it_is_done_by_parts(
    folder: HostFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_tree(folder, SLOT, hostile)
    top = os.open(folder.path / "hourly" / ONE, os.O_RDONLY | os.O_DIRECTORY)
    try:
        tree = PointTree(top)
        with_it = [(path, item.kind, item.target) for path, item in tree.walk(b"") if b"ddd/" not in path]
        monkeypatch.setattr(beneath, "SYS_OPENAT2", 100_000)
        assert [(path, item.kind, item.target) for path, item in tree.walk(b"") if b"ddd/" not in path] == with_it
        for path in (b"home/shadow", b"home/etc/passwd", b"home/up/home/plain.txt", b"home/pipe"):
            with pytest.raises((PathMissing, PathRefused)):
                tree.open_file(path)
    finally:
        os.close(top)


async def test_a_large_folder_is_paged_by_name(client: httpx.AsyncClient, folder: HostFolder) -> None:
    large = folder.path / "hourly" / ONE / "home" / "large"
    large.mkdir()
    for number in range(2_500):
        (large / f"file {number:05}").touch()
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        page = (await client.get(f"{API}/files", params={"path": "home/large", "limit": 1000, "after": after})).json()
        assert page["total"] == 2_500
        seen += [one["name"] for one in page["entries"]]
        after = page["next"]
    assert seen == [f"file {number:05}" for number in range(2_500)]
    text = (await client.get(f"/browse/{HOST}/{ONE}/home/large")).text
    assert "200 of them here" in text
    assert "file 00199" in text
    assert "after=file%2520" in text


async def test_previews_show_text_and_pictures_and_nothing_that_could_act(
    client: httpx.AsyncClient, folder: HostFolder
) -> None:
    home = folder.path / "hourly" / ONE / "home"
    (home / "picture.svg").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    (home / "page.png").write_bytes(b"<html><script>alert(1)</script>")
    (home / "latin.txt").write_bytes("grüße\x1b[2J\u202e".encode()[:6] + b"\xe4 \x1b[2J")
    (home / "long.txt").write_bytes(b"line\n" * 100_000)
    image = await client.get(f"/image/{HOST}/{ONE}/home/picture.svg")
    assert image.headers["content-type"] == "image/png"
    assert "sandbox; default-src 'none'" in image.headers["content-security-policy"]
    assert (await client.get(f"/image/{HOST}/{ONE}/home/page.png")).status_code == 403
    assert "&lt;script&gt;" in (await client.get(f"/preview/{HOST}/{ONE}/home/page.png")).text
    latin = (await client.get(f"/preview/{HOST}/{ONE}/home/latin.txt")).text
    assert "Latin-1" in latin
    assert "\x1b" not in latin
    long = await client.get(f"/preview/{HOST}/{ONE}/home/long.txt")
    assert "The first 64 KB" in long.text
    assert len(long.content) < 100_000
    assert "not followed" in (await client.get(f"/preview/{HOST}/{ONE}/home/shadow")).text


NOT_THERE = (
    ("/api/hosts/nobody/snapshots/2026-03-06_0800/files", 404, "no host"),
    ("/api/hosts/nas/snapshots/2026-03-07_0800/files", 404, "no snapshot 2026-03-07_0800"),
    ("/api/hosts/nas/snapshots/..%2fx/files", 404, ""),
    ("/api/hosts/nas/snapshots/yesterday/files", 404, "not the name"),
    ("/api/hosts/nas/snapshots/2026-03-06_0800/files?path=nothing", 404, "no ‘nothing’"),
    ("/api/hosts/nas/snapshots/2026-03-06_0800/files?limit=0", 400, "limit"),
    ("/api/hosts/nas/snapshots/2026-03-06_0800/content?as=rar", 400, "as"),
    ("/api/hosts/nas/snapshots/2026-03-06_0800/files?at=2020-01-01T00:00:00Z", 404, "at that moment"),
    ("/api/hosts/nas/versions", 404, "No path"),
    ("/api/hosts/web/versions?path=x", 404, "no restore points"),
    ("/api/hosts/nas/search?name=", 404, "nothing to search"),
    ("/browse/nobody", 404, "no host"),
    ("/browse/nas/2026-03-06_0800/nothing", 404, "no ‘nothing’"),
    ("/versions/nas/nothing", 404, "No restore point of nas has ‘nothing’"),
)


async def test_what_is_not_there_is_said_with_a_sentence(client: httpx.AsyncClient) -> None:
    for path, status, says in NOT_THERE:
        answer = await get(client, path, Accept="text/html")
        assert answer.status_code == status, path
        assert says in answer.text.replace("&#39;", "'"), path
        assert ("html" in answer.headers["content-type"]) == (not path.startswith("/api")), path


async def test_a_snapshot_that_was_removed_says_when_and_by_which_rule(
    client: httpx.AsyncClient, folder: HostFolder, log: EventLog
) -> None:
    later = SLOT + timedelta(hours=1)
    told: list[Any] = put_snapshot(folder, later)
    removal = [
        new(build(RemovalOrdered, point="2026-03-06_0900", reasons=("older than 720 hours",)), step=1),
        new(build(PointTrashed, kind=Kind.SNAPSHOT, point="2026-03-06_0900"), step=2),
    ]
    await log.append(STREAM, None, told)
    appended = await log.append(STREAM, None, removal)
    await client.get("/api/events", params={"after": appended.first_position, "wait_seconds": 20})
    answer = await client.get(f"/api/hosts/{HOST}/snapshots/2026-03-06_0900/files")
    assert answer.status_code == 410
    assert "older than 720 hours" in answer.json()["detail"]
    assert "undelete nas snapshot/2026-03-06_0900" in answer.json()["hint"]
    page = await client.get(f"/browse/{HOST}/2026-03-06_0900", headers={"accept": "text/html"})
    assert page.status_code == 410
    assert "older than 720 hours" in page.text


async def test_golden_copies_are_looked_into_the_same_way(
    client: httpx.AsyncClient, folder: HostFolder, log: EventLog
) -> None:
    appended = await log.append(STREAM, None, put_golden(folder, SLOT, "2026-03"))
    await client.get("/api/events", params={"after": appended.first_position - 1, "wait_seconds": 20})
    found = (await client.get(f"/api/hosts/{HOST}/snapshots/2026-03/files", params={"path": "home"})).json()
    assert [one["name"] for one in found["entries"]] == ["a.txt"]
    newest = await client.get(f"/api/hosts/{HOST}/snapshots/latest/files")
    assert newest.json() == (await client.get(f"/api/hosts/{HOST}/snapshots/{ONE}/files")).json()
    page = (await client.get(f"/browse/{HOST}/2026-03/home")).text
    assert "golden copy 2026-03" in page
    chosen = await client.get(f"/browse/{HOST}", params={"snapshot": "2026-03", "path": quote("home")})
    assert (chosen.status_code, chosen.headers["location"]) == (303, f"/browse/{HOST}/2026-03/home")
    host = (await client.get(f"/hosts/{HOST}")).text
    assert f'href="/browse/{HOST}/2026-03"' in host
    assert f'href="/browse/{HOST}/{ONE}"' in host
