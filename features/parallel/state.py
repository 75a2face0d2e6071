"""Weights and optimiser state by the names of the whole network, whatever part of it a rank holds."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


def own_tensors(network: nn.Module, own: Iterable[nn.Module]) -> dict[str, Tensor]:
    """Parameters and buffers of some modules of a network, by their names in the network."""
    mine = {id(one) for module in own for one in (*module.parameters(), *module.buffers())}
    return {name: one for name, one in _named(network) if id(one) in mine}


def released(network: nn.Module, own: Iterable[nn.Module]) -> None:
    """Give back the memory of all that is not in `own`; its parameters stay as names and shapes."""
    kept = {id(module) for one in own for module in one.modules()}
    for module in network.modules():
        if id(module) in kept:
            continue
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(parameter.to("meta"), requires_grad=False))
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, buffer.to("meta"))


def whole(tensor: Tensor) -> Tensor:
    """A copy in the memory of the CPU; all of a tensor that is cut over ranks, which all of them must ask for."""
    found = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return found.detach().cpu().clone()


def put(into: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Write values over tensors of the same names."""
    with torch.no_grad():
        for name, one in into.items():
            one.copy_(_like(one, values[name]))


def optimiser_tensors(optimiser: torch.optim.Optimizer, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of an optimiser as "name of the parameter|name of the value"; of a cut tensor all of it."""
    found = {}
    for name, parameter in own.items():
        for key, value in optimiser.state.get(parameter, {}).items():
            if value is not None:
                found[f"{name}|{key}"] = whole(torch.as_tensor(value))
    return found


def put_optimiser(optimiser: torch.optim.Optimizer, own: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """The state that `optimiser_tensors` gave, of those parameters that this optimiser moves."""
    moved = {id(one) for group in optimiser.param_groups for one in group["params"]}
    kept: dict[str, dict[str, Any]] = {}
    for place, value in values.items():
        name, _, key = place.rpartition("|")
        if name in own and id(own[name]) in moved:
            # A value of the parameter's own shape lies where the parameter does; a number of steps stays on the CPU.
            same = value.shape == own[name].shape and value.ndim > 0
            kept.setdefault(name, {})[key] = _like(own[name], value) if same else value
    for name, state in kept.items():
        optimiser.state[own[name]] = state


def _like(tensor: Tensor, value: Tensor) -> Tensor:
    value = value.to(device=tensor.device, dtype=tensor.dtype)
    if isinstance(tensor, DTensor):
        return distribute_tensor(value, tensor.device_mesh, tensor.placements)
    return value.clone()


def _named(network: nn.Module) -> list[tuple[str, Tensor]]:
    """What files hold: buffers that are made anew from a network's shape are not among them."""
    kept = network.state_dict().keys()
    return [*network.named_parameters(), *((name, one) for name, one in network.named_buffers() if name in kept)]
