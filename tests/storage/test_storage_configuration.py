"""Which URL opens which backend, and what is said about the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from agenthub.core.errors import SettingsError
from agenthub.storage.configuration import parse_database_url, postgresql_target, sqlite_path
from agenthub.storage.filesystem import filesystem_type, refuse_volatile


@pytest.mark.parametrize(
    ("url", "backend"),
    [
        ("memory://", "memory"),
        ("sqlite:///data/agenthub.db", "sqlite"),
        ("sqlite:////var/lib/agenthub.db", "sqlite"),
        ("postgres://u:p@h/db", "postgresql"),
        ("postgresql://u:p@h:5432/db", "postgresql"),
        ("postgresql+psycopg2://h/db", "postgresql"),
        ("POSTGRESQL://h/db", "postgresql"),
    ],
)
def test_schemes(url: str, backend: str) -> None:
    assert parse_database_url(url).backend == backend


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("", "not a URL"),
        ("agenthub.db", "not a URL"),
        ("mysql://h/db", "unknown scheme mysql"),
        ("bigquery://p/d", "GOOGLE_CLOUD_PROJECT"),
        ("postgresql+asyncpg://h/db", "asyncpg"),
        ("sqlite://", "memory://"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite://data/agenthub.db", "absolute"),
        ("sqlite:///a.db?mode=ro", "no parameters"),
        ("postgresql://u:p:w@h:port/db", "percent-encode"),
        ("postgresql://h:70000/db", "port"),
        ("postgresql://h/db?sslmode", "no value"),
    ],
)
def test_what_is_refused_says_what_to_write(url: str, remedy: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        parse_database_url(url)
    assert remedy in refusal.value.message
    assert "DATABASE_URL" in refusal.value.message


def test_the_password_is_not_shown() -> None:
    settings = parse_database_url("postgresql://user:s3cret@h1:5432,h2/db?sslmode=require&password=s3cret")
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in repr(postgresql_target(settings.url))
    assert settings.describe() == "postgresql://h1:5432,h2/db"


def test_the_parts_of_a_postgresql_url() -> None:
    target = postgresql_target(
        "postgresql://us%40er:p%2Fw%40@h1:5432,[::1]:5433,h3/my%20db?target_session_attrs=read-write&options=-c%20x%3D1"
    )
    assert (target.user, target.password, target.database) == ("us@er", "p/w@", "my db")
    assert target.hosts == ("h1", "::1", "h3")
    assert target.ports == ("5432", "5433", "")
    assert target.parameters == (("target_session_attrs", "read-write"), ("options", "-c x=1"))
    socket = postgresql_target("postgresql://app@%2Ftmp%2Fpg/db")
    assert (socket.hosts, socket.ports) == (("/tmp/pg",), ("",))
    assert postgresql_target("postgresql:///db").hosts == ()


def test_sqlite_paths() -> None:
    assert sqlite_path("sqlite:////var/a%20b.db") == Path("/var/a b.db")
    assert sqlite_path("sqlite:///data/x.db") == Path.cwd() / "data/x.db"


MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:20 / /run rw - tmpfs tmpfs rw
24 22 0:21 / /mnt/bucket rw - fuse.gcsfuse bucket rw
25 22 0:22 / /mnt/share rw - nfs4 server:/share rw
26 25 0:23 / /mnt/share/local\\040disk rw - xfs /dev/vdb rw
27 22 0:24 / /srv rw master:1 - overlay overlay rw
28 22 0:25 / /win rw - 9p drive rw
29 22 0:26 / /over rw - ext4 /dev/vdc rw
30 22 0:27 / /over rw - tmpfs tmpfs rw
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTS)
    return path


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/data/x.db", "ext4"),
        ("/running/x.db", "ext4"),
        ("/run/x.db", "tmpfs"),
        ("/mnt/bucket/deep/x.db", "fuse.gcsfuse"),
        ("/mnt/share/x.db", "nfs4"),
        ("/mnt/share/local disk/x.db", "xfs"),
        ("/srv/x.db", "overlay"),
        ("/over/x.db", "tmpfs"),
    ],
)
def test_the_file_system_of_a_path(mounts: Path, path: str, kind: str) -> None:
    assert filesystem_type(Path(path), mounts) == kind


@pytest.mark.parametrize("path", ["/run/x.db", "/mnt/bucket/x.db", "/mnt/share/x.db", "/win/x.db", "/over/x.db"])
def test_sqlite_is_refused_where_it_would_be_lost(mounts: Path, path: str) -> None:
    with pytest.raises(SettingsError, match="AGENTHUB_ACCEPT_EPHEMERAL_SQLITE"):
        refuse_volatile(Path(path), on_cloud_run=False, accept_loss=False, mounts=mounts)
    refuse_volatile(Path(path), on_cloud_run=False, accept_loss=True, mounts=mounts)


@pytest.mark.parametrize("path", ["/data/x.db", "/srv/x.db", "/mnt/share/local disk/x.db"])
def test_sqlite_is_accepted_on_local_disks_but_not_on_cloud_run(mounts: Path, path: str) -> None:
    refuse_volatile(Path(path), on_cloud_run=False, accept_loss=False, mounts=mounts)
    with pytest.raises(SettingsError, match="Cloud Run"):
        refuse_volatile(Path(path), on_cloud_run=True, accept_loss=False, mounts=mounts)
    refuse_volatile(Path(path), on_cloud_run=True, accept_loss=True, mounts=mounts)


def test_a_machine_that_lists_no_mounts_is_trusted(tmp_path: Path) -> None:
    assert filesystem_type(tmp_path, tmp_path / "none") is None
    refuse_volatile(tmp_path / "x.db", on_cloud_run=False, accept_loss=False, mounts=tmp_path / "none")


def test_this_machines_memory_file_system_is_seen() -> None:
    assert filesystem_type(Path("/dev/shm/x.db")) == "tmpfs"


def test_several_servers_are_described_without_their_password() -> None:
    assert parse_database_url("postgresql://u:p@h1:5432,[::1]:5433/db?password=x").describe() == "postgresql://h1:5432,[::1]:5433/db"
