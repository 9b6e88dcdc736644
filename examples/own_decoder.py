"""Reasoning added to a decoder of your own: `python -m examples.own_decoder`.

The decoder below is a minimal gated unit (Zhou et al. 2016, arXiv 1603.09420). It says how a state
starts, what a token does to it and how candidates are scored; reasoning, training, export and serving
then work as with the built-in decoders: put its name into a configuration, [policy] decoder.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from export.__main__ import export
from model.decoders.pointer import Pointer
from model.decoders.protocol import DecoderState, StateAxes
from model.encoder import Memory
from model.policy import DECODERS
from model.train import train
from model.training.config import read_config, with_changes


class MinimalGatedDecoder(Pointer):
    """State: one hidden vector, which is also what candidates are scored with."""

    state_axes: StateAxes = (("hidden", ("B", "D")),)

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.forget, self.write = nn.Linear(2 * width, width), nn.Linear(2 * width, width)

    def init_state(self, memory: Memory, mask: Tensor) -> DecoderState:
        return (self.first_token(memory, mask),)

    def step(self, token: Tensor, state: DecoderState) -> DecoderState:
        share = torch.sigmoid(self.forget(torch.cat([token, state[0]], dim=-1)))
        written = torch.tanh(self.write(torch.cat([token, share * state[0]], dim=-1)))
        return (torch.lerp(state[0], written, share),)

    def blend(self, old: DecoderState, new: DecoderState, share: Tensor) -> DecoderState:
        return (torch.lerp(old[0], new[0], share),)


DECODERS["minimal"] = MinimalGatedDecoder


def main() -> None:
    small = {"simulator": {"lists": 1500}, "evaluator": {"epochs": 4}, "imitation": {"epochs": 2}}
    config = read_config(Path("configs/simulator.toml"))
    with TemporaryDirectory() as directory:
        run, bundle = Path(directory) / "run", Path(directory) / "bundle"
        train(with_changes(config, {**small, "policy": {"decoder": "minimal"}}), run)
        export(run, bundle)  # refused unless whole rollouts agree with PyTorch


if __name__ == "__main__":
    main()
