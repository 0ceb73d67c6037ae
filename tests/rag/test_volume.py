from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from agenthub.core import failpoints
from agenthub.core.errors import CorruptFile, MissingFile, VolumeFull, VolumeUnavailable
from agenthub.core.ids import new_id, random_name
from agenthub.rag.mounts import file_system_kind, may_map
from agenthub.rag.references import FileRef
from agenthub.rag.volume import Volume
from tests.rag.fault_volume import Fault, FaultDisk, fault_volume

KB = "01m889fbjwjt2brbx9wd41v3c7"
RANDOM = "dmjyr478csyxjm7zac6gthqtjx"
DATA = os.urandom(40_000)


def original() -> str:
    return f"originals/{random_name()}"


@pytest.fixture(params=["always", "never"])
def volume(request: pytest.FixtureRequest, tmp_path: Path) -> Volume:
    return Volume(tmp_path / "volume", mapping=request.param)


def test_what_was_put_is_read(volume: Volume) -> None:
    ref = volume.put_new(KB, original(), DATA)
    assert (ref.length_bytes, ref.sha256) == (len(DATA), hashlib.sha256(DATA).hexdigest())
    assert volume.read(KB, ref) == DATA
    assert volume.load(KB, ref).tobytes() == DATA


def test_an_empty_file_is_a_file(volume: Volume) -> None:
    ref = volume.put_new(KB, original(), b"")
    assert volume.read(KB, ref) == b""
    assert volume.load(KB, ref).nbytes == 0


def test_a_name_is_never_written_twice(volume: Volume) -> None:
    ref = volume.put_new(KB, original(), DATA)
    with pytest.raises(VolumeUnavailable):
        volume.put_new(KB, ref.name, b"other")
    assert volume.read(KB, ref) == DATA


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x",
        "../x",
        "originals/..",
        f"originals/{RANDOM}/../x",
        f"/originals/{RANDOM}",
        f"originals/{RANDOM}\n",
        f"originals/{RANDOM}\0",
        f"originals\\{RANDOM}",
        f"originals/{RANDOM.upper()}A",
        f"manifests/1-{RANDOM}.json.tmp",
        f"manifests/..-{RANDOM}.json",
        f"segments/{RANDOM}/other.bin",
        f"segments/../{RANDOM}",
        "originals/" + "a" * 300,
        "originals/．．/" + RANDOM,
    ],
)
def test_hostile_names_touch_nothing(tmp_path: Path, name: str) -> None:
    volume = Volume(tmp_path / "volume")
    with pytest.raises(ValueError, match="not a file"):
        volume.put_new(KB, name, DATA)
    with pytest.raises(CorruptFile):
        volume.read(KB, FileRef(name, 1, "0" * 64))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kb_id", ["", "..", "a", KB + "/..", KB.upper(), KB[:-1] + "\n", f"{KB[:-3]}%2e", "./" + KB[2:]])
def test_hostile_knowledge_base_ids_touch_nothing(tmp_path: Path, kb_id: str) -> None:
    with pytest.raises(ValueError, match="not a file"):
        Volume(tmp_path / "volume").put_new(kb_id, original(), DATA)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("depth", ["base", "kind", "file"])
def test_links_are_refused(volume: Volume, tmp_path: Path, depth: str) -> None:
    """A link below the root leads nowhere: neither read nor written through."""
    ref = volume.put_new(KB, original(), DATA)
    base = volume.root / KB
    link = {"base": base, "kind": base / "originals", "file": volume.root / KB / ref.name}[depth]
    outside = tmp_path / "outside"
    link.rename(outside)
    link.symlink_to(outside)
    before = sorted(outside.rglob("*"))
    with pytest.raises(CorruptFile):
        volume.read(KB, ref)
    if depth != "file":
        with pytest.raises(VolumeUnavailable):
            volume.put_new(KB, original(), DATA)
    volume.discard(KB, [ref])
    assert sorted(outside.rglob("*")) == before
    assert outside.exists()


def test_the_root_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    volume = Volume(tmp_path / "link")
    assert volume.read(KB, volume.put_new(KB, original(), DATA)) == DATA


def test_damage_is_never_read(volume: Volume) -> None:
    ref = volume.put_new(KB, original(), DATA)
    path = volume.root / KB / ref.name
    flipped = bytearray(DATA)
    flipped[12_345] ^= 4
    for damaged in (b"", DATA[: len(DATA) // 2], DATA + b"\0", bytes(flipped), bytes(len(DATA))):
        path.write_bytes(damaged)
        for read in (volume.read, volume.load):
            with pytest.raises(CorruptFile):
                read(KB, ref)
    path.write_bytes(DATA)
    assert volume.read(KB, ref) == DATA
    path.unlink()
    with pytest.raises(MissingFile):
        volume.read(KB, ref)


def test_a_foreign_file_under_the_name_is_not_read(volume: Volume) -> None:
    ref = volume.put_new(KB, original(), DATA)
    other = volume.put_new(new_id(), original(), DATA[::-1])
    with pytest.raises(CorruptFile):
        volume.read(KB, replace(ref, sha256=other.sha256))


def test_discard_removes_files_and_the_empty_folder(volume: Volume) -> None:
    segment = random_name()
    refs = [volume.put_new(KB, f"segments/{segment}/{name}", DATA) for name in ("segment.json", "vectors.f32")]
    volume.discard(KB, [*refs, FileRef(f"segments/{segment}/index.faiss", 0, "0" * 64)])
    assert not (volume.root / KB / "segments" / segment).exists()
    volume.discard(KB, refs)


def test_a_nearly_full_volume_keeps_a_reserve(tmp_path: Path) -> None:
    class Small(FaultDisk):
        def free(self, descriptor: int) -> tuple[int, int]:
            return 100_000, 1_000_000

    volume = fault_volume(tmp_path, Small(), free_space_floor_bytes=60_000)
    volume.put_new(KB, original(), bytes(50_000))
    with pytest.raises(VolumeFull):
        volume.put_new(KB, original(), bytes(50_001))
    assert len(list((tmp_path / KB / "originals").iterdir())) == 1


def test_a_file_system_that_does_not_know_its_size_is_written(tmp_path: Path) -> None:
    class Bucket(FaultDisk):
        def free(self, descriptor: int) -> tuple[int, int]:
            return 0, 0

    assert fault_volume(tmp_path, Bucket()).put_new(KB, original(), DATA).length_bytes == len(DATA)


@pytest.mark.parametrize("fault", ["EIO", "ENOSPC", "ESTALE"])
def test_every_failing_call_of_put_new_is_reported_and_leaves_no_name(tmp_path: Path, fault: Fault) -> None:
    """At each call in turn: an error of the engine each time, the next put works, no half file stays."""
    steps = _length(tmp_path / "count")
    assert steps >= 15
    for at in range(1, steps + 1):
        disk = FaultDisk(fault, at)
        volume = fault_volume(tmp_path / str(at), disk)
        ref = _put_or_none(volume, fault)
        disk.at = 0
        assert (ref is None) == (disk.calls[at - 1 : at] not in (["close_folder"], []))
        if ref is None:
            assert [path for path in (tmp_path / str(at)).rglob("*") if path.is_file()] == []
        else:
            assert volume.read(KB, ref) == DATA
        assert volume.read(KB, volume.put_new(KB, original(), DATA)) == DATA


def _put_or_none(volume: Volume, fault: Fault) -> FileRef | None:
    """The put file; None when it failed, then with the fitting error."""
    fitting = VolumeFull if fault == "ENOSPC" else VolumeUnavailable
    try:
        return volume.put_new(KB, original(), DATA)
    except fitting:
        return None


def _length(root: Path) -> int:
    """How many calls a put makes on a new volume."""
    disk = FaultDisk()
    fault_volume(root / random_name(), disk).put_new(KB, original(), DATA)
    return len(disk.calls)


def test_short_writes_and_reads_are_completed(tmp_path: Path) -> None:
    class Reluctant(FaultDisk):
        def write(self, descriptor: int, data: memoryview) -> int:
            return super().write(descriptor, data[:777])

        def read_into(self, descriptor: int, buffer: memoryview) -> int:
            return super().read_into(descriptor, buffer[:555])

    volume = fault_volume(tmp_path, Reluctant())
    assert volume.read(KB, volume.put_new(KB, original(), DATA)) == DATA


def test_bytes_that_arrive_changed_are_not_acknowledged(tmp_path: Path) -> None:
    class Careless(FaultDisk):
        def write(self, descriptor: int, data: memoryview) -> int:
            return super().write(descriptor, memoryview(bytes(data[:-1]) + b"?"))

    with pytest.raises(CorruptFile):
        fault_volume(tmp_path, Careless()).put_new(KB, original(), DATA)
    assert list((tmp_path / KB / "originals").iterdir()) == []


def test_a_put_syncs_the_file_then_every_new_folder_before_it_returns(tmp_path: Path) -> None:
    disk = FaultDisk()
    fault_volume(tmp_path / "volume", disk).put_new(KB, f"segments/{random_name()}/vectors.f32", DATA)
    assert disk.unsynced == set()
    assert disk.unlinked == set()


def test_a_folder_another_process_made_is_synced_too(tmp_path: Path) -> None:
    """Whoever made it may have died before syncing its entry."""
    Volume(tmp_path).put_new(KB, original(), DATA)
    disk = FaultDisk()
    disk.unlinked = {str(tmp_path / KB), str(tmp_path / KB / "originals")}
    fault_volume(tmp_path, disk).put_new(KB, original(), DATA)
    assert disk.unlinked == set()


def test_the_self_test_leaves_nothing_and_heals(tmp_path: Path) -> None:
    volume = Volume(tmp_path / "volume")
    report = volume.self_test()
    assert report.latency_seconds > 0
    assert report.total_bytes >= report.free_bytes > 0
    assert list((tmp_path / "volume" / "probe").iterdir()) == []
    (tmp_path / "volume" / "probe").rmdir()
    (tmp_path / "volume").rmdir()
    volume.self_test()


def test_the_self_test_reports_a_volume_that_fails(tmp_path: Path) -> None:
    (tmp_path / "volume").write_text("a file, not a folder")
    with pytest.raises(VolumeUnavailable):
        Volume(tmp_path / "volume").self_test()


def test_failpoints_stand_at_every_step(tmp_path: Path) -> None:
    trail = failpoints.record()
    Volume(tmp_path).put_new(KB, original(), DATA)
    steps = ["create", "write", "sync_file", "close", "sync_folder", "read_back", "written"]
    assert [name for name in trail if name.removeprefix("volume.") in steps] == [f"volume.{step}" for step in steps]
    for number in range(1, len(trail)):
        failpoints.arm(f"all=error@{number}")
        with pytest.raises(VolumeUnavailable):
            Volume(tmp_path).put_new(KB, original(), DATA)
    failpoints.arm("")
    failpoints._plan.trail = None


MOUNTS = """\
22 1 8:1 / / rw - ext4 /dev/root rw
30 22 0:40 / /mnt/my\\040bucket rw shared:5 - fuse.gcsfuse bucket rw
31 22 0:41 / /srv/nfs rw - nfs4 host:/x rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "mapped"),
    [
        ("/mnt/my bucket/volume", "fuse.gcsfuse", False),
        ("/srv/nfs", "nfs4", False),
        ("/srv/nfs2/x", "ext4", True),
        ("/data", "ext4", True),
    ],
)
def test_the_file_system_decides_about_mapping(tmp_path: Path, path: str, kind: str, mapped: bool) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert file_system_kind(Path(path), mounts) == kind
    assert may_map(kind) is mapped


def test_an_untold_file_system_is_not_mapped(tmp_path: Path) -> None:
    assert may_map(file_system_kind(tmp_path, tmp_path / "missing")) is False
