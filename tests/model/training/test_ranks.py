"""Training in several processes, and elsewhere: the weights of one on the CPU, and one clear end where it
cannot go on."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from elsewhere import Elsewhere, computing_elsewhere
from eventually import eventually
from every_phase import PHASES, train_every_phase
from torch import Tensor, nn

from model.training import ranks
from model.training.checkpoint import alone_in

ROOT = Path(__file__).parents[3]

Weights = dict[str, dict[str, Tensor]]


def torchrun(*arguments: str | Path, processes: int = 2) -> list[str]:
    """The command; the port is a free one."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*torchrun, "--nproc-per-node", str(processes), *map(str, arguments)]


def environment() -> dict[str, str]:
    paths = f"{ROOT}:{ROOT / 'tests/model'}:{ROOT / 'tests/model/training'}"
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Weights, Weights, Weights]:
    """Of a process alone, of two, and of one that is not on the CPU."""
    alone, together = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("together")
    command = torchrun(ROOT / "tests/model/every_phase.py", together)
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        found = train_every_phase(alone)
        with computing_elsewhere():
            there = train_every_phase(tmp_path_factory.mktemp("elsewhere"))
        _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert {path.name for path in together.iterdir()} == {path.name for path in alone.iterdir()} | {
        "weights.pt"
    }
    return found, torch.load(together / "weights.pt", weights_only=True), there


ANY = {"encoder.pointer_bias.bias", "encoder.pointer_keys.bias"}
"""Biases that a softmax over candidates takes no notice of: their gradient is rounding alone, of which Adam
makes steps."""


@pytest.mark.parametrize("phase", PHASES)
def test_two_processes_give_the_weights_of_one(weights: tuple[Weights, Weights, Weights], phase: str) -> None:
    alone, together, _ = (of[phase] for of in weights)
    assert alone.keys() == together.keys()
    for name in alone.keys() - ANY:
        gap = (together[name] - alone[name]).abs().max()
        assert gap < 1e-5, f"{name} differs by {gap}"


@pytest.mark.parametrize("phase", PHASES)
def test_no_phase_mixes_devices(weights: tuple[Weights, Weights, Weights], phase: str) -> None:
    """The stand-in for a GPU refuses it; it computes on the CPU, so to the same weights."""
    alone, _, there = (of[phase] for of in weights)
    assert all(isinstance(tensor, Elsewhere) for tensor in there.values())
    assert all(torch.equal(alone[name], there[name].cpu()) for name in alone.keys() | there.keys())


@pytest.mark.slow
def test_two_processes_elsewhere_mix_no_devices(
    weights: tuple[Weights, Weights, Weights], tmp_path: Path
) -> None:
    status, told = ended(torchrun(ROOT / "tests/model/every_phase.py", tmp_path, "elsewhere"))
    assert status == 0, told
    found: Weights = torch.load(tmp_path / "weights.pt", weights_only=True)
    for phase, of in weights[1].items():
        assert all(torch.equal(tensor, found[phase][name]) for name, tensor in of.items())


def test_draws_of_parts_are_parts_of_the_whole_draw() -> None:
    """Each as torch makes it for all rows; slates in groups are parts of their requests' rows."""
    x = torch.rand(10, 6, 3)
    odds = torch.rand(20, 7)

    def drawn(rows: slice) -> list[Tensor]:
        torch.manual_seed(3)
        generator = torch.Generator().manual_seed(4)
        grouped = odds[2 * rows.start : 2 * rows.stop]
        return [
            nn.Dropout(0.4)(x[rows]),
            torch.multinomial(grouped, 1, generator=generator),
            torch.rand(len(x[rows]), generator=generator),
            torch.randint(3, 9, (len(x[rows]), 1), generator=generator),
            nn.Dropout(0.4)(x[rows].transpose(1, 2)),
        ]

    whole = drawn(slice(0, 10))
    parts = []
    for rows in (slice(0, 3), slice(3, 10)):
        with ranks.WholeBatchDraws(10, rows):
            parts.append(drawn(rows))
            with pytest.raises(AssertionError, match="randn"):
                torch.randn(3)
    for one, *cut in zip(whole, *parts, strict=True):
        assert torch.equal(one, torch.cat(cut))


def train_together(config: Path, run: Path, *more: str | Path) -> list[str]:
    return torchrun("-m", "--", "model.train", "--config", config, "--run", run, *more)


def ended(command: list[str]) -> tuple[int, str]:
    """Exit status and output of a launch."""
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=180, cwd=ROOT, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_what_all_find_wrong_is_told_once(tmp_path: Path) -> None:
    log = tmp_path / "dirty.jsonl"
    log.write_text('{"event": "ranking"\n')
    status, told = ended(
        train_together(ROOT / "configs/simulator.toml", tmp_path / "run", "--event-log", log)
    )
    assert status == 1
    assert told.count(f"of 2, on {socket.gethostname()}: ") == 1, told
    assert "dirty.jsonl" in told.partition(f"on {socket.gethostname()}: ")[2].partition("\n")[0]


FAILS = """
import os, sys
from model.training import ranks
with ranks.joined(60.0):
    if ranks.rank() == 1:
        os.kill(os.getpid(), 9) if "killed" in sys.argv else int("the reason")
    ranks.same(1, "it")
"""


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("fails", "ValueError: invalid literal for int() with base 10: 'the reason'"),
        pytest.param("killed", "Signal 9 (SIGKILL)", marks=pytest.mark.slow),
    ],
)
def test_the_launch_blames_the_process_that_failed(how: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text(FAILS)
    status, told = ended(torchrun(tmp_path / "fails.py", how))
    cause = told.partition("Root Cause")[2]
    assert status == 1
    assert "rank      : 1 " in cause, told
    assert why in cause


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run with every phase."""
    text = (ROOT / "configs/simulator.toml").read_text()
    text = text.replace("members = 3\nepochs = 10", "width = 16\nepochs = 3\nbatch = 32")
    text = text.replace("epochs = 8", "epochs = 2").replace("rounds = 2", "rounds = 1\nepochs = 2")
    text = text.replace("[reinforcement]\nepochs = 0", "[reinforcement]\nepochs = 2")
    text += "\n[simulator]\nitems = 200\nlists = 1200\nstrength = 2.0\n\n[policy]\nwidth = 16\n"
    path = tmp_path_factory.mktemp("configs") / "small.toml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def undisturbed(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "undisturbed"
    status, told = ended(train_together(config, run))
    assert status == 0, told
    assert told.count("kept the") == 1, "the first process alone tells"
    return run


def policy_of(run: Path) -> dict[str, Tensor]:
    return torch.load(run / "policy.pt", weights_only=True)


def came_to(run: Path, phase: str) -> bool:
    """Whether an epoch of the phase is done, and stored."""
    return (run / f"{phase}.state.pt").exists()


def worker(launch: int, number: int) -> psutil.Process:
    """The process of that rank."""
    for child in psutil.Process(launch).children(recursive=True):
        if child.environ().get("RANK") == str(number):
            return child
    raise LookupError(number)


@pytest.mark.slow
@pytest.mark.parametrize(("killed", "phase"), [(1, "imitation"), (0, "expert_iteration_1"), (1, "grpo")])
async def test_a_run_goes_on_after_a_process_was_killed(
    config: Path, undisturbed: Path, tmp_path: Path, killed: int, phase: str
) -> None:
    """In the middle of a phase: the others end too, and the same command ends with the same weights."""
    run = tmp_path / "run"
    with subprocess.Popen(train_together(config, run), env=environment(), cwd=ROOT) as launch:
        await eventually(lambda: came_to(run, phase), 120)
        worker(launch.pid, killed).kill()
        assert launch.wait(60) != 0
    assert not (run / "summary.json").exists()
    status, told = ended(train_together(config, run))
    assert status == 0, told
    assert f"{phase} resumes after epoch" in told
    first, second = policy_of(undisturbed), policy_of(run)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
async def test_a_launch_restarts_by_itself(config: Path, undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = train_together(config, run)
    command.insert(command.index("--standalone"), "--max-restarts=1")
    with subprocess.Popen(command, env=environment(), cwd=ROOT) as launch:
        await eventually(lambda: came_to(run, "imitation"), 120)
        worker(launch.pid, 1).kill()
        assert launch.wait(180) == 0
    first, second = policy_of(undisturbed), policy_of(run)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
async def test_a_process_that_hangs_is_not_waited_for_in_vain(config: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = train_together(config, run, "--timeout-s", "5")
    with subprocess.Popen(command, env=environment(), cwd=ROOT, stderr=subprocess.PIPE, text=True) as launch:
        await eventually(lambda: came_to(run, "evaluator"), 120)
        stopped = worker(launch.pid, 1)
        stopped.suspend()
        _, told = launch.communicate(timeout=90)
    assert launch.returncode != 0
    assert "process 0 of 2" in told
    assert "the other processes are lost" in told
    assert not stopped.is_running()


@pytest.mark.slow
def test_a_log_that_only_one_machine_has_is_named(config: Path, tmp_path: Path) -> None:
    """Two processes in different places, without torchrun."""
    (tmp_path / "0").mkdir()
    (tmp_path / "1").mkdir()
    (tmp_path / "0/log.jsonl").write_text("{}\n")
    arguments = ["--config", str(config), "--event-log", "log.jsonl", "--run", "run"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "model.train", *arguments],
            env=environment()
            | {"RANK": str(n), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
            cwd=tmp_path / str(n),
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in (0, 1)
    ]
    told = "".join(process.communicate(timeout=60)[1] for process in processes)
    assert [process.returncode for process in processes] == [1, 1]
    assert told.count("the log log.jsonl: process 0") == 1, told


@pytest.mark.slow
def test_two_runs_do_not_share_a_directory(config: Path, tmp_path: Path) -> None:
    with alone_in(tmp_path / "run"):
        status, told = ended(train_together(config, tmp_path / "run"))
    assert status == 1
    assert told.partition("Root Cause")[0].count("another training goes on here") == 1
