"""Memory that is used again: never while anybody still holds a view of it."""

import gc
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from features.kept_memory import memory_kept
from features.subject_data.reused_memory import KEPT, ReusedMemory


def test_memory_comes_back_when_the_last_view_is_gone() -> None:
    memory = ReusedMemory()
    first = memory.array((4, 100))
    place = first.ctypes.data
    first[:] = 1
    row = first[2, 10:]
    tensor = torch.from_numpy(first)[3]
    del first
    gc.collect()
    second = memory.array((4, 100))
    second[:] = 2
    assert second.ctypes.data != place
    assert (row == 1).all()
    assert bool((tensor == 1).all())
    del row
    assert memory.array((4, 100)).ctypes.data != place  # the tensor still holds it
    del tensor
    gc.collect()
    assert memory.array((400,)).ctypes.data == place


def test_arrays_are_ordinary_ones() -> None:
    memory = ReusedMemory()
    found = memory.array((2, 3, 5))
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert found.flags.writeable
    assert found.shape == (2, 3, 5)
    found[:] = 7
    assert (pickle.loads(pickle.dumps(found)) == 7).all()
    assert memory.array((0, 5)).shape == (0, 5)


def test_memory_of_another_size_is_not_kept_for_small_arrays() -> None:
    memory = ReusedMemory()
    large = memory.array((1000,))
    place = large.ctypes.data
    del large
    small = memory.array((10,))
    assert small.ctypes.data != place
    held = [memory.array((50,)) for _ in range(2 * KEPT)]
    del held
    assert len(memory._free) <= KEPT


def test_many_threads_never_share() -> None:
    memory = ReusedMemory()

    def work(number: int) -> bool:
        found = memory.array((5000,))
        found[:] = number
        return bool((found == number).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(2000)))


def test_kept_memory_changes_no_number_and_nests() -> None:
    def step() -> torch.Tensor:
        torch.manual_seed(0)
        x = torch.randn(1 << 20, requires_grad=True)
        (x.sin() * x).sum().backward()
        assert x.grad is not None
        return x.grad

    plain = step()
    with memory_kept(), memory_kept():
        inside = step()
    assert torch.equal(plain, inside)
    assert torch.equal(plain, step())
