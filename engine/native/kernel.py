"""Whole slates in machine code: `decode` does for each request what the step graph does a micro-step a call.

GRU decoder and deep reasoner, as `model.policy`, `model.decoders.gru` and `model.reasoning` define them; the
tests compare whole lists with the step graph. Matrix products run along rows of transposed weights, which
LLVM turns into vector instructions; candidates already chosen are left out instead of masked.

Legend: B requests, N candidates, D width, H attention heads, P noise positions, M micro-steps.
"""

import math

import numpy as np

from bundle.compiled import compiled
from bundle.contract import NO_ITEM

RAW, NORMALISED, MARGIN = 0, 1, 2
GATES = {"raw": RAW, "normalised": NORMALISED, "margin": MARGIN}


@compiled
def _add_product(x, weights, out):  # type: ignore[no-untyped-def]
    """`out += x @ weights`: `[X]`, `[X, Y]`, `[Y]`, X a multiple of 4."""
    for i in range(0, x.shape[0], 4):
        a, b, c, d = x[i], x[i + 1], x[i + 2], x[i + 3]
        first, second, third, fourth = weights[i], weights[i + 1], weights[i + 2], weights[i + 3]
        for j in range(out.shape[0]):
            out[j] += a * first[j] + b * second[j] + c * third[j] + d * fourth[j]


@compiled
def add_weighted(weights, rows, count, table, out):  # type: ignore[no-untyped-def]
    """`out += weights @ table[rows]` of the first `count`: `[N]`, `[N] int64`, `[N, Y]`, `[Y]`."""
    whole = count - count % 4
    for j in range(0, whole, 4):
        a, b, c, d = weights[j], weights[j + 1], weights[j + 2], weights[j + 3]
        first, second, third, fourth = (
            table[rows[j]],
            table[rows[j + 1]],
            table[rows[j + 2]],
            table[rows[j + 3]],
        )
        for i in range(out.shape[0]):
            out[i] += a * first[i] + b * second[i] + c * third[i] + d * fourth[i]
    for j in range(whole, count):
        a, first = weights[j], table[rows[j]]
        for i in range(out.shape[0]):
            out[i] += a * first[i]


@compiled
def _weighted_mean(weights, total, rows, count, table, out):  # type: ignore[no-untyped-def]
    """`out = weights @ table[rows] / total`, as `add_weighted`."""
    out[:] = 0.0
    add_weighted(weights, rows, count, table, out)
    share = np.float32(1.0) / total
    for i in range(out.shape[0]):
        out[i] *= share


@compiled
def _products(table, rows, count, x, out):  # type: ignore[no-untyped-def]
    """`out = table[rows] @ x` of the first `count`: `[N, Y]`, `[N] int64`, `[Y]`, `[N]`."""
    whole = count - count % 4
    for j in range(0, whole, 4):
        first, second, third, fourth = (
            table[rows[j]],
            table[rows[j + 1]],
            table[rows[j + 2]],
            table[rows[j + 3]],
        )
        a, b, c, d = np.float32(0.0), np.float32(0.0), np.float32(0.0), np.float32(0.0)
        for i in range(x.shape[0]):
            a += first[i] * x[i]
            b += second[i] * x[i]
            c += third[i] * x[i]
            d += fourth[i] * x[i]
        out[j], out[j + 1], out[j + 2], out[j + 3] = a, b, c, d
    for j in range(whole, count):
        a, first = np.float32(0.0), table[rows[j]]
        for i in range(x.shape[0]):
            a += first[i] * x[i]
        out[j] = a


@compiled
def exp(x, count, powers, twos):  # type: ignore[no-untyped-def]
    """`x = exp(x)` of the first `count`, within what float32 can hold.

    exp(x) = 2^n exp(r), with r small enough for a polynomial, so that it is vector instructions. `twos` is
    `powers`, `[N] int32`, read as float32: a float whose exponent bits are n + 127 is 2^n.
    """
    for j in range(count):
        z = min(max(x[j], np.float32(-87.0)), np.float32(87.0))
        n = np.floor(z * np.float32(1.44269504) + np.float32(0.5))
        r = z - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
        p = np.float32(1.9875691500e-4)
        p = p * r + np.float32(1.3981999507e-3)
        p = p * r + np.float32(8.3334519073e-3)
        p = p * r + np.float32(4.1665795894e-2)
        p = p * r + np.float32(1.6666665459e-1)
        p = p * r + np.float32(5.0000001201e-1)
        powers[j] = (np.int32(n) + np.int32(127)) << np.int32(23)
        x[j] = p * r * r + r + np.float32(1.0)
    for j in range(count):
        x[j] *= twos[j]


@compiled
def _exponentials(x, count, scale, powers, twos, out):  # type: ignore[no-untyped-def]
    """`out = exp(x * scale - max)` of the first `count`, and their sum."""
    largest = x[0] * scale
    for j in range(count):
        largest = max(largest, x[j] * scale)
    for j in range(count):
        out[j] = x[j] * scale - largest
    exp(out, count, powers, twos)
    total = np.float32(0.0)
    for j in range(count):
        total += out[j]
    return total


@compiled
def decode(  # type: ignore[no-untyped-def]
    gate,
    mask,
    memory,
    user,
    pointer_keys,
    pointer_bias,
    reasoning_memory,
    start,
    slate_length,
    entropy_threshold,
    reasoning_budget,
    micro_step_budget,
    reasoning_temperature,
    selection_temperature,
    noise,
    token_weights,
    state_weights,
    gates_bias,
    state_bias,
    query_weights,
    query_bias,
    mix_weights,
    mix_bias,
    write_weights,
    write_bias,
    chosen,
    reasoned,
    entropies,
    uncertainties,
    probabilities,
    propensities,
):
    """Write every slate of a batch.

    Args:
        gate: one of `GATES`.
        mask: `[B, N] bool`; then the contract's `MEMORY`, the decoder's first state `[B, D]`, `CONTROLS`,
            and the weights of `export.decode_weights`, the reasoner's empty where it has none.
        chosen, ..., propensities: the contract's `RECORD`, `[B, M]`, to be written: NO_ITEM and False where
            a slate is full, and no probabilities where a token was spent.

    Returns:
        Micro-steps of the longest slate.
    """
    batch, n, width = memory.shape
    thinks = query_weights.shape[0] > 0
    heads = reasoning_memory.shape[1] // 2
    longest = 0
    left, logits = np.empty(n, np.int64), np.empty(n, np.float32)
    weights, scores = np.empty(n, np.float32), np.empty(n, np.float32)
    powers = np.empty(max(n, 2 * width), np.int32)
    twos = powers.view(np.float32)
    from_token, from_state = np.empty(3 * width, np.float32), np.empty(3 * width, np.float32)
    new = np.empty(width, np.float32)
    seen, query, mixed = np.empty(3 * width, np.float32), np.empty(width, np.float32), mix_bias[0].copy()
    hidden, readout, for_user = start[0].copy(), start[0].copy(), mix_bias[0].copy()
    one = np.float32(1.0)
    for row in range(batch):
        count = 0
        for j in range(n):
            if mask[row, j]:
                left[count] = j
                count += 1
        hidden[:] = start[row]
        readout[:] = hidden
        position, here, step, knows_user = 0, 0, 0, False
        while position < slate_length[row]:
            _products(pointer_keys[row], left, count, readout, logits)
            for j in range(count):
                logits[j] += pointer_bias[row, left[j]]
            total = _exponentials(logits, count, one, powers, twos, weights)
            best, largest = np.float32(-np.inf), np.float32(-np.inf)
            for j in range(count):
                largest = max(largest, logits[j])
            spread = np.float32(0.0)
            for j in range(count):
                spread += weights[j] * (logits[j] - largest)
            log_total = np.float32(math.log(total))
            entropy = log_total - spread / total
            doubt = entropy
            if gate == NORMALISED:
                doubt = entropy / np.float32(math.log(np.float32(max(count, 2))))
            elif gate == MARGIN:
                first, second = np.float32(0.0), np.float32(0.0)
                for j in range(count):
                    if weights[j] > first:
                        first, second = weights[j], first
                    elif weights[j] > second:
                        second = weights[j]
                doubt = one - (first - second) / total
            entropies[row, step], uncertainties[row, step] = entropy, doubt

            if (
                thinks
                and doubt > entropy_threshold[row]
                and here < reasoning_budget[row]
                and micro_step_budget[row] - step - (slate_length[row] - position) > 0
            ):
                if not knows_user:
                    for_user[:] = 0.0
                    _add_product(user[row], mix_weights[3 * width :], for_user)
                    knows_user = True
                seen[:width] = readout
                query[:] = query_bias
                _add_product(readout, query_weights, query)
                part = width // heads
                for head in range(heads):
                    asked = query[head * part : (head + 1) * part]
                    _products(reasoning_memory[row, head], left, count, asked, scores)
                    total = _exponentials(scores, count, one, powers, twos, weights)
                    recalled = seen[width + head * part : width + (head + 1) * part]
                    _weighted_mean(weights, total, left, count, reasoning_memory[row, heads + head], recalled)
                total = _exponentials(logits, count, one / reasoning_temperature[row], powers, twos, weights)
                _weighted_mean(weights, total, left, count, memory[row], seen[2 * width :])
                mixed[:] = mix_bias[min(here, mix_bias.shape[0] - 1)]
                mixed += for_user
                _add_product(seen, mix_weights[: 3 * width], mixed)
                for i in range(mixed.shape[0]):
                    mixed[i] = max(mixed[i], np.float32(0.0))
                readout += write_bias
                _add_product(mixed, write_weights, readout)
                chosen[row, step], reasoned[row, step] = NO_ITEM, True
                probabilities[row, step], propensities[row, step] = 0.0, 0.0
                here += 1
                step += 1
                continue

            scale = one / selection_temperature[row]
            drawn = noise[row, min(position, noise.shape[1] - 1)]
            place = 0
            for j in range(count):
                value = logits[j] * scale + drawn[left[j]]
                if value > best:
                    best, place = value, j
            probabilities[row, step] = weights[place] / total
            total = _exponentials(logits, count, scale, powers, twos, weights)
            propensities[row, step] = weights[place] / total
            item = left[place]
            chosen[row, step], reasoned[row, step] = item, False
            for j in range(place, count - 1):
                left[j] = left[j + 1]
            count -= 1
            from_token[:] = gates_bias
            _add_product(memory[row, item], token_weights, from_token)
            from_state[: 2 * width] = 0.0
            from_state[2 * width :] = state_bias
            _add_product(hidden, state_weights, from_state)
            for i in range(2 * width):  # reset and update gates, 1 / (1 + exp(-x))
                from_token[i] = -(from_token[i] + from_state[i])
            exp(from_token, 2 * width, powers, twos)
            for i in range(width):  # tanh(x) = 1 - 2 / (1 + exp(2 x))
                reset = one / (one + from_token[i])
                new[i] = (from_token[2 * width + i] + reset * from_state[2 * width + i]) * np.float32(2.0)
            exp(new, width, powers, twos)
            for i in range(width):
                update = one / (one + from_token[width + i])
                fresh = one - np.float32(2.0) / (one + new[i])
                hidden[i] = (hidden[i] - fresh) * update + fresh
            readout[:] = hidden
            position += 1
            here = 0
            step += 1
        for rest in range(step, chosen.shape[1]):
            chosen[row, rest], reasoned[row, rest] = NO_ITEM, False
        longest = max(longest, step)
    return longest
