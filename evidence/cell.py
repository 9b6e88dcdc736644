"""A data set with one seed and user fold, made ready once for all models: lists, features, evaluators,
and the slates their beam search teaches. Kept on disk, shared by the processes of a grid."""

import fcntl
import pickle
from dataclasses import dataclass, replace
from pathlib import Path

from bundle.features.assembly import FeatureAssembler
from evidence.data import DATA, Data
from evidence.grid import Task
from export.provenance import commit
from model.data.features import DatasetFeatures
from model.data.location import locate
from model.data.open_dataset import open_dataset
from model.data.slate import Dataset
from model.encoder import FeatureSizes
from model.evaluator import ClickModel, EvaluatorEnsemble
from model.first_stage import with_scores
from model.sizes import feature_sizes
from model.training.beam import search_teachers
from model.training.config import RunConfig
from model.training.evaluator_report import EvaluatorReport
from model.training.examples import Example, examples
from model.training.fit_evaluator import train_evaluator
from model.training.phase import RunLog
from model.training.selection import Score, held_out_score


@dataclass(frozen=True)
class Cell:
    """Everything a fit starts from. `taught` is empty where the configuration imitates nothing; `commit`
    is the code that made the cell."""

    data: Data
    config: RunConfig
    dataset: Dataset
    features: FeatureAssembler
    train: list[Example]
    held_out: list[Example]
    test: list[Example]
    taught: list[Example]
    evaluator: ClickModel
    reports: list[EvaluatorReport]
    commit: str

    @property
    def one_evaluator(self) -> ClickModel:
        """The first member of an ensemble."""
        if isinstance(self.evaluator, EvaluatorEnsemble):
            return self.evaluator.networks[0]
        return self.evaluator

    @property
    def sizes(self) -> FeatureSizes:
        return feature_sizes(self.features)

    @property
    def score(self) -> Score:
        return held_out_score(self.dataset)


def open_cell(task: Task, root: Path) -> Cell:
    """The cell of a task, made first if it is not there; one process makes it, others wait."""
    directory = root / task.cell_directory
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "cell.pkl"
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        cell = _kept(path)
        if cell is None:
            cell = _make(task, directory)
            partial = path.with_suffix(".partial")
            partial.write_bytes(pickle.dumps(cell))
            partial.rename(path)
            for state in directory.glob("*.state.pt"):
                state.unlink()
    return cell


def _kept(path: Path) -> Cell | None:
    """What an earlier run made; None if there is nothing, or its classes have changed since."""
    try:
        cell: Cell = pickle.loads(path.read_bytes())
    except (FileNotFoundError, AttributeError):
        return None
    return cell


def _make(task: Task, directory: Path) -> Cell:
    data, config = DATA[task.data], task.cell_config
    for file in data.files:
        locate(file)  # refuses other bytes than the fit's identity says
    dataset = data.split(open_dataset(config), task.seed)
    if data.first_stage:
        dataset = with_scores(dataset, config.features, config.seed)
        scored = config.features.model_copy(update={"initial_score": True})
        config = config.model_copy(update={"features": scored})
    features = DatasetFeatures.fit(dataset, config.features)
    train, held_out, test = (
        examples(dataset.slates[split], features, training=split == "train")
        for split in ("train", "validation", "test")
    )
    log, sizes = RunLog(directory), feature_sizes(features.serving)
    evaluator, reports = train_evaluator(config, directory, log, sizes, train, held_out)
    log.close()
    return Cell(
        data=data,
        config=config,
        dataset=replace(dataset, slates={**dataset.slates, "train": ()}, positives=()),  # no fit reads these
        features=features.serving,
        train=train,
        held_out=held_out,
        test=test,
        taught=search_teachers(config, evaluator, train) if config.imitation.epochs else [],
        evaluator=evaluator,
        reports=reports,
        commit=commit(),
    )
