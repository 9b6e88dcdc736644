"""Products, exponentials and a GRU's step in machine code: what decoder, encoder and evaluator are made of.

Matrices are `[in, out]`, so that products run along rows, which LLVM turns into vector instructions. Arrays
are float32 and C-contiguous where nothing else is said. Legend: X and Y columns, N candidates, D width.
"""

import numpy as np

from bundle.compiled import compiled


@compiled
def add_product(x, weights, out):  # type: ignore[no-untyped-def]
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
def weighted_mean(weights, total, rows, count, table, out):  # type: ignore[no-untyped-def]
    """`out = weights @ table[rows] / total`, as `add_weighted`."""
    out[:] = 0.0
    add_weighted(weights, rows, count, table, out)
    share = np.float32(1.0) / total
    for i in range(out.shape[0]):
        out[i] *= share


@compiled
def products(table, rows, count, x, out):  # type: ignore[no-untyped-def]
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
def exponentials(x, count, scale, powers, twos, out):  # type: ignore[no-untyped-def]
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
def advance(hidden, from_token, from_state, new, powers, twos):  # type: ignore[no-untyped-def]
    """A GRU's next state `[D]`, in place. What token and state give to the gates, `[3 D]` each, is lost."""
    one, width = np.float32(1.0), hidden.shape[0]
    for i in range(2 * width):  # reset and update, 1 / (1 + exp(-x))
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
