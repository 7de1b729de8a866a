from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmoe_cli.core.base.archives import pack, unpack
from medmoe_cli.core.base.errors import CheckpointError, ResourceError

NAMES = ("a.json", "b.bin", "deep/c.bin")


def limit(name: str) -> int | None:
    return 1 << 20 if name in NAMES else None


def files(folder: Path, contents: dict[str, bytes]) -> dict[str, Path]:
    for name, data in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return {name: folder / name for name in contents}


@settings(max_examples=25)
@given(contents=st.dictionaries(st.sampled_from(NAMES), st.binary(max_size=4000), min_size=1))
def test_what_is_packed_comes_out_of_a_zip_and_of_a_folder(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, bytes]
) -> None:
    root = tmp_path_factory.mktemp("archives")
    made = files(root / "in", contents)
    archive = pack(root / "x.zip", made)
    for source in (archive, root / "in"):
        target = root / f"out-{source.name}"
        target.mkdir()
        assert unpack(source, target, limit_of=limit) == tuple(sorted(contents))
        assert {name: (target / name).read_bytes() for name in contents} == contents
        assert len([path for path in target.rglob("*") if path.is_file()]) == len(contents)
    first = archive.read_bytes()
    for path in made.values():
        path.touch()
    assert pack(root / "x.zip", made).read_bytes() == first  # equal content, equal bytes: no times inside


def test_deflated_archives_of_other_programs_are_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("a.json", b"{}" * 1000)
        archive.writestr("deep/c.bin", bytes(range(256)) * 40)
    (tmp_path / "out").mkdir()
    assert unpack(tmp_path / "x.zip", tmp_path / "out", limit_of=limit) == ("a.json", "deep/c.bin")
    assert (tmp_path / "out" / "deep" / "c.bin").read_bytes() == bytes(range(256)) * 40


def test_what_is_too_large_for_the_disk_is_said_before_a_byte_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(tmp_path / "x.zip", files(tmp_path / "in", {"b.bin": b"x" * 5000}))
    (tmp_path / "out").mkdir()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=4999))
    with pytest.raises(ResourceError, match="no space left"):
        unpack(archive, tmp_path / "out", limit_of=limit)
    assert not list((tmp_path / "out").iterdir())


def test_every_reason_is_named_and_many_are_counted(tmp_path: Path) -> None:
    made = files(tmp_path / "in", {f"x{number}.py": b"" for number in range(7)})
    with pytest.raises(CheckpointError) as caught:
        unpack(pack(tmp_path / "x.zip", made), tmp_path, limit_of=limit)
    assert "'x0.py' does not belong" in caught.value.why
    assert caught.value.why.endswith("and 4 more")


def test_an_archive_with_a_comment_and_one_behind_other_bytes_are_no_way_around(tmp_path: Path) -> None:
    made = files(tmp_path / "in", {"a.json": b"{}", "b.bin": b"123"})
    whole = pack(tmp_path / "x.zip", made).read_bytes()
    (tmp_path / "before.zip").write_bytes(b"#!/bin/sh\nexit 1\n" + whole)
    with zipfile.ZipFile(tmp_path / "x.zip", "a") as archive:
        archive.comment = b"PK\x05\x06" + b"\0" * 18  # looks like another, empty directory
    for name in ("x.zip", "before.zip"):
        (tmp_path / name[:-4]).mkdir()
        try:
            assert unpack(tmp_path / name, tmp_path / name[:-4], limit_of=limit) == ("a.json", "b.bin")
        except CheckpointError:
            assert not list((tmp_path / name[:-4]).iterdir())
