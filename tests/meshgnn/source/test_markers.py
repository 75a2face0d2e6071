"""Laws of the warp between markers, and series of QuickNII as XML."""

import json
from pathlib import Path

import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.source.poses.markers import Warp, bends_of
from meshgnn.source.poses.quint import read_anchorings
from meshgnn.source.sections import Section

SIZE = (400.0, 300.0)


def some_markers(count: int = 12, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    linear = rng.uniform([40, 30], [360, 270], (count, 2))
    return np.hstack([linear, linear + rng.uniform(-6, 6, (count, 2))])


def section(mirrored: bool = False, turn_deg: float = 0.0) -> Section:
    plain = Section(path=Path("s.tif"), index=4, position_mm=2.0, pixel_um=100, thickness_um=20, shape=(300, 400))
    c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    turn = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
    return Section(
        path=plain.path, index=4, position_mm=2.0, pixel_um=100, thickness_um=20, shape=(300, 400), mirrored=mirrored,
        to_space=turn @ plain.to_space,
    )  # fmt: skip


def test_markers_are_seen_where_they_say_and_the_rim_stays() -> None:
    markers = some_markers()
    warp = Warp.of(markers, *SIZE)
    np.testing.assert_allclose(
        markers[:, :2] + warp.moves(markers[:, :2] / SIZE) * SIZE, markers[:, 2:], atol=1e-9
    )  # fmt: skip
    far = np.array([[-0.2, 0.5], [1.3, 0.5], [0.5, 1.2], [-0.1, -0.1]])
    np.testing.assert_allclose(warp.moves(far), 0, atol=1e-12)


def test_one_marker_moves_the_picture_linearly_towards_the_corners() -> None:
    warp = Warp.of(np.array([[200.0, 150, 220, 150]]), *SIZE)
    half = (np.array([0.5, 0.5]) + np.array([1.1, 0.5])) / 2  # half the way to the right rim
    np.testing.assert_allclose(warp.moves(half), [0.025, 0], atol=1e-12)


@pytest.mark.parametrize("turn_deg", [0.0, 20.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_pixels_and_places_agree_with_the_markers(mirrored: bool, turn_deg: float) -> None:
    """A marker's place by the anchoring alone, taken to space, is seen at the pixel where the marker was put."""
    markers, plain = some_markers(5, seed=3), section(mirrored, turn_deg)
    stored = Warp.of(markers, *SIZE)
    bends, left_out = bends_of({4: plain}, {4: stored.mirrored() if mirrored else stored})
    assert not left_out
    x, y = markers[:, :2].T - 0.5
    seen_x, seen_y = markers[:, 2:].T - 0.5
    if mirrored:
        x, seen_x = 399 - x, 399 - seen_x
    points = plain.pixel_to_mm(y, x)
    from dataclasses import replace

    bent = replace(plain, bend=bends[4])
    row, column, away = bent.mm_to_pixel(points)
    np.testing.assert_allclose(np.stack([row, column]), np.stack([seen_y, seen_x]), atol=1.0)  # corners are rounded off
    np.testing.assert_allclose(away, 0, atol=1e-9)
    np.testing.assert_allclose(bent.pixel_to_mm(row, column), points, atol=1e-4)


@pytest.mark.parametrize(
    ("markers", "why"),
    [
        ([[100, 100, 300, 100], [300, 100, 100, 100], [200, 200, 200, 200]], "fold the picture"),
        ([[100, 100, 150, 150], [200, 200, 150, 150]], "two markers at one place"),
        ([[100, 150, 100, 150], [150, 150, 215, 150]], "too far apart"),
    ],
)
def test_warps_that_cannot_be_are_left_out(markers: list[list[float]], why: str) -> None:
    bends, left_out = bends_of({4: section()}, {4: Warp.of(np.array(markers, float), *SIZE)})
    assert not bends
    assert why in left_out[4]


def test_no_markers_no_bends() -> None:
    assert bends_of({4: section()}, {}) == ({}, {})


def test_xml_of_quicknii_says_what_its_json_says(tmp_path: Path) -> None:
    numbers = {name: 1.5 * k for k, name in enumerate(("ox", "oy", "oz", "ux", "uy", "uz", "vx", "vy", "vz"))}
    anchoring = "&".join(f"{name}={value}" for name, value in numbers.items())  # as QuickNII writes it, not escaped
    for text in (anchoring, anchoring.replace("&", "&amp;")):
        (tmp_path / "s.xml").write_text(
            "<?xml version='1.0' encoding='UTF-8'?><series first='1' last='2' name='a &amp; b'>"
            f"<slice filename='s1.png' nr='1' width='400' height='300' anchoring='{text}'/>"
            "<slice filename='s2.png' nr='2' width='400' height='300'/></series>"
        )
        found, voxel, without = read_anchorings(tmp_path / "s.xml")
        assert (voxel, without) == (0.0, 1)
        assert (found[0].file, found[0].number, found[0].width) == ("s1.png", 1, 400.0)
        np.testing.assert_allclose(found[0].span.ravel(), list(numbers.values()))
    same = {"filename": "s1.png", "nr": 1, "width": 400, "height": 300, "anchoring": list(numbers.values())}
    (tmp_path / "s.json").write_text(json.dumps({"slices": [same]}))
    np.testing.assert_array_equal(read_anchorings(tmp_path / "s.json")[0][0].span, found[0].span)


@pytest.mark.parametrize(
    "text",
    [
        "<series><slice filename='s' nr='1'",
        "<!DOCTYPE a [<!ENTITY b 'c'>]><series><slice filename='&b;'/></series>",
        "<html></html>",
        "<series/>",
    ],
)
def test_other_xml_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "s.xml").write_text(text)
    with pytest.raises(InputError, match="not a series of QuickNII"):
        read_anchorings(tmp_path / "s.xml")
    (tmp_path / "s.xml").write_text(
        "<series><slice filename='s' nr='1' width='4' height='3' anchoring='ox=1&oy=2'/></series>"
    )
    with pytest.raises(InputError, match=r"no number|not finite"):
        read_anchorings(tmp_path / "s.xml")
