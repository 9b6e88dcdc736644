"""Where a process trains, and that what one device has written another goes on with."""

import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch
import torch.distributed as dist
from elsewhere import CUDA, Elsewhere, MixedError, computing_elsewhere
from small_run import fresh_policy
from torch import Tensor, nn

from model import train
from model.evaluator import Evaluator, build_evaluator
from model.sizes import feature_sizes
from model.training import devices, ranks
from model.training.beam import best_slates
from model.training.checkpoint import load_tensors, save_tensors
from model.training.config import with_changes
from model.training.context import ContextReport, compared
from model.training.evaluator_report import EvaluatorReport, report
from model.training.examples import to_batch
from model.training.fit_policy import warm_start
from model.training.grpo import collect, grpo_loss
from model.training.phase import RunLog
from model.training.selection import rewards
from model.training.supervised import label_teacher, supervised_loss

T = TypeVar("T")


@pytest.mark.parametrize(
    ("asked", "gpus", "expected"),
    [("auto", 0, "cpu"), ("auto", 2, "cuda:1"), ("cpu", 2, "cpu"), ("cuda", 2, "cuda:1")],
)
def test_each_process_of_a_machine_has_a_gpu_of_its_own(asked: str, gpus: int, expected: str) -> None:
    assert devices.chosen(asked, 1, gpus) == torch.device(expected)


def test_more_processes_than_gpus_are_refused() -> None:
    with pytest.raises(devices.DeviceError, match="which has 2; --nproc-per-node 2, or --device cpu"):
        devices.chosen("auto", 2, 2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "--run", str(tmp_path / "run"), "--device", "cuda"])
    with pytest.raises(SystemExit, match=r"^--device cuda: no GPU, torch .*, or --device cpu$"):
        train.main()
    assert not (tmp_path / "run").exists()


def test_a_gpu_is_made_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as it can be seen without one: the process's own, without TF32, by deterministic kernels."""
    taken = []
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    try:
        assert [devices.taken("auto")] == taken == [torch.device("cuda", 1)]
        assert not torch.backends.cudnn.allow_tf32
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_gpus_exchange_by_nccl_and_objects_by_gloo() -> None:
    assert devices.backend(CUDA) == "cpu:gloo,cuda:nccl"
    assert devices.backend(devices.CPU) == "gloo"


def test_processes_on_unlike_devices_do_not_begin() -> None:
    store = dist.HashStore()
    store.set("device 1", "cuda")
    with pytest.raises(ranks.RanksError, match="process 0 trains on cpu and process 1 on cuda"):
        ranks.alike(store, 0, 2, "cpu")
    ranks.alike(store, 0, 2, "cuda")


@pytest.mark.parametrize(
    ("mixed", "told"),
    [
        (lambda there: there + torch.ones(2), "meet one of the CPU"),
        (lambda there: torch.arange(2) < there, "meet one of the CPU"),
        (lambda there: torch.ones(2)[there.long()], "meet one of the CPU"),
        (lambda there: torch.nn.Linear(2, 2)(there), "meet one of the CPU"),
        (lambda there: there.numpy(), "numpy"),
        (lambda there: nn.Dropout(0.5)(there), "draws"),
        (lambda there: torch.multinomial(there, 1), "draws"),
        (lambda there: torch.rand(2, device=there.device), "draws"),
    ],
)
def test_what_a_gpu_would_refuse_is_refused(mixed: Callable[[Tensor], object], told: str) -> None:
    """By the stand-in for one, so that a training that it lets through has none of these."""
    with computing_elsewhere(), pytest.raises(MixedError, match=told):
        mixed(torch.ones(2).to(devices.device()))


def test_what_stays_on_a_gpu_says_so() -> None:
    with computing_elsewhere():
        there = torch.ones(2, 2).to(CUDA)
        found = [
            there * 2.0,
            there[0],
            there.new_zeros(3),
            torch.zeros(1, device=there.device),
            there.topk(1)[0],
        ]
        assert all(isinstance(one, Elsewhere) and one.device == CUDA for one in found)
        assert there.cpu().device == devices.CPU


def test_weights_written_on_a_gpu_are_read_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        save_tensors(tmp_path / "policy.pt", {"weight": torch.ones(2)})
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="on a CUDA device"):
            torch.load(tmp_path / "policy.pt", weights_only=True)
    assert torch.equal(load_tensors(tmp_path / "policy.pt")["weight"], torch.ones(2))


def test_a_run_begun_on_one_device_goes_on_on_another(data, tmp_path: Path) -> None:
    """With the weights of one that never moved."""
    training, held_out, config, features = data
    config, scores = with_changes(config, {"supervised": {"epochs": 2, "batch": 32}}), count()

    def trained(run: Path, epochs: int) -> dict[str, Tensor]:
        """After so many epochs at most; the last is cut off before it is kept."""
        run.mkdir(exist_ok=True)
        policy, log = fresh_policy(config, features).to(devices.device()), RunLog(run)
        ends = next(scores) + epochs

        def score(_: object) -> tuple[float, dict[str, float]]:
            if (value := next(scores)) > ends:
                raise KeyboardInterrupt
            return float(value), {}

        warm_start(config, run, log, policy, training[:64], held_out[:8], score)
        return policy.state_dict()

    undisturbed = trained(tmp_path / "here", 2)
    with computing_elsewhere(), pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "there", 1)
    moved = trained(tmp_path / "there", 2)
    assert all(torch.equal(undisturbed[name], moved[name]) for name in undisturbed)


def here_and_there(done: Callable[[], T]) -> tuple[T, T]:
    """What is done on the CPU, and elsewhere."""
    here = done()
    with computing_elsewhere():
        return here, done()


def test_evaluators_are_judged_and_asked_alike_everywhere(data) -> None:
    rows, sizes = data[1][:40], feature_sizes(data[3].serving)
    config = data[2].evaluator
    orders = [np.arange(len(row.labels)) for row in rows]

    def judged() -> tuple[EvaluatorReport, list[float], list[list[int]], ContextReport]:
        torch.manual_seed(0)
        several = build_evaluator(config, 2, sizes).eval().to(devices.device())
        blind = Evaluator(config, sizes, blind=True).eval().to(devices.device())
        worth = compared(several.networks[0], rows, blind, rows, [str(row) for row in range(40)])
        batch = to_batch(rows)
        best = best_slates(several, several.encode(batch.inputs), batch.mask, 5, 2).tolist()
        return report(several, rows, 0), rewards(several, rows, orders).tolist(), best, worth

    here, there = here_and_there(judged)
    assert here == there


@pytest.mark.parametrize(
    "network",
    [
        {"decoder": "lstm", "reasoner": {"kind": "paper", "gate": "raw", "taught": "last"}},
        {
            "decoder": "transformer",
            "reasoner": {"kind": "pause", "gate": "margin"},
            "encoder": {"self_attention_layers": 1, "attention": "inducing"},
        },
        {"encoder": {"self_attention_layers": 1, "attention": "full"}},
    ],
)
def test_every_kind_of_network_stays_on_its_device(data, network: dict[str, object]) -> None:
    """Losses and gradients of the warm start and of GRPO, which has all that rollouts have."""
    training, _, config, features = data
    config = with_changes(config, {"policy": {"width": 16, **network}})
    settings = config.reinforcement

    def learned() -> list[Tensor]:
        generator = torch.Generator().manual_seed(0)
        policy = fresh_policy(config, features).to(devices.device())
        evaluator = Evaluator(config.evaluator, policy.sizes).eval().to(devices.device())
        batch = to_batch(training[:5])
        with ranks.Share(5).draws():
            teacher = label_teacher(batch.labels, 0.5, generator)
            loss, _ = supervised_loss(policy.train(), batch.inputs, teacher, generator)
            found = collect(policy.eval(), policy, evaluator, batch, settings.group, 0.5, generator)
        (loss + grpo_loss(policy, batch, found, settings)[0]).backward()
        return [weight.grad.cpu() for weight in policy.parameters() if weight.grad is not None]

    here, there = here_and_there(learned)
    assert len(here) == len(there) > 20
    assert all(torch.equal(*pair) for pair in zip(here, there, strict=True))
