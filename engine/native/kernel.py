"""Whole slates in machine code: `decode` does for each request what the step graph does a micro-step a call.

GRU decoder and deep reasoner, as `model.policy`, `model.decoders.gru` and `model.reasoning` define them; the
tests compare whole lists with the step graph. Matrix products run along rows of transposed weights, which
LLVM turns into vector instructions; candidates already chosen are left out instead of masked. The clock is
looked at while slates are written, so that work nobody waits for any more stops.

Legend: B requests, R slates, N candidates, D width, H attention heads, P noise positions or items given,
M micro-steps, A alternatives.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.compiled import compiled, monotonic
from bundle.contract import NO_ITEM, StepControls, StepMemory, StepRecord
from bundle.manifest import GateKind
from constraints.layout import KINDS
from constraints.placement import begun, placed, which_may
from engine.native.arithmetic import add_product, advance, exponentials, products, weighted_mean

Weights = NDArray[np.float32]

RAW, NORMALISED, MARGIN = 0, 1, 2
UNCERTAINTIES: dict[GateKind, int] = {"raw": RAW, "normalised": NORMALISED, "margin": MARGIN}


class DecodeWeights(NamedTuple):
    """The arrays of `decode.npz` by name, float32, matrices `[in, out]`.

    First the GRU's, with columns of reset, update and new state; then the reasoner's, empty where the policy
    was trained without.
    """

    token_weights: Weights  # [D, 3 D]
    state_weights: Weights  # [D, 3 D]
    token_bias: Weights  # [3 D], the state's added to it for reset and update
    state_bias: Weights  # [D], of the new state
    query_weights: Weights  # [D, D]
    query_bias: Weights  # [D]
    mix_weights: Weights  # [4 D, 2 D], rows of readout, recalled, token, user
    mix_bias: Weights  # [reasoning steps told apart, 2 D]
    write_weights: Weights  # [2 D, D]
    write_bias: Weights  # [D]


A_LOOK = 256
"""Candidates that are gone over before the clock is looked at again: some 50 microseconds' work, while a look
takes 0.03 to 0.3."""

# Where each group of `decode`'s arrays ends.
MEMORY_END = len(StepMemory._fields)
CONTROLS_END = MEMORY_END + len(StepControls._fields)
WEIGHTS_END = CONTROLS_END + len(DecodeWeights._fields)


@compiled
def _rank_others(shares, total, left, count, place, runners_up, chances):  # type: ignore[no-untyped-def]
    """The candidates with the largest shares but the one at `place`, if any, `[A]` each."""
    most = runners_up.shape[0]
    if most == 0:
        return
    runners_up[:] = NO_ITEM
    chances[:] = 0.0
    for j in range(count):
        chance = shares[j] / total
        if j == place or chance <= chances[most - 1]:
            continue
        rank = most - 1
        while rank > 0 and chances[rank - 1] < chance:
            chances[rank], runners_up[rank] = chances[rank - 1], runners_up[rank - 1]
            rank -= 1
        chances[rank], runners_up[rank] = chance, left[j]


@compiled
def decode(  # type: ignore[no-untyped-def]
    kind, mask, start, rows, prefix, runners_up, chances, constraints, reason_until, deadlines, *arrays
):
    """Write every slate of a batch, or as much of it as its deadline allows.

    Args:
        kind: what is compared with the threshold, of `UNCERTAINTIES`.
        mask: `[B, N] bool, True = a real candidate`.
        start: `[B, D]`, the decoder's first state.
        rows: `[R] int64`, whose request each slate is written for.
        prefix: `[R, P] int64`, how slates begin, NO_ITEM where they go on by themselves. Of what is given
            only `chosen` is recorded.
        runners_up, chances: `[R, M, A]` int64 and float32, to be written: the most probable candidates but
            the chosen one, best first, NO_ITEM where there are fewer, and their probability.
        constraints: `[R, S] int64`, what each slate is to satisfy: `constraints.tracking.stack`.
        reason_until, deadlines: `[R] float64`, seconds of `monotonic`, as in `engine.generation.Controls`.
        arrays: those of `StepMemory`, `[B]`, `StepControls`, `[R]`, `DecodeWeights`, and `StepRecord`,
            each `[R, M]`, to be written: NO_ITEM and False where a slate is full, and no probabilities where
            a token was spent. One by one, because Numba is slow to tell the type of a tuple.

    Returns:
        Micro-steps of the longest slate.
    """
    memory, controls = StepMemory(*arrays[:MEMORY_END]), StepControls(*arrays[MEMORY_END:CONTROLS_END])
    weights, record = DecodeWeights(*arrays[CONTROLS_END:WEIGHTS_END]), StepRecord(*arrays[WEIGHTS_END:])
    _, n, width = memory.memory.shape
    thinks = weights.query_weights.shape[0] > 0
    heads = memory.reasoning_memory.shape[1] // 2
    longest = 0
    left, may, logits = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.float32)
    work = np.empty(0, np.int64)
    shares, scores = np.empty(n, np.float32), np.empty(n, np.float32)
    powers = np.empty(max(n, 2 * width), np.int32)
    twos = powers.view(np.float32)
    from_token, from_state = np.empty(3 * width, np.float32), np.empty(3 * width, np.float32)
    new = np.empty(width, np.float32)
    seen, query = np.empty(3 * width, np.float32), np.empty(width, np.float32)
    mixed, for_user = weights.mix_bias[0].copy(), weights.mix_bias[0].copy()
    hidden, readout = start[0].copy(), start[0].copy()
    one = np.float32(1.0)
    reading = np.empty(2, np.int64)
    since_look = A_LOOK
    now = -np.inf
    for row in range(rows.shape[0]):
        source, all_left = rows[row], 0
        for j in range(n):
            if mask[source, j]:
                left[all_left] = j
                all_left += 1
        constrained = constraints.shape[1] > 0 and constraints[row, KINDS] >= 0
        open_to, count = left, all_left
        if constrained:
            work = begun(constraints[row])
            open_to = may
        items, keys, bias = memory.memory[source], memory.pointer_keys[source], memory.pointer_bias[source]
        hidden[:] = start[source]
        readout[:] = hidden
        position, here, step, knows_user = 0, 0, 0, False
        while position < controls.slate_length[row]:
            if since_look >= A_LOOK:
                now = monotonic(reading)
                since_look = 0
            if now >= deadlines[row]:
                break
            if not constrained:
                count = all_left
            elif here == 0:
                count = which_may(constraints[row], work, left, all_left, may, deadlines[row])
                since_look += all_left
                if count == 0:
                    break
            place = -1
            if position < prefix.shape[1]:
                for j in range(count):
                    if open_to[j] == prefix[row, position]:
                        place = j
                        record.entropy[row, step], record.uncertainty[row, step] = 0.0, 0.0
                        record.probability[row, step], record.propensity[row, step] = 0.0, 0.0
                        record.greedy[row, step] = False
            if place < 0:
                since_look += count
                products(keys, open_to, count, readout, logits)
                for j in range(count):
                    logits[j] += bias[open_to[j]]
                total = exponentials(logits, count, one, powers, twos, shares)
                best, largest = np.float32(-np.inf), np.float32(-np.inf)
                for j in range(count):
                    largest = max(largest, logits[j])
                spread = np.float32(0.0)
                for j in range(count):
                    spread += shares[j] * (logits[j] - largest)
                log_total = np.float32(math.log(total))
                entropy = log_total - spread / total
                doubt = entropy
                if kind == NORMALISED:
                    doubt = entropy / np.float32(math.log(np.float32(max(count, 2))))
                elif kind == MARGIN:
                    first, second = np.float32(0.0), np.float32(0.0)
                    for j in range(count):
                        if shares[j] > first:
                            first, second = shares[j], first
                        elif shares[j] > second:
                            second = shares[j]
                    doubt = one - (first - second) / total
                record.entropy[row, step], record.uncertainty[row, step] = entropy, doubt

                if (
                    thinks
                    and doubt > controls.entropy_threshold[row]
                    and here < controls.reasoning_budget[row]
                    and controls.micro_step_budget[row] - step - (controls.slate_length[row] - position) > 0
                    and now < reason_until[row]
                ):
                    if not knows_user:
                        for_user[:] = 0.0
                        add_product(memory.user[source], weights.mix_weights[3 * width :], for_user)
                        knows_user = True
                    _rank_others(shares, total, open_to, count, -1, runners_up[row, step], chances[row, step])
                    seen[:width] = readout
                    query[:] = weights.query_bias
                    add_product(readout, weights.query_weights, query)
                    part = width // heads
                    for head in range(heads):
                        asked = query[head * part : (head + 1) * part]
                        keys_of_head = memory.reasoning_memory[source, head]
                        values_of_head = memory.reasoning_memory[source, heads + head]
                        products(keys_of_head, open_to, count, asked, scores)
                        total = exponentials(scores, count, one, powers, twos, shares)
                        recalled = seen[width + head * part : width + (head + 1) * part]
                        weighted_mean(shares, total, open_to, count, values_of_head, recalled)
                    total = exponentials(
                        logits, count, one / controls.reasoning_temperature[row], powers, twos, shares
                    )
                    weighted_mean(shares, total, open_to, count, items, seen[2 * width :])
                    mixed[:] = weights.mix_bias[min(here, weights.mix_bias.shape[0] - 1)]
                    mixed += for_user
                    add_product(seen, weights.mix_weights[: 3 * width], mixed)
                    for i in range(mixed.shape[0]):
                        mixed[i] = max(mixed[i], np.float32(0.0))
                    readout += weights.write_bias
                    add_product(mixed, weights.write_weights, readout)
                    record.chosen[row, step], record.reasoned[row, step] = NO_ITEM, True
                    record.probability[row, step], record.propensity[row, step] = 0.0, 0.0
                    record.greedy[row, step] = False
                    here += 1
                    step += 1
                    continue

                scale = one / controls.selection_temperature[row]
                drawn = controls.noise[row, min(position, controls.noise.shape[1] - 1)]
                place, quiet, without = 0, 0, best
                for j in range(count):
                    value = logits[j] * scale
                    if value > without:
                        without, quiet = value, j
                    value += drawn[open_to[j]]
                    if value > best:
                        best, place = value, j
                record.greedy[row, step] = place == quiet
                record.probability[row, step] = shares[place] / total
                _rank_others(shares, total, open_to, count, place, runners_up[row, step], chances[row, step])
                total = exponentials(logits, count, scale, powers, twos, shares)
                record.propensity[row, step] = shares[place] / total
            item = open_to[place]
            record.chosen[row, step], record.reasoned[row, step] = item, False
            if constrained:
                placed(constraints[row], work, item)
            gone = place
            while left[gone] != item:  # it is as far on as among those that may, or farther
                gone += 1
            all_left -= 1
            for j in range(gone, all_left):
                left[j] = left[j + 1]
            from_token[:] = weights.token_bias
            add_product(items[item], weights.token_weights, from_token)
            from_state[: 2 * width] = 0.0
            from_state[2 * width :] = weights.state_bias
            add_product(hidden, weights.state_weights, from_state)
            advance(hidden, from_token, from_state, new, powers, twos)
            readout[:] = hidden
            position += 1
            here = 0
            step += 1
        for rest in range(step, record.chosen.shape[1]):
            record.chosen[row, rest], record.reasoned[row, rest] = NO_ITEM, False
        longest = max(longest, step)
    return longest
