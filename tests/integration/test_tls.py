"""TLS to the bus and to the event log, with a certificate authority of our own: deploy/TLS.md is what is tried here."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from services.embedded.nats import PortsFile, _installed
from services.embedded.secret_files import SecretFiles
from shared.adapters import process
from shared.adapters.bus_client import BusUser
from shared.adapters.jetstream import Bus, BusForbids, BusUnavailable
from shared.adapters.postgres import EventLog
from shared.domain.errors import LogUnavailable
from shared.domain.messages import Trigger
from shared.domain.names import StoreName
from tests.support.builders import alerts
from tests.support.servers import BOUND_SECONDS, Database
from tests.support.users import guarded_bus

pytestmark = pytest.mark.timeout(2 * BOUND_SECONDS)


async def openssl(place: Path, *words: str) -> None:
    done = await process.run(["openssl", *words], timeout_seconds=BOUND_SECONDS, cwd=place)
    assert done.returncode == 0, done.said


async def make_authority(place: Path, name: str) -> None:
    """A certificate authority for one day, and a certificate of it for `localhost`."""
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    await openssl(
        place, "req", "-x509", *new, "-days", "1", "-subj", f"/CN={name}", "-keyout", "ca.key", "-out", "ca.pem"
    )
    await openssl(place, "req", *new, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
    (place / "names").write_text("subjectAltName=DNS:localhost\n")
    signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1", "-extfile", "names"]
    await openssl(place, "x509", "-req", "-in", "server.csr", *signed, "-out", "server.pem")


@pytest.fixture
async def ours(tmp_path: Path) -> Path:
    """The folder of our authority."""
    (tmp_path / "ours").mkdir()
    await make_authority(tmp_path / "ours", "ours")
    return tmp_path / "ours"


@asynccontextmanager
async def bus_with_tls(place: Path, certificates: Path, secrets: SecretFiles) -> AsyncIterator[str]:
    """A nats-server that speaks only TLS; its address."""
    (place / "nats.conf").write_text(
        f'listen: "127.0.0.1:-1"\nports_file_dir: "{place}"\njetstream {{ store_dir: "{place}/store" }}\n'
        f'tls {{ cert_file: "{certificates}/server.pem", key_file: "{certificates}/server.key" }}\n'
        + secrets.users_conf.read_text()
    )
    running = await process.start(
        process.dying_with_parent([_installed(), "--config", str(place / "nats.conf")], signal_name="TERM"), cwd=place
    )
    try:
        async with asyncio.timeout(BOUND_SECONDS):
            while True:
                with contextlib.suppress(OSError, msgspec.DecodeError, IndexError):
                    listed = (place / f"nats-server_{running.pid}.ports").read_bytes()
                    port = urlsplit(msgspec.json.decode(listed, type=PortsFile).nats[0]).port
                    break
                await asyncio.sleep(0.02)
        yield f"tls://localhost:{port}"
    finally:
        await running.end(grace_seconds=5)


async def test_the_bus_over_tls_with_keys_and_not_for_another_authority(
    tmp_path: Path, ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = SecretFiles(tmp_path / "secrets")
    secrets.make([StoreName("main")], superuser=False)
    operator, provision = (BusUser(name, secrets.key(name)) for name in ("operator", "provision"))
    async with bus_with_tls(tmp_path, ours, secrets) as url:
        monkeypatch.setenv("SSL_CERT_FILE", str(ours / "ca.pem"))
        bus = await Bus.connect(url, provision)
        await bus.provision(["main"], 30)
        await bus.close()
        bus = await Bus.connect(url, operator)
        assert await bus.publish_trigger(Trigger()) == 1
        await bus.close()
        (tmp_path / "other").mkdir()
        await make_authority(tmp_path / "other", "other")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "other" / "ca.pem"))
        with pytest.raises(BusUnavailable):
            await Bus.connect(url, operator, timeout_seconds=2)


async def test_an_address_that_says_tls_never_goes_on_in_the_clear(tmp_path: Path) -> None:
    async with guarded_bus(tmp_path) as guarded:
        with pytest.raises(BusForbids, match="speaks no TLS") as refused:
            await Bus.connect(guarded.url.replace("nats://", "tls://"), guarded.user("operator"))
        assert "in between" in refused.value.hint


class Front:
    """What speaks TLS for a Postgres that cannot: the embedded one was built without it."""

    def __init__(self, socket: str, certificates: Path) -> None:
        self._socket = socket
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates / "server.pem", certificates / "server.key")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            assert (await reader.readexactly(8))[4:] == b"\x04\xd2\x16\x2f"  # SSLRequest
            writer.write(b"S")
            await writer.drain()
            await writer.start_tls(self._context)
            behind, to_behind = await asyncio.open_unix_connection(self._socket)
            await asyncio.gather(_pump(reader, to_behind), _pump(behind, writer))


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await source.read(65536):
            target.write(chunk)
            await target.drain()
    target.close()


async def test_the_log_over_tls_and_not_for_another_name_or_authority(
    tmp_path: Path, ours: Path, database: Database
) -> None:
    account, place = database.worker_dsn.partition("//")[2].split("@/")
    name, _, where = place.partition("?")
    folder = dict(pair.split("=") for pair in where.split("&"))["host"]
    server = await asyncio.start_server(Front(f"{folder}/.s.PGSQL.5432", ours).serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        checked = f"sslmode=verify-full&sslrootcert={ours / 'ca.pem'}"
        log = EventLog(f"postgresql://{account}@localhost:{port}/{name}?{checked}")
        await log.append("host-a", None, alerts(2))
        assert await log.head() == 2
        await log.close()
        (tmp_path / "other").mkdir()
        await make_authority(tmp_path / "other", "other")
        other = f"sslmode=verify-full&sslrootcert={tmp_path / 'other' / 'ca.pem'}"
        for wrong in (f"localhost:{port}/{name}?{other}", f"127.0.0.1:{port}/{name}?{checked}"):
            log = EventLog(f"postgresql://{account}@{wrong}")
            with pytest.raises(LogUnavailable, match="certificate"):
                await log.head()
            await log.close()
    finally:
        server.close()
