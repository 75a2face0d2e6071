"""A fixed sparse matrix times rows, with the gradient."""

import warnings
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor


class SparseMap:
    """y = M x for rows x [V, C]; the gradient of x is M^T times that of y. Sums run row by row, in sorted order.

    Args:
        matrix: [N, V].
    """

    def __init__(self, matrix: sparse.csr_array) -> None:
        forth, back = sparse.csr_array(matrix), sparse.csr_array(matrix.T)
        self._both = tuple(_as_torch(one) for one in (forth, back))

    def to(self, device: torch.device | str) -> "SparseMap":
        moved = object.__new__(SparseMap)
        moved._both = tuple(one.to(device) for one in self._both)
        return moved

    def __call__(self, x: Tensor) -> Tensor:
        """[V, C] -> [N, C]."""
        forth, back = (one.to(x.dtype) for one in self._both)
        return _Product.apply(x, forth, back)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, forth: Tensor, back: Tensor) -> Tensor:
        ctx.back = back
        return forth @ x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.back @ gradients[0].contiguous(), None, None


def _as_torch(matrix: sparse.csr_array) -> Tensor:
    matrix.sort_indices()
    starts, columns = (torch.from_numpy(one.astype(np.int64)) for one in (matrix.indptr, matrix.indices))
    values, size = torch.from_numpy(matrix.data.astype(np.float64)), (matrix.shape[0], matrix.shape[1])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(starts, columns, values, size, check_invariants=True)
