"""Archives from anywhere: what is sound comes out whole, what is not is refused before a byte is written."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmoe_cli.core.base.errors import DataError, ResourceError
from medmoe_cli.core.base.release_archives import is_archive, unpack_release
from medmoe_cli.core.imaging.formats import is_junk

ENDINGS = (".zip", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz")
SAFE = st.text("abcXYZ019_-. ä", min_size=1, max_size=12).filter(
    lambda name: name.strip(". ") == name and not is_junk(Path(name))
)


def pack(path: Path, members: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
    else:
        mode = {"tar": "w", "gz": "w:gz", "bz2": "w:bz2", "xz": "w:xz"}[path.name.rpartition(".")[2]]
        with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path


def unpack(source: Path, target: Path) -> dict[str, bytes]:
    target.mkdir(exist_ok=True)
    unpack_release(source, target, is_junk=is_junk)
    return {
        path.relative_to(target).as_posix(): path.read_bytes() for path in sorted(target.rglob("*")) if path.is_file()
    }


@pytest.mark.parametrize("ending", ENDINGS)
@settings(max_examples=8)
@given(
    names=st.lists(st.tuples(SAFE, SAFE), min_size=1, max_size=4, unique_by=lambda pair: pair[0].casefold()),
    data=st.binary(max_size=300),
)
def test_what_was_packed_comes_out(
    tmp_path_factory: pytest.TempPathFactory, ending: str, names: list[tuple[str, str]], data: bytes
) -> None:
    root = tmp_path_factory.mktemp("release")
    members = {f"top/{folder}/{name}": data + folder.encode() for folder, name in names}
    source = pack(root / f"x{ending}", members)
    assert is_archive(source)
    assert unpack(source, root / "out") == members


@pytest.mark.parametrize("ending", ENDINGS)
def test_junk_stays_behind(tmp_path: Path, ending: str) -> None:
    members = {"a/x.nii": b"1", "__MACOSX/a/._x.nii": b"2", "a/._x.nii": b"3", "a/.DS_Store": b"4"}
    assert unpack(pack(tmp_path / f"x{ending}", members), tmp_path / "out") == {"a/x.nii": b"1"}


@pytest.mark.parametrize("ending", [".zip", ".tar.gz"])
@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["../up"], "leads out"),
        (["a/../../up"], "leads out"),
        (["/etc/passwd"], "absolute"),
        (["C:/x"], "absolute"),
        (["a\nb"], "no plain name"),
        (["x" * 300], "no plain name"),
        (["a/x", "a/x"], "several times"),
        (["a/X", "a/x"], "by case alone"),
        (["A/x", "a/y"], "by case alone"),
        (["\u00e9", "e\u0301"], "by case alone"),
        (["a", "a/b"], "a file and a folder"),
    ],
)
def test_names_that_are_not_to_be_trusted(tmp_path: Path, ending: str, names: list[str], why: str) -> None:
    path = tmp_path / f"x{ending}"
    if ending == ".zip":
        with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile's own word on names that come twice
            for name in names:
                archive.writestr(name, b"1")
    else:
        with tarfile.open(path, "w:gz") as archive:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = 1
                archive.addfile(info, io.BytesIO(b"1"))
    refused(path, tmp_path, why)


def refused(path: Path, tmp_path: Path, why: str) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=why) as caught:
        unpack_release(path, tmp_path / "out", is_junk=is_junk)
    assert caught.value.exit_code == 3
    assert not list((tmp_path / "out").iterdir())
    assert not (tmp_path / "up").exists()


def _member(kind: bytes, **values: object) -> Callable[[tarfile.TarFile], None]:
    def add(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo("a")
        info.type = kind
        for name, value in values.items():
            setattr(info, name, value)
        archive.addfile(info)

    return add


@pytest.mark.parametrize(
    ("add", "why"),
    [
        (_member(tarfile.SYMTYPE, linkname="/etc/passwd"), "is a link"),
        (_member(tarfile.LNKTYPE, linkname="b"), "is a link"),
        (_member(tarfile.CHRTYPE, devmajor=1), "no plain file"),
        (_member(tarfile.BLKTYPE, devmajor=1), "no plain file"),
        (_member(tarfile.FIFOTYPE), "no plain file"),
    ],
)
def test_links_and_devices_in_a_tar(tmp_path: Path, add: Callable[[tarfile.TarFile], None], why: str) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        add(archive)
    refused(tmp_path / "x.tar", tmp_path, why)


@pytest.mark.parametrize(("kind", "why"), [(stat.S_IFLNK, "is a link"), (stat.S_IFIFO, "no plain file")])
def test_links_and_devices_in_a_zip(tmp_path: Path, kind: int, why: str) -> None:
    info = zipfile.ZipInfo("a")
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    refused(tmp_path / "x.zip", tmp_path, why)


def test_encrypted_members_say_how_to_unpack(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.zip", {"a": b"1"})
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the local header's flags, and the directory's
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="is encrypted") as caught:
        unpack_release(path, tmp_path / "out", is_junk=is_junk)
    assert "7z x x.zip" in caught.value.fix


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medmoe_cli.core.base import release_archives

    monkeypatch.setattr(release_archives, "_FREE_RATIO_BYTES", 1 << 16)
    for ending in (".zip", ".tar.xz"):
        path = pack(tmp_path / f"x{ending}", {"zeros": bytes(30 << 20)})
        refused(path, tmp_path, "times its")
        (tmp_path / "out").rmdir()
    monkeypatch.setattr(release_archives, "_MAX_MEMBERS", 3)
    refused(pack(tmp_path / "y.zip", {str(number): b"" for number in range(5)}), tmp_path, "lists 5 members")


def test_members_that_share_bytes_are_a_bomb(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.zip", {"a": os.urandom(500), "b": os.urandom(500)})
    data = bytearray(path.read_bytes())
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    data[second + 42 : second + 46] = bytes(4)  # b begins where a does
    path.write_bytes(data)
    refused(path, tmp_path, "overlaps")


def test_no_room_is_said_before_a_byte_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=999))
    for ending in ENDINGS:
        (tmp_path / ending).mkdir()
        with pytest.raises(ResourceError, match="no space left"):
            unpack_release(pack(tmp_path / f"x{ending}", {"a": os.urandom(1000)}), tmp_path / ending, is_junk=is_junk)
        assert not list((tmp_path / ending).iterdir())


@pytest.mark.parametrize("ending", ENDINGS)
def test_damaged_archives_are_errors_of_the_data(tmp_path: Path, ending: str) -> None:
    whole = pack(tmp_path / f"x{ending}", {"a": os.urandom(3000), "b": os.urandom(3000)}).read_bytes()
    for number, data in enumerate((b"", b"no archive", whole[: len(whole) // 2], whole[:700] + whole[760:])):
        path = tmp_path / f"{number}{ending}"
        path.write_bytes(data)
        (tmp_path / f"out{number}").mkdir()
        with pytest.raises(DataError, match=r"not a readable archive|refused to unpack|overlaps"):
            unpack_release(path, tmp_path / f"out{number}", is_junk=is_junk)


def test_parts_of_one_release_share_a_folder_but_no_file(tmp_path: Path) -> None:
    one = pack(tmp_path / "1.zip", {"LICENSE": b"CC0", "img/a": b"1"})
    unpack(one, tmp_path / "out")
    assert set(unpack(pack(tmp_path / "2.zip", {"LICENSE": b"CC0", "seg/a": b"2"}), tmp_path / "out")) == {
        "LICENSE", "img/a", "seg/a",
    }  # fmt: skip
    with pytest.raises(DataError, match="another one from another archive"):
        unpack_release(pack(tmp_path / "3.zip", {"img/a": b"3"}), tmp_path / "out", is_junk=is_junk)
