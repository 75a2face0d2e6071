"""A network of several inputs as a chain of links that can be cut, and pieces of it. N blocks, T outputs."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from features.encoders.item_encoder import ItemEncoder
from features.encoders.recompute import recomputed
from features.fusion.multi_input_net import MultiInputNet
from features.fusion.parts import Part


class Chain:
    """The links of a network: the stages of its encoders, the last ones of all encoders side by side, then fusion and
    head.

    Args:
        network: whose modules the links are.
    """

    def __init__(self, network: MultiInputNet) -> None:
        self.network = network
        encoders: list[Any] = list(network.encoders)
        stages = [one.stages() if isinstance(one, ItemEncoder) else (one,) for one in encoders]
        depth = max(map(len, stages))
        self.starts = tuple(depth - len(own) for own in stages)
        # links[k][i]: the stage of block i in link k; the last link is fusion and head.
        self.links: list[list[nn.Module | None]] = [
            [own[k - start] if k >= start else None for own, start in zip(stages, self.starts)] for k in range(depth)
        ]

    def __len__(self) -> int:
        return len(self.links) + 1

    def modules_of(self, link: int) -> list[nn.Module]:
        """Of a link, those of all blocks."""
        if link == len(self.links):
            return [self.network.fusion, self.network.head]
        return [module for module in self.links[link] if module is not None]

    def parameters_of(self, link: int) -> int:
        """Number of parameters of a link."""
        return sum(one.numel() for module in self.modules_of(link) for one in module.parameters())

    def shapes(self) -> list[list[tuple[int, ...] | None]]:
        """Per link and block, the shape of what goes in for one subject; None where the block begins later. The last
        row is what the fusion takes."""
        rows: list[list[tuple[int, ...] | None]] = []
        given: list[tuple[int, ...] | None] = [None] * len(self.starts)
        for k, modules in enumerate(self.links):
            begun = [self.network.shapes[name] for name in self.network.names]
            given = [begun[i] if start == k else given[i] for i, start in enumerate(self.starts)]
            rows.append(given)
            given = [
                None if module is None or shape is None else _shape_after(module, shape)
                for module, shape in zip(modules, given)
            ]
        return [*rows, given]


def _shape_after(module: nn.Module, shape: Sequence[int]) -> tuple[int, ...]:
    """Of one subject's output; nothing is computed."""
    state = {name: torch.empty_like(one, device="meta") for name, one in _state(module)}
    dtype = next((one.dtype for one in state.values() if one.is_floating_point()), torch.float32)
    with torch.no_grad():
        found = functional_call(module, state, (torch.empty(2, *shape, device="meta", dtype=dtype),))
    return tuple(found.shape[1:])


def _state(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


class Piece(nn.Module):
    """Some links of a chain in a row, from a plain table [B, width in] to another, as pipelines pass them on.

    A table holds the maps of all blocks that have begun, side by side, with zeros for subjects who lack a block. A link
    runs for those who have the block; what a subject lacks gets no gradient and moves no statistics. Items of blocks
    that begin within the piece are given to it directly.

    Args:
        chain: the whole.
        first, last: links [first, last).
    """

    def __init__(self, chain: Chain, first: int, last: int) -> None:
        super().__init__()
        self.first, self.last, self.starts, self.names = first, last, chain.starts, chain.network.names
        self._links = [chain.modules_of(k) for k in range(first, last)]
        self.modules_of_links = nn.ModuleList(module for link in self._links for module in link)
        self.ends = last == len(chain)
        shapes = chain.shapes()
        self.shapes_in, self.shapes_out = shapes[first], shapes[min(last, len(chain.links))]
        self.into = self._begun(self.shapes_in, first)
        outputs = sum(max(count, 1) for count in chain.network.classes)
        self.width_in = sum(map(_numbers, self.into.values()))
        self.width_out = outputs if self.ends else sum(map(_numbers, self._begun(self.shapes_out, last).values()))
        # Names of the blocks whose items this piece reads.
        self.reads = tuple(name for name, start in zip(self.names, self.starts) if first <= start < last)
        self.recompute, self.precision = False, "float"
        self._anchor = torch.zeros(1, requires_grad=True)

    def _begun(self, shapes: Sequence[tuple[int, ...] | None], link: int) -> dict[int, tuple[int, ...]]:
        """Shapes of the blocks that have begun before a link, by number."""
        return {i: shape for i, shape in enumerate(shapes) if shape is not None and self.starts[i] < link}

    def forward(self, table: Tensor, present: Tensor, items: Mapping[str, Tensor]) -> Tensor:
        """[B, width in] -> [B, width out]; outputs [B, T] from the last piece.

        Args:
            table: of the piece before; [B, 0] for the first.
            present: [B, N] bool. A row without any block stands for nobody; its outputs are 0.
            items: [B, *shape] of the blocks of `reads`, zeros for subjects who lack them.
        """
        device = table.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16"):
            found = self._outputs(table, present, items) if self.ends else self._maps(table, present, items)
        # Whatever is frozen or absent, there is a way for gradients from the output to the input.
        anchor = self._anchor.to(table).expand(len(table), 1)
        return torch.cat([found.to(table.dtype), table[:, :0], anchor[:, :0]], 1)

    def _run(self, table: Tensor, present: Tensor, items: Mapping[str, Tensor]) -> list[Part | None]:
        """All links but that of fusion and head."""
        parts: list[Part | None] = []
        columns = dict(zip(self.into, table.split([_numbers(shape) for shape in self.into.values()], 1)))
        places = [0] * len(self._links)
        for i, start in enumerate(self.starts):
            rows = present[:, i].nonzero().ravel()
            values: Tensor | None = None
            if len(rows) and i in self.into:
                values = columns[i][rows].unflatten(1, self.into[i])
            for place, link in enumerate(self._links[: len(self._links) - self.ends]):
                if self.first + place < start:
                    continue
                module, places[place] = link[places[place]], places[place] + 1
                if not len(rows):
                    continue
                if self.first + place == start:
                    values = items[self.names[i]][rows]
                assert values is not None
                again = self.recompute and torch.is_grad_enabled()
                values = recomputed(module, values) if again else module(values)
            parts.append(None if values is None else Part(rows=rows, values=values))
        return parts

    def _maps(self, table: Tensor, present: Tensor, items: Mapping[str, Tensor]) -> Tensor:
        found, parts = [], self._run(table, present, items)
        for i, shape in self._begun(self.shapes_out, self.last).items():
            part = parts[i]
            empty = table.new_zeros((len(table), _numbers(shape)))
            found.append(empty if part is None else empty.index_copy(0, part.rows, part.values.flatten(1).to(empty)))
        return torch.cat(found, 1)

    def _outputs(self, table: Tensor, present: Tensor, items: Mapping[str, Tensor]) -> Tensor:
        real = present.any(1).nonzero().ravel()
        empty = table.new_zeros((len(table), self.width_out))
        if not len(real):
            return empty
        present = present[real]
        rows = {name: one[real] for name, one in items.items()}
        parts = self._run(table[real], present, rows)
        fusion, head = self._links[-1]
        return empty.index_copy(0, real, head(fusion(parts, present)).to(empty))


def _numbers(shape: Sequence[int]) -> int:
    return int(torch.Size(shape).numel())
