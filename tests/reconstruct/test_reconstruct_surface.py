"""Laws of the volume part: topology on the lattice, the surface through the tetrahedra, Laplace, remeshing."""

import numpy as np
import pytest

from meshgnn.mesh import metric, topology
from meshgnn.mesh.record import SurfaceMesh
from reconstruct import laplace, lattice, remesh, tetra, voxelise
from reconstruct.records import Ribbon
from reconstruct.steps.midsurface import ExtractMidsurface


def grid(half: int, step: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    x, y, z = np.meshgrid(*[np.arange(-half, half + 1) * step] * 3, indexing="ij")
    return x, y, z, np.sqrt(x**2 + y**2 + z**2)


def mesh_of(values: np.ndarray, level: float = 0.0) -> SurfaceMesh:
    vertices, faces = tetra.surface(values.astype(np.float32), level)
    return SurfaceMesh(vertices_mm=vertices, faces=faces, hemisphere="L", space="test")


def torus(half: int = 24) -> np.ndarray:
    x, y, z, _ = grid(half)
    return 5 - np.hypot(np.hypot(x, y) - 14, z)


def test_link_is_a_sphere_of_14_vertices() -> None:
    edges = sum(mask.bit_count() for mask in lattice.link_neighbours()) // 2
    assert edges == 36  # V - E + F = 14 - 36 + 24 = 2
    table = lattice.simple_table()
    assert not table[0]
    assert not table[-1]  # neither an isolated voxel nor one in the midst is simple
    assert (table == table[::-1]).all()  # object and background may change places


def test_surface_is_closed_and_has_the_topology_of_its_mask(rng: np.random.Generator) -> None:
    noise = rng.random((14, 15, 16)) < 0.5
    mask = np.pad(noise, 1)
    mesh = mesh_of(np.where(mask, 1.0, -1.0))
    assert topology.edges_not_in_two_faces(mesh) == 0
    assert topology.euler_number(mesh) == 2 * lattice.euler_number(mask)


@pytest.mark.parametrize(("name", "euler"), [("sphere", 2), ("torus", 0), ("two", 4)])
def test_euler_numbers(name: str, euler: int) -> None:
    x, y, z, r = grid(24)
    two = np.maximum(6 - np.sqrt((x - 10) ** 2 + y**2 + z**2), 6 - np.sqrt((x + 10) ** 2 + y**2 + z**2))
    mesh = mesh_of({"sphere": 15.3 - r, "torus": torus(), "two": two}[name])
    assert topology.euler_number(mesh) == euler
    assert topology.edges_not_in_two_faces(mesh) == 0
    assert metric.volume_mm3(mesh) > 0  # faces turn outward


def test_torus_is_found_and_repaired() -> None:
    mask = torus() > 0
    assert lattice.euler_number(mask) == 0
    fixed, repairs = lattice.make_spherical(mask)
    assert lattice.euler_number(fixed) == 1
    assert [(repair.kind, repair.handles) for repair in repairs] == [("handle cut", 1)]
    assert (mask ^ fixed).sum() == repairs[0].voxels < 0.05 * mask.sum()


def test_every_fault_is_repaired_the_cheap_way_and_listed() -> None:
    x, y, z, r = grid(28)
    mask = r < 18
    mask &= ~(np.hypot(x - 5, y) < 1.5)  # a tunnel right through: cheaper filled than cut
    mask |= (np.abs(np.hypot(x - 18, z) - 6) < 1.5) & (np.abs(y) < 1.5)  # a handle outside: cheaper cut
    mask[12:15, 28, 28] = False  # a cavity
    mask[2, 2, 2] = True  # an island
    fixed, repairs = lattice.make_spherical(mask)
    assert lattice.euler_number(fixed) == 1
    kinds = {repair.kind: repair for repair in repairs}
    assert set(kinds) == {"island removed", "cavity filled", "handle cut", "hole filled"}
    assert kinds["handle cut"].centre[0] > 40
    assert abs(kinds["hole filled"].centre[0] - 33) < 2
    assert (mask ^ fixed).sum() == sum(repair.voxels for repair in repairs) < 60


def test_any_mask_becomes_a_sphere(rng: np.random.Generator) -> None:
    fixed, repairs = lattice.make_spherical(rng.random((20, 20, 20)) < 0.6)
    assert lattice.euler_number(fixed) == 1
    assert topology.euler_number(mesh_of(np.pad(np.where(fixed, 1.0, -1.0), 1, constant_values=-1))) == 2
    assert sum(repair.handles for repair in repairs) > 100


# Inner and outer radius, voxel: histology reference 6.1. Its staircase solver is off by 0.05 to 0.3 voxel; ours must
# stay within 0.1 and is 0.005.
SHELLS = [(17, 20, 1.0), (17, 20, 0.5), (20, 30, 1.0), (20, 30, 0.5)]


@pytest.mark.parametrize(("inner", "outer", "step"), SHELLS)
def test_shell(inner: float, outer: float, step: float) -> None:
    half = int(np.ceil(outer / step)) + 2
    *_, r = grid(half, step)
    u, _ = laplace.solve((r - outer).astype(np.float32), (r - inner).astype(np.float32))
    middle = 2 * inner * outer / (inner + outer)
    vertices, faces = tetra.surface(u, 0.5)
    radius = np.linalg.norm((vertices - half) * step, axis=1)
    assert abs(radius.mean() - middle) < 0.02 * step
    assert np.abs(radius - middle).mean() < 0.02 * step
    assert np.abs(radius - middle).max() < 0.15 * step
    mesh = SurfaceMesh(vertices_mm=vertices * step, faces=faces, hemisphere="L", space="test")
    assert metric.face_areas(mesh).sum() == pytest.approx(4 * np.pi * middle**2, rel=0.004)
    assert metric.volume_mm3(mesh) == pytest.approx(4 / 3 * np.pi * middle**3, rel=0.004)
    assert topology.euler_number(mesh) == 2
    ribbon = (r < outer) & (r > inner)
    exact = (1 / r[ribbon] - 1 / outer) / (1 / inner - 1 / outer)
    assert np.abs(u[ribbon] - exact).mean() < 0.004


def test_shell_error_is_second_order() -> None:
    errors = []
    for step in (1.0, 0.5):
        *_, r = grid(int(np.ceil(20 / step)) + 2, step)
        u, _ = laplace.solve((r - 20).astype(np.float32), (r - 17).astype(np.float32), tolerance=1e-6)
        ribbon = (r < 20) & (r > 17)
        errors.append(np.abs(u[ribbon] - (1 / r[ribbon] - 1 / 20) / (1 / 17 - 1 / 20)).mean())
    assert errors[0] / errors[1] > 3  # 2 for a staircase


def test_slab_is_linear() -> None:
    x = np.arange(16.0)[:, None, None] + np.zeros((16, 61, 61))
    pial, white = (3.3 - x).astype(np.float32), (10.7 - x).astype(np.float32)
    classes = laplace.classify(pial, white)
    classes[:, [0, -1]] = classes[:, :, [0, -1]] = laplace.OUTSIDE  # the sides, too far away to matter in the middle
    u, _ = laplace.solve(pial, white, classes, tolerance=1e-6)
    assert u[4:11, 30, 30] == pytest.approx((np.arange(4, 11) - 3.3) / 7.4, abs=2e-4)


def test_maximum_principle(rng: np.random.Generator) -> None:
    *_, r = grid(24)
    pial, white = (r - 20).astype(np.float32), (r - 12 + 2 * rng.random(r.shape)).astype(np.float32)
    u, _ = laplace.solve(pial, white)
    ribbon = laplace.classify(pial, white) == laplace.RIBBON
    assert u[ribbon].min() > 0
    assert u[ribbon].max() <= 1


def test_remesh_keeps_topology_and_reaches_the_edge_length() -> None:
    vertices, faces = tetra.surface(torus().astype(np.float32), 0.0)
    for target in (0.9, 2.0):
        points, triangles = remesh.remesh(vertices, faces, target)
        mesh = SurfaceMesh(vertices_mm=points, faces=triangles, hemisphere="L", space="test")
        edges, counts = topology.undirected_edges(mesh)
        length = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
        assert topology.euler_number(mesh) == 0
        assert (counts == 2).all()
        assert length.mean() == pytest.approx(target, rel=0.06)
        assert length.std() / length.mean() < 0.15


def test_voxelised_mesh_gives_back_the_sphere() -> None:
    *_, r = grid(20)
    mesh = mesh_of(14.3 - r)
    distance = voxelise.signed_distance(mesh.vertices_mm, mesh.faces, r.shape, 3.0)
    assert np.abs(distance - np.clip(r - 14.3, -3, 3)).max() < 0.05


def ellipsoid_ribbon(planted: bool = False) -> Ribbon:
    x, y, z, _ = grid(34)
    level = (np.sqrt((x / 28) ** 2 + (y / 22) ** 2 + (z / 18) ** 2) - 1) * 20
    pial, white = level, level + 4
    if planted:  # a bridge of white matter from side to side through the air, and a tunnel through the middle
        ring = np.hypot(np.hypot(x - 26, z) - 8, y)
        pial, white = np.minimum(pial, ring - 3), np.minimum(white, ring - 1.5)
        hole = 2.2 - np.hypot(x + 6, y)
        pial, white = np.maximum(pial, hole), np.maximum(white, hole)
    affine = np.diag([1.0, 1, 1, 1])
    return Ribbon(pial=pial.astype(np.float32), white=white.astype(np.float32), affine=affine, space="test",
                  hemisphere="L")  # fmt: skip


def test_ellipsoid_midsurface() -> None:
    result = ExtractMidsurface.Config(edge_mm=2.0).build()(ellipsoid_ribbon())
    assert result.report["euler_number"] == 2
    assert not result.repairs
    assert result.cortex.all()
    points = result.mesh.vertices_mm - 34
    level = (np.linalg.norm(points / np.array([28, 22, 18]), axis=1) - 1) * 20
    assert np.abs(level + 2).max() < 0.6  # between the two, a little inside the middle where it is curved
    assert np.linalg.norm(result.normals, axis=1) == pytest.approx(1, abs=1e-4)
    assert ((result.normals * points).sum(1) > 0).all()  # towards pial


def test_planted_handles_are_repaired_and_listed() -> None:
    result = ExtractMidsurface.Config(edge_mm=2.0).build()(ellipsoid_ribbon(planted=True))
    assert result.report["euler_number"] == 2
    assert result.report["components"] == 1
    assert sum(one["handles"] for one in result.repairs) >= 2
    assert all(len(one["position_mm"]) == 3 and one["volume_mm3"] > 0 for one in result.repairs)
