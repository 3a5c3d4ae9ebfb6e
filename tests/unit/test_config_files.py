"""The files of the settings: the syntax of .env, broken files, and the samples that people copy."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config import BusTiming, Settings, load_settings
from shared.config.building import KNOWN_VARIABLES
from shared.config.dotenv import parse_dotenv, parse_line
from shared.config.hosts import HOST_KEYS
from shared.config.problems import Problems, Unallowed
from shared.domain.errors import SettingsRefused

SAMPLES = Path(__file__).parents[2] / "deploy" / "samples"
GOOD = sorted(path for path in SAMPLES.iterdir() if path.is_file())
BAD = sorted((SAMPLES / "invalid").iterdir())
ENVIRON = {"BACKUP_ROOT": "/mnt/backup", "BACKUP_DATA": "/data"}


def load_file(path: Path, environ: dict[str, str] | None = None) -> Settings:
    """Load one file; a backup.toml needs the required settings from the environment."""
    if path.suffix == ".toml":
        return load_settings(ENVIRON if environ is None else environ, env_file=None, toml_file=path)
    return load_settings({"HOME": "/root"} if environ is None else environ, env_file=path, toml_file=None)


def problems_of(path: Path, content: bytes, environ: dict[str, str] | None = None) -> tuple[str, ...]:
    path.write_bytes(content)
    with pytest.raises(SettingsRefused) as refused:
        load_file(path, environ)
    return refused.value.problems


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.name)
def test_every_sample_is_accepted(path: Path) -> None:
    settings = load_file(path)
    assert settings.hosts
    assert settings.described()


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.name)
def test_every_invalid_sample_is_refused_for_the_reason_it_shows(path: Path) -> None:
    expected = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# expected: ")
    with pytest.raises(SettingsRefused) as refused:
        load_file(path)
    (problem,) = refused.value.problems
    assert expected in problem


def test_there_are_samples_of_both_kinds() -> None:
    assert {path.suffix for path in GOOD} == {path.suffix for path in BAD} == {".env", ".toml"}


def test_the_full_samples_show_every_setting_and_its_default() -> None:
    full = (SAMPLES / "full.env").read_text(encoding="utf-8")
    assert set(parse_dotenv(full, "full.env", Problems())) == KNOWN_VARIABLES
    toml = (SAMPLES / "backup.toml").read_text(encoding="utf-8")
    assert [key for key in [*HOST_KEYS - {"store"}, *BusTiming.__struct_fields__] if f"\n{key} = " not in toml] == []
    shown, default = load_file(SAMPLES / "full.env"), load_settings(ENVIRON, env_file=None, toml_file=None)
    globals_shown = {key: value for key, value in shown.described().items() if "hosts." not in key}
    expected = default.described() | {"BACKUP_DATA": "/var/lib/backup-manager", "HOSTS": globals_shown["HOSTS"]}
    expected["RESTORE_FOLDERS"] = '["/var/lib/backup-manager/restored"]'
    assert globals_shown == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", None),
        ("   \t", None),
        ("# HOSTS=x", None),
        ("  # x", None),
        ("A=b", ("A", "b")),
        ("A=", ("A", "")),
        ("  A = b  ", ("A", "b")),
        ("export A=b", ("A", "b")),
        ("export\tA=b", ("A", "b")),
        ("exported=b", ("exported", "b")),
        ("A=b=c", ("A", "b=c")),
        ("A=b # c", ("A", "b")),
        ("A=b#c", ("A", "b#c")),
        ("A= # c", ("A", "")),
        ("A=#c", ("A", "")),
        ("A='b # c'", ("A", "b # c")),
        ("A='b' # c", ("A", "b")),
        ('A="b # c"  ', ("A", "b # c")),
        ('A="b\\"c\\\\d\\n"', ("A", 'b"c\\d\\n')),
        ("A='b\\'", ("A", "b\\")),
        ("A=$B", ("A", "$B")),
        ("A=b'c", ("A", "b'c")),
        ("A=\u00e9\u2028x", ("A", "\u00e9\u2028x")),
    ],
)
def test_a_line_of_env_means(line: str, expected: tuple[str, str] | None) -> None:
    assert parse_line(line) == expected


@pytest.mark.parametrize(
    "line",
    ["A", "A b", "=b", "1A=b", "A-B=c", "export", "A.B=c", "é=1", 'A="b', "A='b", "A='b'c", 'A="b\\"',
     'A="b" "c"', "A='b'# c", "export export A=b", "A\u00a0=b", "A: b"],
)  # fmt: skip
def test_a_malformed_line_of_env_is_refused(line: str) -> None:
    with pytest.raises(Unallowed):
        parse_line(line)


@given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True), st.text(st.characters(exclude_characters="\n\r")))
def test_a_quoted_value_comes_back_as_it_was(key: str, value: str) -> None:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    assert parse_line(f'{key}="{escaped}"') == (key, value)
    if "'" not in value:
        assert parse_line(f"export {key} = '{value}' # comment") == (key, value)


@given(st.text())
def test_any_text_as_env_is_parsed_or_refused(text: str) -> None:
    parse_dotenv(text, ".env", Problems())


def test_problems_of_env_name_the_line_and_never_quote_a_malformed_one(tmp_path: Path) -> None:
    problems = problems_of(
        tmp_path / ".env",
        b"# x\r\nBACKUP_ROOT=/mnt\r\n\r\nPOSTGRES_DSN postgres://u:hunter2@h\r\nTAR_RETENTION_DAYS='0'\r\n"
        b"POSTGRES_DNS=postgres://u:hunter2@h\r\nNATS_URL='hunter2\r\nTZ=UTC\r\nTZ=UTC\r\nTZ=UTC\r\n"
        b"POSTGRES_ADMIN_DSN=password=hunter2\r\n",
    )
    text = "\n".join(problems)
    assert "hunter2" not in text
    assert ".env line 4: this line must be KEY=VALUE" in text
    assert ".env line 5: TAR_RETENTION_DAYS is '0', but must be a whole number from 1 to 3660." in text
    assert ".env line 6: POSTGRES_DNS is not a setting; did you mean POSTGRES_DSN?" in text
    assert ".env line 7: the value of NATS_URL must end with the quote" in text
    assert ".env line 9: TZ was already given on line 8" in text
    assert ".env line 10: TZ was already given on line 8" in text
    assert ".env line 11: POSTGRES_ADMIN_DSN (not shown, it may hold a password) must be empty or a URL" in text
    assert len(problems) == 7


def test_an_empty_value_in_env_is_refused_where_it_means_nothing(tmp_path: Path) -> None:
    problems = problems_of(tmp_path / ".env", b"BACKUP_ROOT=\nTZ=\nHOSTS=\nNATS_URL=\nTAR_RETENTION_DAYS=\n")
    refused = {"BACKUP_ROOT": 1, "TZ": 2, "TAR_RETENTION_DAYS": 5}
    starts = [f".env line {line}: {key} is '', but must be " for key, line in refused.items()]
    assert len(problems) == len(starts)
    assert all(any(problem.startswith(start) for problem in problems) for start in starts)


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("BACKUP_ROOT=/a\nTZ=Europe/Berlin\nTAR_RETENTION_DAYS=7\nHOSTS=a\n", encoding="utf-8")
    settings = load_file(path, {"BACKUP_ROOT": "/b", "TZ": "", "HOSTS": "b", "HOME": "/root"})
    assert (str(settings.backup_root), settings.tz, settings.tar_retention_days) == ("/b", "Europe/Berlin", 7)
    assert [host.name for host in settings.hosts] == ["b"]


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(b"\xef\xbb\xbfBACKUP_ROOT=/a\n")
    assert load_file(path).backup_root == Path("/a")


@pytest.mark.parametrize("name", [".env", "backup.toml"])
def test_a_file_that_cannot_be_read_is_a_problem(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    for said in ("No such file", "Is a directory"):
        with pytest.raises(SettingsRefused) as refused:
            load_file(path, ENVIRON)
        (problem,) = refused.value.problems
        assert problem.startswith(f"{name}: the file ")
        assert said in problem
        path.mkdir(exist_ok=True)
    path.rmdir()
    assert "must be UTF-8, but byte 3 is not" in problems_of(path, b"# \xff\xfe", ENVIRON)[0]
    assert "must not be larger than" in problems_of(path, b"#" * 1_048_577, ENVIRON)[0]


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        (b"[hosts", "must be TOML"),
        (b"[bus]\nretry_seconds = 1\nretry_seconds = 2\n", "line 3"),
        (b"x = " + b"9" * 5000, "must be TOML"),
        (b"x = " + b"[" * 100_000, "nested too deeply"),
        (b"a = 1\x00", "must be TOML"),
    ],
)
def test_a_broken_toml_is_one_problem(toml: bytes, said: str, tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path / "backup.toml", toml, ENVIRON)
    assert said in problem


def test_the_data_directory_depends_on_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def data_dir(uid: int, home: str) -> Path:
        monkeypatch.setattr("os.geteuid", lambda: uid)
        return load_settings({"BACKUP_ROOT": "/b", "HOME": home}, env_file=None, toml_file=None).data_dir

    assert data_dir(0, "/root") == Path("/var/lib/backup-manager")
    assert data_dir(1000, "/home/me") == Path("/home/me/.local/share/backup-manager")
    with pytest.raises(SettingsRefused, match="BACKUP_DATA is not given"):
        data_dir(1000, "/home/my name")
