"""Checks of a stored model, made before memory is allocated or a brain is read."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from meshgnn.data.inputs import CoordinateFrame
from meshgnn.errors import InputError
from meshgnn.mesh.record import HEMISPHERES
from meshgnn.nn import CoordinateEncoder, NetworkConfig, NodeModel

INPUTS = 1 << 20  # per node; the configs state the limits of everything else


def check_members(
    network: NetworkConfig,
    coordinates: CoordinateEncoder.Config,
    n_features: int,
    n_areas: int,
    weights: Mapping[int, Sequence[Mapping[str, torch.Tensor]]],
) -> None:
    """Raises InputError unless every member's weights are those of the network described."""
    if not 0 <= n_features <= INPUTS:
        raise InputError(f"n_features is {n_features}, at most {INPUTS} make sense")
    if not weights or not all(weights.values()):
        raise InputError("names no member")
    first = next(iter(weights.values()))[0]
    n_coordinates = 3 if any(name.startswith("encoder.") for name in first) else 0
    with torch.device("meta"):  # shapes without memory
        expected = NodeModel(network, coordinates, n_features, n_coordinates, n_areas).state_dict()
    shapes = {name: tuple(value.shape) for name, value in expected.items()}
    for seed, members in weights.items():
        for fold, member in enumerate(members):
            if {name: tuple(value.shape) for name, value in member.items()} != shapes:
                raise InputError(f"the weights of member {seed}/{fold} do not fit the network described")
            if not all(bool(torch.isfinite(value).all()) for value in member.values()):
                raise InputError(f"member {seed}/{fold} has weights that are not finite")


def check_frame(frame: CoordinateFrame, prior: NDArray[Any], n_areas: int) -> None:
    """Raises InputError unless the coordinate frame and the class frequencies are usable."""
    if frame.hemisphere not in HEMISPHERES:
        raise InputError(f"frame.hemisphere is {frame.hemisphere!r}, not L or R")
    if not (np.isfinite(frame.unit_mm) and frame.unit_mm > 0):
        raise InputError(f"frame.unit_mm is {frame.unit_mm}, not a positive number")
    cloud = frame.cloud_mm
    if frame.centre_mm.shape != (3,) or cloud.ndim != 2 or cloud.shape[1] != 3 or not len(cloud):
        raise InputError(f"the frame has a centre {frame.centre_mm.shape} and points {cloud.shape}, not [3] and [N, 3]")
    if not (np.isfinite(frame.centre_mm).all() and np.isfinite(cloud).all()):
        raise InputError("the frame's coordinates are not finite")
    if prior.shape != (n_areas,) or not np.isfinite(prior).all() or (prior < 0).any():
        raise InputError(f"class frequencies {prior.shape} for {n_areas} areas")
