"""A cache for every user, and names that any library can open."""

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from onceforall.common.places import cache_folder, expanded, plain_path
from onceforall.errors import FileError, Note

ODD = os.fsdecode(b"caf\xe9")


@pytest.fixture(autouse=True)
def a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a home and a temporary directory of the test."""
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))


def test_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == tmp_path / "home" / ".cache" / "onceforall"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert cache_folder() == tmp_path / "other" / "onceforall"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == tmp_path / "home" / ".cache" / "onceforall"


def test_relative_cache_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    with pytest.warns(Note, match="XDG_CACHE_HOME=cache is ignored, because it is not an absolute path"):
        assert cache_folder() == tmp_path / "home" / ".cache" / "onceforall"


@pytest.mark.parametrize("case", ["no home", "home is a file", "cache is a file", "/dev/null", "relative home"])
def test_cache_where_the_usual_one_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    file = tmp_path / "file"
    file.touch()
    if case == "no home":  # an unknown user, as with docker run -u 4242
        monkeypatch.delenv("HOME")
        monkeypatch.setattr("os.path.expanduser", lambda path: path)
    elif case == "cache is a file":
        monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    else:
        monkeypatch.setenv("HOME", {"home is a file": str(file), "relative home": "home"}.get(case, case))
    with pytest.warns(Note, match=r"the cache is at .*, because .*; to choose another place, set XDG_CACHE_HOME"):
        found = cache_folder()
    assert found.parent == tmp_path / "tmp"
    assert stat.S_IMODE(found.stat().st_mode) == 0o700
    with pytest.warns(Note):
        assert cache_folder() == found  # a second time, too


def test_cache_under_the_home_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HOME=/root and another user: looking into it is forbidden, which Path.exists raises before Python 3.14."""
    home = tmp_path / "home"
    real = os.stat

    def closed(path: Any, **options: Any) -> os.stat_result:
        if not isinstance(path, int) and str(path).startswith(f"{home}/"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, **options)

    def touch(path: Path, *args: Any) -> None:
        if path.is_relative_to(home):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        real_touch(path, *args)

    real_touch = Path.touch
    monkeypatch.setattr(os, "stat", closed)
    monkeypatch.setattr(os.path, "exists", lambda path: not str(path).startswith(f"{home}/") and _there(real, path))
    monkeypatch.setattr(os.path, "isdir", lambda path: not str(path).startswith(f"{home}/") and _there(real, path))
    monkeypatch.setattr(Path, "touch", touch)
    for holds in ([], ["a"]):
        with pytest.warns(Note, match=f"because {home}/.cache/onceforall: permission denied"):
            assert cache_folder(holds).parent == tmp_path / "tmp"


def _there(stat_of: Any, path: Any) -> bool:
    try:
        stat_of(path)
    except OSError:
        return False
    return True


def test_folder_of_somebody_else_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/dev/null")
    place = tmp_path / "tmp" / f"onceforall-{os.getuid()}"
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    with pytest.raises(FileError, match="other users can access this folder, or own it: set XDG_CACHE_HOME"):
        cache_folder()
    place.rmdir()
    place.symlink_to(tmp_path / "home")
    with pytest.raises(FileError, match="other users can access this folder, or own it"):
        cache_folder()


def test_what_is_there_need_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "home" / ".cache" / "onceforall"
    (place / "abc").mkdir(parents=True)
    monkeypatch.setattr("onceforall.common.places.writable", lambda path: pytest.fail("written"))
    assert cache_folder(["abc"]) == place


def test_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert expanded("~/a") == tmp_path / "home" / "a"
    assert expanded("~nobody-of-that-name/a") == Path("~nobody-of-that-name/a")


def test_plain_path(tmp_path: Path) -> None:
    folder = tmp_path / ODD
    folder.mkdir()
    (folder / f"{ODD}.txt").write_text("x")
    with plain_path(tmp_path) as same:
        assert same == tmp_path
    for path in (folder, folder / f"{ODD}.txt"):
        with plain_path(path) as plain:
            str(plain).encode()
            assert plain.samefile(path)
            assert plain.suffix == path.suffix
    assert (folder / f"{ODD}.txt").read_text() == "x"
