"""Lists of a small simulated world, and the features of its training users."""

import pytest
from small_run import small_config

from model.data.features import DatasetFeatures
from model.data.open_dataset import open_dataset
from model.training.config import RunConfig
from model.training.examples import Example, examples


@pytest.fixture(scope="session")
def data() -> tuple[list[Example], list[Example], RunConfig, DatasetFeatures]:
    config = small_config()
    dataset = open_dataset(config)
    features = DatasetFeatures.fit(dataset, config.features)
    training = examples(dataset.slates["train"], features, training=True)
    return training, examples(dataset.slates["validation"], features, training=False), config, features
