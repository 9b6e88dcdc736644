"""Versions in folders, and the link to the current one."""

from pathlib import Path

import pytest

from bundle.manifest import MANIFEST, BundleError
from bundle.repository import CURRENT, Repository, locate, main, marked, point, publish, versions


def written(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text("{}")
    return folder


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """A model of two versions, the first one current."""
    folder = tmp_path / "bundles" / "films"
    for version in ("1", "2"):
        publish(written(tmp_path / "partial"), folder, version)
    point(folder, "1")
    return folder


def test_a_path_names_a_bundle_or_the_current_one(films: Path, tmp_path: Path) -> None:
    assert locate(films) == films / "1"
    assert locate(films / "2") == films / "2"
    point(films, "2")
    assert locate(films) == films / "2"
    assert versions(films) == ["1", "2"]
    assert not list(films.glob(f".{CURRENT}*"))


def test_a_version_is_never_replaced(films: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="versions are never replaced"):
        publish(written(tmp_path / "again"), films, "2")


@pytest.mark.parametrize("version", ["..", "a/b", CURRENT, ".hidden", ""])
def test_a_version_is_a_folder_of_its_own(films: Path, tmp_path: Path, version: str) -> None:
    partial = written(tmp_path / "another")
    for refused in (
        lambda: publish(partial, films, version),
        lambda: point(films, version),
        lambda: Repository(films.parent).find("films", version),
        lambda: Repository(films.parent).find(version, "1"),
    ):
        with pytest.raises(BundleError, match=r"cannot be a folder's name"):
            refused()


def test_the_current_version_is_there(films: Path) -> None:
    with pytest.raises(BundleError, match="no version 3; there are 1, 2"):
        point(films, "3")
    (films / "1").rename(films / "gone")
    with pytest.raises(BundleError, match="names 1, where no bundle is"):
        locate(films)


def test_a_repository_is_a_bundle_a_model_or_many(films: Path) -> None:
    assert Repository(films / "2").current() == [films / "2"]
    assert Repository(films).current() == [films / "1"]
    written(films.parent / "books" / "7")
    assert Repository(films.parent).current() == [films / "1"], "nothing of books is current"
    point(films.parent / "books", "7")
    assert Repository(films.parent).current() == [films.parent / "books/7", films / "1"]
    assert Repository(films.parent).find("films", "2") == films / "2"
    assert Repository(films).find("films", "2") == films / "2"
    (films.parent / "books" / "7").rename(films.parent / "books" / "8")
    with pytest.raises(BundleError, match="names 7, where no bundle is"):
        Repository(films.parent).current()
    with pytest.raises(BundleError, match="no version 7; there are 1, 2"):
        Repository(films.parent).find("films", "7")
    with pytest.raises(BundleError, match="a bundle by itself"):
        Repository(films / "2").find("films", "1")


def test_the_command_tells_and_moves_the_current_version(
    films: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(films), "--current", "2"])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [["1"], ["2", "(current)"]]
    with pytest.raises(SystemExit, match="no version 9"):
        main([str(films), "--current", "9"])


def test_a_version_tells_the_last_change_of_each_kind() -> None:
    assert marked("7", "h", "0.4") == "7+h0.4"
    assert marked("7+h0.4+c1f", "h", "0.5a2") == "7+c1f+h0.5a2"
    assert marked("7+h0.5a2+c1f", "c", "2e") == "7+h0.5a2+c2e"


def test_a_folder_that_is_no_models_is_told(films: Path, tmp_path: Path) -> None:
    for folder in (tmp_path / "typo", films.parent, films / "1"):
        with pytest.raises(SystemExit, match="no versions of a model are here"):
            main([str(folder)])
