"""The configuration of a run: what is refused, and what earlier runs left."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from model.data.config import DataConfig
from model.training.config import RunConfig, read_config

CONFIGS = Path(__file__).parents[3] / "configs"
FEATURES = {"fields": [{"name": "price", "kind": "numeric"}]}


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text((CONFIGS / "ranklens.toml").read_text() + "\n[policy]\nwdith = 3\n")
    with pytest.raises(ValidationError, match="wdith"):
        read_config(path)


@pytest.mark.parametrize(
    ("dataset", "missing"),
    [("event_log", "event_log"), ("kuairand", "directory"), ("taobao_ad", "directory")],
)
def test_a_dataset_that_is_read_from_a_path_needs_one(dataset: str, missing: str) -> None:
    given = {"dataset": dataset, "features": FEATURES}
    with pytest.raises(ValidationError, match=f"'{dataset}' needs {missing}"):
        DataConfig.model_validate(given)
    assert DataConfig.model_validate({**given, missing: "x"}).dataset == dataset


def test_a_run_without_a_phase_trains_nothing() -> None:
    nothing = {phase: {"epochs": 0} for phase in ("supervised", "imitation", "reinforcement")}
    with pytest.raises(ValidationError, match="nothing to train"):
        RunConfig.model_validate({"dataset": "ranklens", "features": FEATURES, **nothing})


def test_an_earlier_runs_configuration_is_read_as_it_was_written() -> None:
    """What is said of the data stands at the top of config.json, beside the rest."""
    written = json.loads(read_config(CONFIGS / "simulator.toml").model_dump_json())
    of_the_data = {"dataset", "event_log", "directory", "simulator", "features"}
    of_the_run = {"name", "seed", "training_lists", "weight_averaging", "policy", "evaluator", "supervised"}
    assert of_the_data | of_the_run | {"imitation", "reinforcement"} == set(written)
    assert RunConfig.model_validate(written) == read_config(CONFIGS / "simulator.toml")
