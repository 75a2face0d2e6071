"""Loops over the rows of a neighbour list, compiled. Rows are shared out to threads whole, each is summed in the order
of its list, so that the bits are the same at any number of threads.

V nodes, E directed edges, C channels, H heads. `starts` [V + 1] and `indices` [E] are the list; all arrays are
contiguous.
"""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

_SMALL = 1 << 17  # numbers below which threads cost more than they bring
_CONTRACT = {"contract"}  # a product and a sum may be rounded once

_pools: dict[int, ThreadPoolExecutor] = {}
os.register_at_fork(after_in_child=_pools.clear)  # threads do not live on in a forked process


def over_rows(kernel: Callable[..., None], starts: NDArray[np.integer], width: int, *arguments: Any) -> None:
    """Call kernel(starts, *arguments, first, last) for all rows, on as many threads as torch has.

    Args:
        width: numbers that an edge costs.
    """
    count, edges = len(starts) - 1, int(starts[-1])
    threads = torch.get_num_threads() if edges * width >= _SMALL else 1
    if threads < 2:
        kernel(starts, *arguments, 0, count)
        return
    cuts = np.searchsorted(starts, np.linspace(0, edges, threads + 1))
    cuts[0], cuts[-1] = 0, count
    if threads not in _pools:
        _pools[threads] = ThreadPoolExecutor(threads, "rows")
    parts = [
        _pools[threads].submit(kernel, starts, *arguments, int(first), int(last))
        for first, last in itertools.pairwise(cuts)
        if last > first
    ]
    for part in parts:
        part.result()


@njit(cache=True, nogil=True, fastmath=_CONTRACT)
def scaled_sum(starts, indices, x, left, right, out, first, last):
    """out_i = left_i * sum over neighbours j of right_j x_j; [V, C] from [V, C] and scales [V].

    Rows of meshes have five to seven neighbours: the first six are summed without going through memory.
    """
    channels = x.shape[1]
    for i in range(first, last):
        start, end, scale = starts[i], starts[i + 1], left[i]
        if end - start >= 6:
            a, b, c = indices[start], indices[start + 1], indices[start + 2]
            d, e, f = indices[start + 3], indices[start + 4], indices[start + 5]
            ra, rb, rc, rd, re, rf = right[a], right[b], right[c], right[d], right[e], right[f]
            for k in range(channels):
                near = ra * x[a, k] + rb * x[b, k] + rc * x[c, k] + rd * x[d, k] + re * x[e, k] + rf * x[f, k]
                out[i, k] = scale * near
            start += 6
        elif end - start == 5:
            a, b, c = indices[start], indices[start + 1], indices[start + 2]
            d, e = indices[start + 3], indices[start + 4]
            ra, rb, rc, rd, re = right[a], right[b], right[c], right[d], right[e]
            for k in range(channels):
                near = ra * x[a, k] + rb * x[b, k] + rc * x[c, k] + rd * x[d, k] + re * x[e, k]
                out[i, k] = scale * near
            start += 5
        else:
            for k in range(channels):
                out[i, k] = 0
        for place in range(start, end):
            j = indices[place]
            weight = scale * right[j]
            for k in range(channels):
                out[i, k] += weight * x[j, k]


@njit(cache=True, nogil=True, fastmath=_CONTRACT)
def lazy_round(starts, indices, x, origin, left, right, back, out, first, last):
    """out_i = back origin_i + (1 - back) / 2 (x_i + left_i * sum over neighbours j of right_j x_j); [V, C].

    Without neighbours x_i stands for their sum. Nearly all nodes of meshes have five to seven neighbours.
    """
    channels, share = x.shape[1], (x.dtype.type(1) - back) / x.dtype.type(2)
    for i in range(first, last):
        start, end, scale = starts[i], starts[i + 1], share * left[i]
        if start == end:
            for k in range(channels):
                out[i, k] = back * origin[i, k] + share * (x[i, k] + x[i, k])
            continue
        if end - start >= 6:
            a, b, c = indices[start], indices[start + 1], indices[start + 2]
            d, e, f = indices[start + 3], indices[start + 4], indices[start + 5]
            ra, rb, rc = scale * right[a], scale * right[b], scale * right[c]
            rd, re, rf = scale * right[d], scale * right[e], scale * right[f]
            for k in range(channels):
                near = ra * x[a, k] + rb * x[b, k] + rc * x[c, k] + rd * x[d, k] + re * x[e, k] + rf * x[f, k]
                out[i, k] = back * origin[i, k] + share * x[i, k] + near
            start += 6
        else:
            for k in range(channels):
                out[i, k] = back * origin[i, k] + share * x[i, k]
        for place in range(start, end):
            j = indices[place]
            weight = scale * right[j]
            for k in range(channels):
                out[i, k] += weight * x[j, k]


@njit(cache=True, nogil=True, fastmath=_CONTRACT)
def attend(starts, indices, h, source, target, slope, out, shares, first, last):
    """Attention over neighbours (Velickovic et al. 2018, eq. 3 and 4), all heads at once.

    Args:
        h: [V, H, D] values.
        source, target: [V, H] scores of a node as neighbour, and as the one that looks.
        slope: of the leaky rectifier below 0.
        out: [V, H, D], becomes the sum of values by their shares; 0 without neighbours.
        shares: [E, H], becomes the softmax of the scores over each node's neighbours.
    """
    heads, width = h.shape[1], h.shape[2]
    for i in range(first, last):
        start, end = starts[i], starts[i + 1]
        for n in range(heads):
            for d in range(width):
                out[i, n, d] = 0
            if start == end:
                continue
            for place in range(start, end):
                score = target[i, n] + source[indices[place], n]
                shares[place, n] = score if score > 0 else slope * score
            largest = shares[start, n]
            for place in range(start + 1, end):
                largest = max(largest, shares[place, n])
            total = h.dtype.type(0)
            for place in range(start, end):
                shares[place, n] = np.exp(shares[place, n] - largest)
                total += shares[place, n]
            for place in range(start, end):
                shares[place, n] /= total
            for place in range(start, end):
                j, share = indices[place], shares[place, n]
                for d in range(width):
                    out[i, n, d] += share * h[j, n, d]


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def attend_back(starts, indices, h, source, target, slope, shares, gradient, scores, target_back, first, last):
    """From the gradient [V, H, D] of `out` that of the scores [E, H], before the rectifier, and of `target` [V, H]."""
    heads, width = h.shape[1], h.shape[2]
    for i in range(first, last):
        start, end = starts[i], starts[i + 1]
        for n in range(heads):
            mean = h.dtype.type(0)
            for place in range(start, end):
                j, value = indices[place], h.dtype.type(0)
                for d in range(width):
                    value += gradient[i, n, d] * h[j, n, d]
                scores[place, n] = value
                mean += shares[place, n] * value
            total = h.dtype.type(0)
            for place in range(start, end):
                value = shares[place, n] * (scores[place, n] - mean)
                if target[i, n] + source[indices[place], n] <= 0:
                    value *= slope
                scores[place, n] = value
                total += value
            target_back[i, n] = total


@njit(cache=True, nogil=True, fastmath=_CONTRACT)
def attend_across(starts, indices, reverse, shares, scores, gradient, h_back, source_back, first, last):
    """The same seen from the neighbour: gradients of `h` [V, H, D] and `source` [V, H].

    Args:
        reverse: [E] place of the edge that runs the other way; the graph is symmetric.
    """
    heads, width = gradient.shape[1], gradient.shape[2]
    for j in range(first, last):
        start, end = starts[j], starts[j + 1]
        for n in range(heads):
            total = gradient.dtype.type(0)
            for d in range(width):
                h_back[j, n, d] = 0
            for place in range(start, end):
                i, back = indices[place], reverse[place]
                share = shares[back, n]
                total += scores[back, n]
                for d in range(width):
                    h_back[j, n, d] += share * gradient[i, n, d]
            source_back[j, n] = total
