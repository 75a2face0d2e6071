"""Modes in which the stages of the network are cut over ranks: model, pipeline, and the grid of data and pipeline."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

from features.parallel.batches import Read, Share
from features.parallel.chain import Chain, Piece
from features.parallel.cuts import PUBLISHED, even_cuts
from features.parallel.engine import Engine, broadcast_buffers, placed, summed_gradients
from features.parallel.state import own_tensors, released
from meshgnn.errors import SettingError


class Pipelined(Engine):
    """A piece of the network per rank, in D rows of P ranks: rank = row * P + piece.

    Row d takes places d, d + D, ... of a batch and passes its micro-batches from piece to piece, by
    torch.distributed.pipelining; gradients of a piece are summed over the rows before the optimiser's step. A rank
    keeps the weights of its piece alone.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        settings, ranks = self.settings, self.ranks
        pieces = settings.pieces_of(ranks.world)
        self.chain = Chain(self.network)
        self.cuts = self._cuts(pieces)
        mesh = init_device_mesh(ranks.device.type, (ranks.world // pieces, pieces), mesh_dim_names=("data", "model"))
        self.parts, self.pieces = ranks.world // pieces, pieces
        self.part, self.place = divmod(ranks.rank, pieces)
        self.column, self.row = mesh.get_group("data"), mesh.get_group("model")
        edges = (0, *self.cuts, len(self.chain))
        self.piece = Piece(self.chain, edges[self.place], edges[self.place + 1])
        modules = [module for k in range(*edges[self.place : self.place + 2]) for module in self.chain.modules_of(k)]
        released(self.network, modules)
        for module in modules:
            module.to(ranks.device)
        self.costs.to(ranks.device)
        self.own, self.reads = own_tensors(self.network, modules), self.piece.reads
        self.piece.precision, self.piece.recompute = self.precision, self.recompute
        self._schedule: Any = None
        self._scale = 1.0
        self._counts: tuple[int, ...] = ()

    def _cuts(self, pieces: int) -> tuple[int, ...]:
        settings, links = self.settings, len(self.chain)
        if pieces > links:
            raise SettingError(f"a network of {links} stages cannot be cut into {pieces} pieces; start fewer ranks")
        cuts = settings.cuts or (PUBLISHED if settings.cut == "published" else ())
        if cuts and cuts[-1] >= links:
            raise SettingError(f"<parallel.cuts> must be below {links}, the number of stages, got {cuts[-1]}")
        if cuts:
            return cuts
        costs = [float(self.chain.parameters_of(k)) for k in range(links)]
        if settings.cut == "time":
            costs = list(self.ranks.agreed(*link_seconds(self.chain)))
        return even_cuts(costs, pieces)

    def _rows(self, subjects: int) -> int:
        """Subjects of a micro-batch; a batch that does not divide is filled up with rows of nobody."""
        most = -(-subjects // self.parts)
        return -(-most // self.settings.micro())

    def _begun(self, subjects: int) -> Any:
        """The schedule for batches of so many subjects on all rows."""
        rows, device = self._rows(subjects), self.ranks.device

        def like(width: int) -> Tensor:
            return torch.empty(rows, width, dtype=self.dtype, device=device, requires_grad=True)

        stage = PipelineStage(
            self.piece, self.place, self.pieces, device, input_args=(like(self.piece.width_in),),
            output_args=(like(self.piece.width_out),), group=self.row,
        )  # fmt: skip

        def cost(outputs: Tensor, values: Tensor) -> Tensor:
            return self.costs.loss(outputs, values, self._counts) * self._scale

        kind = Schedule1F1B if self.settings.schedule == "1f1b" and self.settings.micro() > 1 else ScheduleGPipe
        return kind(stage, self.settings.micro(), loss_fn=cost, scale_grads=False)

    def backward(self, share: Share, scale: float, more: bool) -> float:
        if self._schedule is None or self._schedule[0] != share.size:
            self._schedule = share.size, self._begun(share.size)
        schedule = self._schedule[1]
        rows, device = self._rows(share.size) * self.settings.micro(), self.ranks.device
        self._scale, self._counts = scale, share.counts
        present = torch.zeros(rows, share.present.shape[1], dtype=torch.bool)
        present[: len(share.present)] = share.present
        given = {"present": present.to(device), "items": self._dense(share.items, share.present, rows)}
        values = torch.full((rows, share.values.shape[1]), torch.nan)
        values[: len(share.values)] = share.values
        losses: list[Tensor] = []
        target = {"target": values.to(device), "losses": losses} if self.piece.ends else {}
        start = (torch.zeros(rows, 0, dtype=self.dtype, device=device),) if self.place == 0 else ()
        schedule.step(*start, **given, **target)
        return self.ranks.total(sum(float(one.detach()) for one in losses) / scale)

    def _dense(self, items: Mapping[str, Tensor], present: Tensor, rows: int) -> dict[str, Tensor]:
        """Items of the blocks that begin here, with zeros for subjects who lack them."""
        found = {}
        items = placed(items, self.dtype, self.ranks.device)
        for name in self.piece.reads:
            number = self.network.names.index(name)
            whole = torch.zeros(rows, *self.network.shapes[name], dtype=self.dtype, device=self.ranks.device)
            there = present[:, number].nonzero().ravel()
            if len(there):
                whole[there.to(whole.device)] = items[name]
            found[name] = whole
        return found

    def reduce(self) -> None:
        if self.parts > 1:
            summed_gradients(self.parameters(), self.column)

    def _squares(self, own: Tensor) -> Tensor:
        distributed.all_reduce(own, group=self.row)
        return own

    def _hands_in(self) -> bool:
        return self.part == 0

    def settle(self) -> None:
        if self.parts > 1:
            buffers = [one for one in self.own.values() if not isinstance(one, torch.nn.Parameter)]
            broadcast_buffers(buffers, self.place, self.column)

    def predict(self, read: Read, subjects: NDArray[np.integer], batch: int) -> NDArray[np.float32]:
        training = self.network.training
        self.network.eval()
        width = sum(max(count, 1) for count in self.network.classes)
        out = torch.zeros(len(subjects), width)
        mine = np.arange(self.part, len(subjects), self.parts)
        with torch.no_grad():
            for first in range(0, len(mine), batch):
                rows = mine[first : first + batch]
                found = self._passed(read, subjects[rows])
                if self.piece.ends:
                    out[rows] = found.float().cpu()
        self.network.train(training)
        distributed.all_reduce(out)  # every row of it comes from one rank; the others hold zeros
        return out.numpy()

    def _passed(self, read: Read, subjects: NDArray[np.integer]) -> Tensor:
        """One batch from the first piece to the last; this piece's table."""
        items, present = read(subjects)
        device, rank = self.ranks.device, self.ranks.rank
        table = torch.zeros(len(subjects), self.piece.width_in, dtype=self.dtype, device=device)
        if self.place:
            distributed.recv(table, rank - 1)
        found = self.piece(table, present.to(device), self._dense(items, present, len(subjects)))
        if not self.piece.ends:
            distributed.send(found.contiguous(), rank + 1)
        return found


def link_seconds(chain: Chain, runs: int = 3) -> list[float]:
    """Least seconds of a forward and backward pass of every link for one subject who has all blocks, in eval mode."""
    network = chain.network
    training = network.training
    network.eval()
    like = next(network.parameters())
    times = [0.0] * len(chain)
    for k in range(len(chain)):
        piece = Piece(chain, k, k + 1)
        present = torch.ones(1, len(network.names), dtype=torch.bool, device=like.device)
        items = {name: like.new_zeros((1, *network.shapes[name])) for name in piece.reads}
        table = like.new_zeros((1, piece.width_in), requires_grad=True)
        taken = []
        for _ in range(runs):
            start = time.perf_counter()
            piece(table, present, items).sum().backward()
            if like.is_cuda:
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - start)
        times[k] = min(taken)
    network.zero_grad(set_to_none=True)
    network.train(training)
    return times
