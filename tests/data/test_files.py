"""Files that are replaced in one go, and links that lead nowhere."""

from __future__ import annotations

import os
import stat

import pytest

from gradsim.data import files


def test_a_file_is_replaced_when_it_is_written(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("old")
    with files.replacing(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
        (unfinished,) = (p for p in tmp_path.iterdir() if files.is_unfinished(p))
        assert unfinished.name.startswith("run.json.")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_goes_wrong_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("old")
    writing = files.replacing(path)
    writing.__enter__().write(b"half")
    assert not writing.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_file_and_folder_are_on_the_disk_in_this_order(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace

    def synced(number):
        done.append("folder" if stat.S_ISDIR(os.fstat(number).st_mode) else "file")
        fsync(number)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", lambda *a: (done.append("replace"), replace(*a)))
    with files.replacing(tmp_path / "run.json") as file:
        file.write(b"new")
    assert done == ["file", "replace", "folder"]


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "thesis").write_text("precious")
    link = tmp_path / "run.json"
    link.symlink_to(tmp_path / "thesis")
    with files.replacing(link) as file:
        file.write(b"new")
    assert not link.is_symlink()
    assert (tmp_path / "thesis").read_text() == "precious"


def test_removing_a_link_leaves_what_it_leads_to(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis").write_text("precious")
    for name in ("link", "folder", "file", "nothing"):
        path = tmp_path / name
        if name == "link":
            path.symlink_to(tmp_path / "home")
        elif name == "folder":
            (path / "deep").mkdir(parents=True)
            (path / "deep" / "link").symlink_to(tmp_path / "home")
        elif name == "file":
            path.write_text("")
        files.remove(path)
        assert not os.path.lexists(path)
    assert (tmp_path / "home" / "thesis").read_text() == "precious"


def test_only_plain_files_of_a_sensible_size_are_read(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert files.contents(tmp_path / "file", 5) == b"12345"
    for name, message in [
        ("file", "has 5 bytes"),
        ("pipe", "no plain file"),
        ("link", "symbolic"),
        ("nothing", "No such"),
    ]:
        with pytest.raises(OSError, match=message):
            files.contents(tmp_path / name, 4)
