"""The configuration of a run: what is refused, and what earlier runs left."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from model.data.config import DataConfig
from model.data.toml_file import ConfigError
from model.training.config import RunConfig, read_config, with_changes

CONFIGS = Path(__file__).parents[3] / "configs"
FEATURES = {"fields": [{"name": "price", "kind": "numeric"}]}


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text((CONFIGS / "ranklens.toml").read_text() + "\n[policy]\nwdith = 3\n")
    with pytest.raises(ConfigError, match=r"policy\.wdith: unknown key; did you mean `width`\?"):
        read_config(path)


def test_an_event_log_needs_its_path() -> None:
    given = {"dataset": "event_log", "features": FEATURES}
    with pytest.raises(ValidationError, match="'event_log' needs event_log"):
        DataConfig.model_validate(given)
    assert DataConfig.model_validate({**given, "event_log": "x"}).dataset == "event_log"


def test_a_run_without_a_phase_trains_nothing() -> None:
    nothing = {phase: {"epochs": 0} for phase in ("supervised", "imitation", "reinforcement")}
    with pytest.raises(ValidationError, match="nothing to train"):
        RunConfig.model_validate({"dataset": "ranklens", "features": FEATURES, **nothing})


def test_an_earlier_runs_configuration_is_read_as_it_was_written() -> None:
    """What is said of the data stands at the top of config.json, beside the rest."""
    written = json.loads(read_config(CONFIGS / "simulator.toml").model_dump_json())
    of_the_data = {"dataset", "event_log", "item_records", "feedback_window_s", "directory", "sessions"}
    of_the_data |= {"simulator", "features", "largest_dirt_share"}
    of_the_run = {"name", "seed", "training_lists", "policy_lists", "selection", "weight_averaging"}
    of_the_run |= {"policy", "evaluator", "supervised"}
    phases = {"imitation", "expert_iteration", "reinforcement"}
    assert of_the_data | of_the_run | phases == set(written)
    assert RunConfig.model_validate(written) == read_config(CONFIGS / "simulator.toml")
    del written["expert_iteration"], written["evaluator"]["members"], written["sessions"]  # came later
    earlier = RunConfig.model_validate(written)
    assert (earlier.expert_iteration.rounds, earlier.evaluator.members) == (0, 1)


def test_a_path_on_the_command_line_completes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((CONFIGS / "ranklens.toml").read_text().replace('"ranklens"', '"event_log"', 1))
    with pytest.raises(ConfigError, match="needs event_log"):
        read_config(path)
    config = read_config(path, {"event_log": tmp_path / "log.jsonl", "reinforcement": {"group": 3}})
    assert config.event_log == tmp_path / "log.jsonl"
    assert (config.reinforcement.group, config.reinforcement.epochs) == (3, 1)  # the latter is the file's


def test_changes_are_merged_table_by_table_and_validated() -> None:
    config = read_config(CONFIGS / "ranklens.toml")
    changed = with_changes(config, {"seed": 4, "policy": {"width": 8}})
    assert changed.policy == config.policy.model_copy(update={"width": 8})
    assert (changed.seed, changed.features) == (4, config.features)
    with pytest.raises(ValidationError, match="width"):
        with_changes(config, {"policy": {"width": 0}})
