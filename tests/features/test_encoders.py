"""Encoders keep their laws; geometry gives the closed-form values of a sphere."""

from pathlib import Path

import numpy as np
import pytest
import torch

from features.encoders.table import TableEncoder
from features.geometry import Geometry
from meshgnn.errors import InputError
from meshgnn.progress import silent
from meshgnn.sockets import Brain, Encoder, FeatureMaker
from meshgnn.testing import assert_encoder
from tests.synthetic import brain


def test_the_table_encoder_keeps_the_laws_and_tells_missing_from_zero():
    rows = torch.randn(50, 4) * 3 + 2
    rows[::7, 1] = float("nan")
    encoder = TableEncoder.Config().build((4,)).fitted(rows)
    assert isinstance(encoder, Encoder)
    assert_encoder(encoder, rows)
    encoded = encoder(rows)
    assert encoded[0, 1] == 0
    assert encoded[0, 5] == 0
    assert encoded[1, 5] == 1
    assert abs(float(encoded[:, 0].mean())) < 1e-5
    assert encoder.identity() == TableEncoder.Config().build((4,)).fitted(rows).identity()
    assert encoder.identity() != TableEncoder.Config().build((4,)).fitted(rows + 1).identity()
    with pytest.raises(InputError, match="column 0"):
        TableEncoder.Config().build((2,)).fitted(torch.full((3, 2), float("nan")))


def test_geometry_of_concentric_spheres():
    graph = brain(4, medial_wall=False)
    maker = Geometry.Config().build()
    assert isinstance(maker, FeatureMaker)
    assert maker.fit([Brain(graph=graph)], Path(), silent) == []
    assert maker.inputs(Brain(graph=graph)) == []
    table = maker.make(Brain(graph=graph), Path(), silent)
    values = dict(zip(table.columns, table.values.T))
    np.testing.assert_allclose(values["thickness"], 30 * 0.08, rtol=1e-3)
    assert np.median(values["curvature"]) == pytest.approx(1 / 30, rel=0.01)
    np.testing.assert_allclose(values["areaRatio"], 2 * np.log(1.04 / 0.96), rtol=1e-3)
    with pytest.raises(InputError, match="pial and white"):
        maker.inputs(Brain(graph=graph._replace(surfaces={})))
