"""Pictures show what is there: the near side, the right colours, nothing outside the brain."""

import imagecodecs
import numpy as np

from meshgnn.export.picture import area_strips, data_address, visible_faces
from tests.synthetic import brain, sphere


def test_a_sphere_shows_its_near_half_as_a_disc():
    mesh = sphere(4, radius_mm=30)
    shown, bright = visible_faces(mesh, from_left=True, scale=2, size=(130, 130))
    disc = shown >= 0
    assert abs(disc.sum() / (np.pi * 60**2) - 1) < 0.03
    centres = mesh.vertices_mm[mesh.faces].mean(1)
    assert (centres[np.unique(shown[disc]), 0] < 3).all()  # seen from the left: only the left half
    assert bright.min() >= 0.45
    # Anterior is at the left edge when seen from the left.
    left_edge = shown[65][disc[65]][0]
    assert centres[left_edge, 1] > 25


def test_strips_are_coloured_by_area():
    graph = brain(3)
    strips = area_strips(graph, [graph.labels, np.full(graph.n_nodes, -1)], graph.areas, height=60)
    first, second = (imagecodecs.png_decode(strip) for strip in strips)
    assert first.shape == second.shape
    assert first.shape[0] == 60
    colourful = np.ptp(first.astype(int), axis=2) > 40
    assert colourful.mean() > 0.3
    assert not (np.ptp(second.astype(int), axis=2) > 40).any()
    assert data_address(strips[0]).startswith("data:image/png;base64,")
