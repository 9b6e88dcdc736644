"""Mistakes in a configuration are told in one line, whichever command reads it, and nothing is trained."""

import sys
from pathlib import Path

import pytest
from small_log import clean, write

from model import train
from model.data import __main__ as command
from model.data.toml_file import ConfigError
from model.training.config import read_config

FIELD = '{ name = "price", kind = "numeric" }'
GOOD = f'dataset = "event_log"\n[features]\nfields = [\n  {FIELD},\n]\n'

MISTAKES = {
    "a key of a field": (
        GOOD.replace("kind", "knd"),
        "my.toml:4: features.fields.0.knd: unknown key; did you mean `kind`? (and 1 more)",
    ),
    "an unknown key of a field": (
        GOOD.replace("kind =", 'scop = "user", kind ='),
        "my.toml:4: features.fields.0.scop: unknown key; did you mean `scope`?",
    ),
    "an unknown key at the top": (
        "evnt_log = 'x'\n" + GOOD,
        "my.toml:1: evnt_log: unknown key; did you mean `event_log`?",
    ),
    "an unknown key like no other": (
        GOOD + "[policy.reasoner]\ndepth = 3\n",
        "my.toml:7: policy.reasoner.depth: unknown key; there are kind, budget, taught, gate, gate_quantile, "
        "temperature, initial_step",
    ),
    "a kind": (
        GOOD.replace("numeric", "numerical"),
        "my.toml:4: features.fields.0.kind: Input should be 'numeric', 'categorical', 'multivalued', "
        "'vector', "
        "'text_length', 'age', 'popularity', 'first_seen' or 'mean_value'; did you mean `numeric`?",
    ),
    "a scope": (
        GOOD.replace("kind =", 'scope = "items", kind ='),
        "my.toml:4: features.fields.0.scope: Input should be 'item', 'user' or 'context'; did you mean "
        "`item`?",
    ),
    "a derived feature of another kind": (
        GOOD.replace('"numeric"', '"categorical", log = true'),
        "my.toml:3: features.fields.0: field 'price': log needs a numeric kind, got 'categorical'",
    ),
    "a vector without a size": (
        GOOD.replace("numeric", "vector"),
        "my.toml:3: features.fields.0: field 'price': size goes with kind 'vector', and only with it",
    ),
    "no field of an item": (
        GOOD.replace("kind =", 'scope = "user", kind ='),
        "my.toml:2: features: fields: at least one field of the item is needed",
    ),
    "a table that is none": (
        "policy = 3\n" + GOOD,
        "my.toml:1: policy: Input should be a valid dictionary or instance of PolicyConfig",
    ),
    "a data set": (
        GOOD.replace("event_log", "event_logs"),
        "my.toml:1: dataset: Input should be 'ranklens', 'movietweetings', 'simulator', 'kuairand', "
        "'taobao_ad' "
        "or 'event_log'; did you mean `event_log`?",
    ),
    "no log": (GOOD, "my.toml: dataset 'event_log' needs event_log, the path of the log"),
    "TOML": (
        GOOD.replace("fields = [", "fields ["),
        "my.toml:3: not TOML: Expected '=' after a key in a key/value pair, column 8",
    ),
    "a score that nobody reads": (
        "event_log = 'x'\n" + GOOD + "[policy]\nbase_score = true\n",
        "my.toml: policy.base_score needs the initial score: set features.initial_score",
    ),
}


@pytest.mark.parametrize(("text", "expected"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "my.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as mistake:
        read_config(path)
    assert str(mistake.value) == f"{tmp_path}/{expected}"


def test_a_file_that_is_not_there_is_named_beside_one_that_is(tmp_path: Path) -> None:
    (tmp_path / "ranklens.toml").write_text(GOOD)
    with pytest.raises(ConfigError, match=r"ranklen\.toml: no such file; did you mean `ranklens\.toml`\?"):
        read_config(tmp_path / "ranklen.toml")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_bytes(b'name = "\xe9"\n')
    with pytest.raises(ConfigError, match=r"my\.toml: not UTF-8"):
        read_config(tmp_path / "my.toml")


@pytest.mark.parametrize("mistake", [GOOD.replace("numeric", "numerc"), GOOD.replace("price", "prize")])
def test_nothing_is_trained(tmp_path: Path, mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config, log, run = tmp_path / "my.toml", write(tmp_path / "log.jsonl", clean()), tmp_path / "run"
    config.write_text(mistake)
    asked = ["--config", str(config), "--event-log", str(log)]
    said = []
    for main, more in ((train.main, ["--run", str(run)]), (command.main, [])):
        monkeypatch.setattr(sys, "argv", ["command", *(["check"] if not more else []), *asked, *more])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code not in (0, None)
        said.append(str(ended.value.code))
    assert "did you mean `numeric`?" in said[0] or said[0] == "`prize`: 0 of 40 items; did you mean `price`?"
    assert not list(run.glob("*.pt"))
