"""What a log's fields look like, and that the configuration proposed for it is one."""

import random
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from small_log import START_MS, clean, click, fields, ranking, write

from model.data import __main__ as command
from model.data.check import check
from model.data.open_dataset import read_dataset
from model.data.schema_proposal import Seen, guessed, propose
from model.training.config import read_config

RNG = random.Random(0)
MANY = 200
AUTHORS = [RNG.randrange(9_000_000) for _ in range(60)]

GUESSED: dict[str, tuple[str, list[Any], dict[str, Any] | None]] = {
    "price": ("price", [RNG.uniform(1, 9) for _ in range(MANY)], {"kind": "numeric"}),
    "skewed": ("views", [10**9 if n == 0 else n for n in range(MANY)], {"kind": "numeric", "log": True}),
    "seconds": ("born", [1_500_000_000 + 1000 * n for n in range(MANY)], {"kind": "age"}),
    "milliseconds": ("x", [1_500_000_000_000 + 1000 * n for n in range(MANY)], {"kind": "age"}),
    "long ago": ("release_date", [-1_000_000_000 + 1000 * n for n in range(MANY)], {"kind": "age"}),
    "dates": ("released", [f"20{n % 20:02}-05-0{1 + n % 9}" for n in range(MANY)], {"kind": "age"}),
    "words": ("maker", [RNG.choice("abc") for _ in range(MANY)], {"kind": "categorical"}),
    "flags": ("in_stock", [True, False] * 100, {"kind": "categorical"}),
    "numbers of shops": ("shop_id", [RNG.choice([1001, 2002]) for _ in range(MANY)], {"kind": "categorical"}),
    "zero and one": ("is_new", [0, 1] * 100, {"kind": "categorical"}),
    "few with gaps": ("live", [-124, 0, 1, 1] * 50, {"kind": "categorical"}),
    "stars": ("stars", [1, 2, 3, 4, 5] * 40, {"kind": "numeric"}),
    "authors": ("author", [RNG.choice(AUTHORS) for _ in range(MANY)], {"kind": "categorical"}),
    "codes without a gap": ("cluster", [*range(150), *range(150)], {"kind": "categorical"}),
    "codes by name": ("onehot_feat2", [*range(49), *range(49)], {"kind": "categorical"}),
    "years of life": ("age", [*range(18, 90)] * 3, {"kind": "numeric"}),
    "milliseconds of film": (
        "length_ms",
        [int(RNG.lognormvariate(10, 1)) for _ in range(MANY)],
        {"kind": "numeric", "log": True},
    ),
    "lists": ("genres", [["a", "b"], ["c"]] * 100, {"kind": "multivalued", "max_values": 2}),
    "lists of some sizes": (
        "tags",
        [["a"]] * 190 + [["b", "c", "d"]] * 10,
        {"kind": "multivalued", "max_values": 3},
    ),
    "numbers of tags": ("tags", [[1, 2], [3, 4]] * 100, {"kind": "multivalued", "max_values": 2}),
    "embedding": ("look", [[0.5, 0.25, 1.0]] * MANY, {"kind": "vector", "size": 3}),
    "prose": ("title", [f"The tale of {n} men" for n in range(MANY)], {"kind": "text_length"}),
    "an id": ("uuid", [f"{n:032x}" for n in range(MANY)], None),
    "an id of numbers": ("item_id", list(range(MANY)), None),
    "always the same": ("currency", ["EUR"] * MANY, None),
    "a list in a text": ("genres", [f"{a}, {b}" for a in "abcdefghij" for b in "klmnopqrst"], None),
    "ranges": ("fans", ["[10,100)", "[100,1k)"] * 100, {"kind": "categorical"}),
    "mixed": ("size", [1, "large"] * 100, None),
    "nearly all numbers": ("price", ["n/a", *(n / 7 for n in range(MANY))], {"kind": "numeric"}),
    "objects": ("maker", [{"name": "x"}] * MANY, None),
    "vectors of two sizes": ("look", [[0.5], [0.5, 0.1]] * 100, None),
}


@pytest.mark.parametrize(("name", "values", "expected"), GUESSED.values(), ids=GUESSED)
def test_kinds_are_guessed_from_values(name: str, values: list[Any], expected: dict[str, Any] | None) -> None:
    seen = Seen()
    for value in values:
        seen.add(value)
    keys, why = guessed(name, seen, "user")
    assert keys == expected, why
    assert why


def test_the_proposal_is_a_configuration_for_the_log(tmp_path: Path) -> None:
    rng = random.Random(0)
    events = clean()
    for event in events:
        if event["event"] == "item":
            own = {field["name"]: field["value"] for field in event["fields"]}
            own |= {"price": rng.random(), "maker": rng.choice("xyz"), "look": [rng.random(), rng.random()]}
            own |= {"released": rng.randint(10**9, 2 * 10**9), "sku": f"{rng.random()}"}
            event["fields"] = fields(**own)
    for number in range(60, 100):
        items = [{"id": f"i{n}", "fields": fields(relevancy=rng.random())} for n in range(3)]
        at = START_MS + 60_000 * number
        context = fields(device=rng.choice(["ios", "web"]), session=f"s{number}")
        events += [ranking(f"r{number}", timestamp=at, items=items, fields=context), click(f"r{number}")]
    log = write(tmp_path / "my log.jsonl", events)
    text = propose(log)
    assert "# context `session` is left out" in text
    assert "# item `sku` is left out" in text
    assert "# item `title` is left out: always 'A title'" in text
    (tmp_path / "my.toml").write_text(text)
    config = read_config(tmp_path / "my.toml")
    kinds = {(field.scope, field.name): field.kind for field in config.features.fields}
    assert kinds == {
        ("item", "price"): "numeric",
        ("item", "maker"): "categorical",
        ("item", "genres"): "multivalued",
        ("item", "released"): "age",
        ("item", "look"): "vector",
        ("context", "device"): "categorical",
    }
    assert config.features.initial_score
    report, found = check(read_dataset(config), config.features)
    assert not report.refused, found.refusals


def test_what_tells_the_label_is_proposed_as_a_comment(tmp_path: Path) -> None:
    events = [event for event in clean() if event["event"] == "item"]
    for number in range(60):
        shown = [
            {
                "id": f"i{(number + place) % 40}",
                "fields": fields(watched_ms=900 + number if place == 1 else 7 * place),
            }
            for place in range(5)
        ]
        events.append(ranking(f"r{number}", user=f"u{number % 30}", items=shown))
        events.append(click(f"r{number}", shown[1]["id"], type="play"))
    text = propose(write(tmp_path / "log.jsonl", events))
    assert '  # { name = "watched_ms", kind = "numeric"' in text
    assert "`watched_ms` tells clicked items from others of their list in 100% of pairs" in text
    assert "watched_ms" not in {field["name"] for field in tomllib.loads(text)["features"]["fields"]}


def test_the_command_says_what_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log, out = write(tmp_path / "log.jsonl", clean()), tmp_path / "my [own].toml"
    monkeypatch.setattr(sys, "argv", ["model.data", "schema", str(log), "--out", str(out)])
    command.main()
    assert out.exists()
    assert capsys.readouterr().out.startswith(f"{out}: read it, above all ages, codes")


def test_a_log_without_fields_counts_clicks(tmp_path: Path) -> None:
    events = [{**event, "fields": []} for event in clean() if event["event"] == "ranking"]
    events += [{**event, "type": "buy"} for event in clean() if event["event"] == "interaction"]
    proposed = tomllib.loads(propose(write(tmp_path / "log.jsonl", events)))["features"]
    assert proposed["positive_types"] == ["buy"]
    assert [field["kind"] for field in proposed["fields"]] == ["popularity"]
