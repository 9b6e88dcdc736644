"""Each example does what its first lines say, and is short."""

import importlib
from itertools import pairwise
from pathlib import Path

import pytest

from examples import exploration, news, shop, video
from launch.bundles import bundle_argument

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_read_at_a_glance(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 80
    assert importlib.import_module(f"examples.{path.stem}").main


@pytest.mark.parametrize("name", ["shop", "video", "news", "exploration"])
def test_an_example_says_what_it_needs(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments, told in (
        (["--help"], f"python -m examples.{name} BUNDLE"),
        ([str(tmp_path)], "no bundle"),
    ):
        monkeypatch.setattr("sys.argv", [name, *arguments])
        with pytest.raises(SystemExit):
            bundle_argument(importlib.import_module(f"examples.{name}").__doc__)
        output = capsys.readouterr()
        assert told in " ".join((output.out + output.err).split())


def test_a_shops_rules(bundle: Path) -> None:
    shown = shop.main(bundle)
    products = shop.read_item_ids(bundle)[:24]
    assert shown[0] == products[20]
    assert not set(shown) & set(products[:3])
    assert set(shown[:3]) & set(products[16:20])
    for start in range(4):
        assert len(set(shown) & set(products[start::4])) <= 3
    assert len(shown) == 10


def test_a_page_of_slots(bundle: Path) -> None:
    rows = video.main(bundle)
    assert list(map(len, rows)) == [1, 6, 6, 6]
    flat = [one for row in rows for one in row]
    assert len(set(flat)) == len(flat)
    videos = video.read_item_ids(bundle)
    assert rows[1][1] == videos[5]
    place = {one: index // 4 for index, one in enumerate(videos[:24])}
    for row in rows:
        assert all(place.get(a, a) != place.get(b, b) for a, b in pairwise(row))


def test_news(bundle: Path) -> None:
    shown, known = news.main(bundle), news.read_item_ids(bundle)[:20]
    assert "breaking" in shown[:3]
    assert not set(shown) & set(known[12:])
    assert len(shown) == 8


def test_exploration_is_judged(trained_bundle: Path) -> None:
    found = exploration.main(trained_bundle, lists=150)
    assert found.lists == 150
    assert 0 < found.logged.value < 5
