"""Runs of a few subjects in memory, as tests of what learns from windows need them."""

from hashlib import sha256

import numpy as np


class Runs:
    """Three patterns that all subjects share, each with a smooth course of its own; a `meshgnn.sockets.WindowedItems`.

    Every subject's run has another length. Windows that were read are noted.
    """

    def __init__(self, subjects=6, side=8, frames=4, channels=2, seed=0):
        rng = np.random.default_rng(seed)
        self.shape = (channels, side, side, side - 1, frames)
        self.observed, self.groups = np.ones(subjects, bool), np.zeros(subjects, np.int32)
        self.lengths = frames * 3 + np.arange(subjects) % 4
        self.runs, self.seen = [], []
        places = np.stack(np.meshgrid(*(np.arange(size) for size in self.shape[1:4]), indexing="ij"))
        space = np.stack([np.cos((places * rng.uniform(-0.6, 0.6, (3, 1, 1, 1))).sum(0)) for _ in range(3)])
        space = space[:, None, ..., None]
        for length in self.lengths:
            waves = np.sin(np.arange(length) * rng.uniform(0.3, 0.9, (3, 1, 1, 1, 1, 1)) + rng.uniform(0, 6))
            run = (space * waves).sum(0)
            score = (run - run.mean(-1, keepdims=True)) / run.std(-1, keepdims=True)
            self.runs.append(np.concatenate([run, score])[:channels].astype(np.float32))
        self.last_start = self.lengths.astype(np.int64) - frames

    def starts(self, row, /):
        return np.arange(0, self.last_start[row] + 1, self.shape[-1])

    def read_at(self, rows, starts, /):
        assert np.all((np.asarray(starts) >= 0) & (starts <= self.last_start[rows]))
        self.seen += list(zip(np.asarray(rows).tolist(), np.asarray(starts).tolist()))
        return np.stack([self.runs[row][..., start : start + self.shape[-1]] for row, start in zip(rows, starts)])

    def read(self, rows, /):
        return self.read_at(rows, [self.starts(row)[0] for row in rows])

    def key(self):
        return sha256(b"".join(run.tobytes() for run in self.runs)).hexdigest()[:16]
