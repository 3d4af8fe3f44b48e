"""What is written lies where napari showed it and holds the same values, or is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import npe2
import numpy as np
import pytest
import SimpleITK as sitk
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer, Points, Vectors
from napari.utils.notifications import notification_manager
from scipy.spatial.transform import Rotation

from fireants_engine.errors import InputError
from fireants_engine.io import load_named_points
from napari_fireants import _readers, _writers

TILT = Rotation.from_euler("xyz", [8, -12, 15], degrees=True).as_matrix()
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3], OBLIQUE[:3, 3] = TILT @ np.diag([1.0, -1.0, 1.0]), (5, -7, 11)
PLACES: dict[str, dict[str, Any]] = {
    "plain": {"scale": (3.0, 0.5, 2.0), "translate": (10, -20, 30)},
    "rotated": {"scale": (3.0, 0.5, 2.0), "rotate": TILT, "translate": (1, 2, 3)},
    "oblique, flipped": {"scale": (3.0, 0.5, 2.0), "affine": OBLIQUE},
}
DATA = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)

pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")


@pytest.fixture(autouse=True)
def plugins() -> None:
    if "napari-fireants" not in npe2.PluginManager.instance():
        npe2.PluginManager.instance().discover()
    notification_manager.records.clear()


def save(path: Path, *layers: Layer) -> list[Path]:
    viewer = ViewerModel()
    for layer in layers:
        viewer.add_layer(layer)
    return [Path(each) for each in viewer.layers.save(str(path), plugin="napari-fireants")]


def opened(path: Path, reader: Any = _readers.get_image_reader) -> list[Layer]:
    return [Layer.create(*data) for data in reader(str(path))(str(path))]


@pytest.mark.parametrize(
    ("place", "suffix", "unit", "factor"),
    [
        ("plain", ".nii", "mm", 1.0),
        ("rotated", ".nii.gz", "mm", 1.0),
        ("oblique, flipped", ".nii.gz", "um", 1e-3),
        ("oblique, flipped", ".nrrd", "mm", 1.0),
        ("oblique, flipped", ".mha", "mm", 1.0),
    ],
)
def test_an_image_is_where_itk_finds_it(
    tmp_path: Path, place: str, suffix: str, unit: str, factor: float
) -> None:
    layer = Image(DATA, units=(unit,) * 3, name="scan", **PLACES[place])
    (path,) = save(tmp_path / f"scan{suffix}", layer)
    item = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(item), DATA)
    for index in ((0, 0, 0), (3, 2, 1), (5, 4, 3)):
        world = np.asarray(layer.data_to_world(index[::-1])) * factor
        place_itk = item.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(place_itk[::-1], world, atol=1e-4 * factor)
    assert not notification_manager.records
    (again,) = opened(path)
    np.testing.assert_array_equal(again.data, DATA)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_values_and_their_type_stay(tmp_path: Path, dtype: str) -> None:
    array = (DATA * 20 + 100).astype(dtype)
    (path,) = save(tmp_path / "x.nii.gz", Image(array, units=("mm",) * 3))
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, array)


def test_labels_2d_bool_and_64_bit(tmp_path: Path) -> None:
    labels = np.arange(120).reshape(4, 5, 6)
    (path,) = save(tmp_path / "my labels", Labels(labels, units=("mm",) * 3))
    assert path.name == "my labels.nii.gz"
    (again,) = opened(path)
    assert isinstance(again, Labels)
    assert again.data.dtype == np.int32
    np.testing.assert_array_equal(again.data, labels)
    (path,) = save(tmp_path / "mask.mha", Image(DATA[0] > 0, units=("mm",) * 2, scale=(2, 3)))
    item = sitk.ReadImage(str(path))
    assert item.GetSpacing() == (3.0, 2.0)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(item), DATA[0] > 0)


@pytest.mark.parametrize("suffix", _writers.IMAGES)
@pytest.mark.parametrize("shape", [(4, 5, 6, 3), (7, 8, 4)])
def test_colours_stay_colours(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    colour = np.random.default_rng(0).random(shape)
    layer = Image(colour, rgb=True, units=("mm",) * (len(shape) - 1))
    (path,) = save(tmp_path / f"stain{suffix}", layer)
    (again,) = opened(path)
    assert again.rgb
    np.testing.assert_allclose(again.data / 255, colour, atol=0.002)


def test_a_series_keeps_its_time(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((3, 4, 5, 6)).astype(np.float32)
    affine = np.eye(5)
    affine[1:, 1:] = OBLIQUE
    layer = Image(
        array, scale=(800, 3, 2, 2), translate=(400, 0, 0, 0), units=("ms", "mm", "mm", "mm"),
        affine=affine, axis_labels=("t", "z", "y", "x"),
    )  # fmt: skip
    (path,) = save(tmp_path / "bold.nii.gz", layer)
    (again,) = opened(path)
    np.testing.assert_array_equal(again.data, array)
    expected = np.asarray(layer.data_to_world((2, 1, 1, 1))) * (1e-3, 1, 1, 1)
    np.testing.assert_allclose(again.data_to_world((2, 1, 1, 1)), expected, atol=1e-4)
    turned = affine.copy()
    turned[0, 1] = 0.5
    with pytest.raises(InputError, match="time axis is turned into space"):
        save(tmp_path / "b.nii.gz", Image(array, affine=turned, name="bold"))


@pytest.mark.parametrize("suffix", _writers.POINTS)
@pytest.mark.parametrize("dim", [2, 3])
def test_points_are_in_lps_mm(tmp_path: Path, suffix: str, dim: int) -> None:
    points = np.random.default_rng(0).normal(size=(3, dim)) * 30
    look = {"scale": (2.0, 3.0, 4.0)[:dim], "units": ("cm",) * dim}
    layer = Points(points, features={"name": ["AC", "PC", "MB"]}, **look)
    (path,) = save(tmp_path / f"marks{suffix}", layer)
    found = load_named_points(path, dim)
    expected = [np.asarray(layer.data_to_world(p))[::-1] * 10 for p in points]
    np.testing.assert_allclose(found.points_mm, expected)
    assert found.names == ("AC", "PC", "MB")


# ------------------------------------------------------------------ transforms
def warp_file(path: Path) -> Path:
    shape = (20, 24, 28)
    axes = np.meshgrid(*[np.linspace(0, 3, n) for n in shape], indexing="ij")
    field = np.stack([2 * np.sin(axis + k) for k, axis in enumerate(axes)], axis=-1)
    item = sitk.GetImageFromArray(field, isVector=True)
    item.SetSpacing((1.0, 2.0, 3.0))
    item.SetDirection(TILT.ravel().tolist())
    sitk.WriteImage(item, str(path))
    return path


def test_arrows_are_written_as_the_whole_transform(tmp_path: Path) -> None:
    (layer,) = opened(warp_file(tmp_path / "1Warp.nii.gz"))
    (path,) = save(tmp_path / "copy.mha", layer)
    before, after = sitk.ReadImage(str(tmp_path / "1Warp.nii.gz")), sitk.ReadImage(str(path))
    assert before.GetSize() == after.GetSize()
    for place in ((5.0, 20.0, 30.0), (14.0, 11.0, 29.5)):
        moved = [
            sitk.DisplacementFieldTransform(sitk.Cast(item, sitk.sitkVectorFloat64)).TransformPoint(
                place
            )
            for item in (before, after)
        ]
        np.testing.assert_allclose(moved[0], moved[1], atol=1e-4)
    with pytest.raises(InputError, match="is a deformation; write it as"):
        save(tmp_path / "copy.mat", layer)
    (tmp_path / "1Warp.nii.gz").unlink()
    with pytest.raises(InputError, match="no such file"):
        save(tmp_path / "copy.mha", layer)


def test_an_affine_is_written_as_one(tmp_path: Path) -> None:
    item = sitk.Euler3DTransform((1.0, 2.0, 3.0), 0.1, 0.2, 0.3, (4.0, 5.0, 6.0))
    sitk.WriteTransform(item, str(tmp_path / "a.tfm"))
    (layer,) = opened(tmp_path / "a.tfm", _readers.get_transform_reader)
    (path,) = save(tmp_path / "b.mat", layer)
    again = sitk.ReadTransform(str(path))
    for place in ((0.0, 0.0, 0.0), (10.0, -20.0, 30.0)):
        np.testing.assert_allclose(again.TransformPoint(place), item.TransformPoint(place))
    np.testing.assert_allclose(again.GetFixedParameters(), (1, 2, 3))
    with pytest.raises(InputError, match=r"affine map; write it as \.mat"):
        save(tmp_path / "b.nii.gz", layer)


# ------------------------------------------------------------------ several, and refusals
def test_several_layers_go_into_a_folder(tmp_path: Path) -> None:
    (warp,) = opened(warp_file(tmp_path / "1Warp.nii.gz"))
    layers = [
        Image(DATA, name="a b/c", units=("mm",) * 3),
        Image(DATA, name="a b:c", units=("mm",) * 3),
        Labels(np.ones((4, 5, 6), int), name="mask", units=("mm",) * 3),
        Points(np.ones((2, 3)), name="marks", units=("mm",) * 3),
        warp,
    ]
    paths = save(tmp_path / "out", *layers)
    names = ["a_b_c.nii.gz", "a_b_c_2.nii.gz", "mask.nii.gz", "marks.fcsv", "1Warp.nii.gz"]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    bad = Vectors(np.ones((2, 2, 3)), name="arrows")
    with pytest.raises(InputError, match="arrows: these arrows are not those of a transform"):
        save(tmp_path / "other", layers[0], bad)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1Warp.nii.gz", "out"]


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (Image(DATA, shear=[0.5, 0, 0], name="scan"), "scan is sheared"),
        (Image(DATA, units=("s", "mm", "mm"), name="scan"), "time"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path: Path, layer: Layer, words: str) -> None:
    with pytest.raises(InputError, match=words):
        save(tmp_path / "x.nii.gz", layer)
    assert not list(tmp_path.iterdir())


def test_a_format_without_a_place_is_refused(tmp_path: Path) -> None:
    """napari's dialog hands a writer any name."""
    data, attributes, _ = Image(DATA, name="scan").as_layer_data_tuple()
    with pytest.raises(InputError, match=r"x\.tif: image layers with their place are written as"):
        _writers.write_image(str(tmp_path / "x.tif"), data, attributes)
    with pytest.raises(InputError, match=r"several layers .* name without extension"):
        _writers.write_folder(str(tmp_path / "x.nii.gz"), [(data, attributes, "image")])
    with pytest.raises(InputError, match="no folder"):
        _writers.write_image(str(tmp_path / "gone" / "x.nii"), data, attributes)
    assert _writers.write_image(str(tmp_path / "T1 0.8"), data, attributes) == [
        str(tmp_path / "T1 0.8.nii.gz")
    ]


def test_pixels_are_told_to_be_mm(tmp_path: Path) -> None:
    save(tmp_path / "x.nii", Image(DATA, name="scan"))
    told = [note.message for note in notification_manager.records]
    assert told == ["scan has no physical unit: its numbers are taken as mm."]
