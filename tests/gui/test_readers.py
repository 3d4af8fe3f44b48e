"""Files that others wrote, as layers: every voxel lies where ITK says it lies."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import npe2
import numpy as np
import pytest
import SimpleITK as sitk
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer, Vectors
from napari.utils.notifications import notification_manager
from scipy.spatial.transform import Rotation

from fireants_engine import Grid, register, replay
from fireants_engine import Image as EngineImage
from fireants_engine.errors import InputError
from fireants_engine.geometry.orientation import nearest_order, reordered
from fireants_engine.io import load_image, save_image
from napari_fireants import _readers
from napari_fireants._layers import file_of, placed, snapshot, to_image, upright

TILT = Rotation.from_euler("xyz", [8, -12, 15], degrees=True).as_matrix()
FLIP = np.diag([-1.0, -1.0, 1.0])
SAGITTAL = np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
DIRECTIONS = {
    "plain": np.eye(3),
    "flipped": FLIP,
    "oblique": TILT,
    "sagittal": SAGITTAL,
    "oblique sagittal": TILT @ SAGITTAL,
    "flat": np.array([[0.0, 1.0], [-1.0, 0.0]]),
    "flat oblique": TILT[:2, :2] / np.linalg.norm(TILT[:2, :2], axis=0),
}
DIRECTIONS["flat oblique"] = Rotation.from_euler("z", 20, degrees=True).as_matrix()[:2, :2]

pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")


def itk_image(array: np.ndarray, direction: np.ndarray, vector: bool = False) -> sitk.Image:
    dim = len(direction)
    item = sitk.GetImageFromArray(array, isVector=vector)
    item.SetSpacing((0.7, 2.0, 3.5)[:dim])
    item.SetOrigin((12.0, -30.0, 7.5)[:dim])
    item.SetDirection(np.asarray(direction, dtype=float).ravel().tolist())
    return item


def opened(path: Path | str, reader: Any = _readers.get_image_reader) -> list[Layer]:
    layers: list[Layer] = []
    viewer = ViewerModel()
    for data in reader(str(path))(str(path)):
        layers += viewer._add_layer_from_data(*data)
    return layers


def notes() -> str:
    return " ".join(note.message for note in notification_manager.records)


@pytest.fixture(autouse=True)
def no_notes() -> None:
    notification_manager.records.clear()


# ------------------------------------------------------------------ where
@pytest.mark.parametrize("kind", DIRECTIONS)
def test_every_voxel_lies_where_itk_says(tmp_path: Path, kind: str) -> None:
    direction = DIRECTIONS[kind]
    suffix = {"oblique": ".nrrd", "oblique sagittal": ".mha"}.get(kind, ".nii.gz")
    dim = len(direction)
    shape = (4, 5, 6)[-dim:]
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape) - 7  # each value once
    item = itk_image(array, direction)
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(item, str(path))
    (layer,) = opened(path)
    assert isinstance(layer, Image)
    assert layer.data.dtype == np.int16
    for index in ([0] * dim, [1, 3, 2][:dim], [n - 1 for n in shape[::-1]]):
        found = np.argwhere(layer.data == item.GetPixel(*index))
        place = sitk.ReadImage(str(path)).TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(layer.data_to_world(found[0]), place[::-1], atol=1e-4)
    assert {str(unit) for unit in layer.units} == {"millimeter"}
    assert file_of(layer) == str(path.resolve())
    assert snapshot(layer).notes == ()


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS.keys())
def test_a_grid_becomes_a_layer_and_a_grid_again(direction: np.ndarray) -> None:
    dim = len(direction)
    grid = Grid((6, 5, 4)[:dim], (0.7, 2.0, 3.5)[:dim], (12.0, -30.0, 7.5)[:dim], direction)
    array, turned = upright(np.arange(grid.voxels).reshape(grid.shape), grid)
    layer = Image(array, **placed(turned))
    again = to_image(snapshot(layer)).grid
    assert again.size == turned.size
    for name in ("spacing_mm", "origin_mm", "direction"):
        np.testing.assert_allclose(getattr(again, name), getattr(turned, name), atol=1e-9)
    order = nearest_order(grid.direction)
    assert turned.same_space(reordered(grid, order), tol=1e-9)


def test_exchanged_axes_are_no_out_of_plane_rotation(tmp_path: Path) -> None:
    """napari's 2D view shows them right, and does not warn."""
    import warnings

    sitk.WriteImage(
        itk_image(np.random.default_rng(0).random((4, 5, 6)), SAGITTAL), str(tmp_path / "a.nii")
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (layer,) = opened(tmp_path / "a.nii")
    assert layer.data.shape == (5, 6, 4)


def test_nothing_is_read_with_torch(tmp_path: Path) -> None:
    sitk.WriteImage(itk_image(np.zeros((4, 5, 6), np.float32), np.eye(3)), str(tmp_path / "a.nii"))
    sitk.WriteTransform(sitk.Euler3DTransform(), str(tmp_path / "a.tfm"))
    code = (
        "import sys; from pathlib import Path; from napari_fireants._read_images import open_image;"
        "from fireants_engine.io import load_transform;"
        f"open_image(Path({str(tmp_path / 'a.nii')!r}));"
        f"load_transform({str(tmp_path / 'a.tfm')!r}); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stdout + done.stderr


def test_napari_opens_it_by_the_manifest(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    sitk.WriteImage(itk_image(np.zeros((4, 5, 6), np.float32), TILT), str(path))
    npe2.PluginManager.instance().discover()
    viewer = ViewerModel()
    (layer,) = viewer.open(path, plugin="napari-fireants")
    assert (layer.name, layer.source.reader_plugin) == ("scan", "napari-fireants")
    assert file_of(layer) == str(path.resolve())
    with pytest.raises(InputError, match="not stacked"):
        viewer.open([path, path], stack=True, plugin="napari-fireants")


# ------------------------------------------------------------------ what
def nifti(path: Path, array: np.ndarray, unit: str = "sec", step: float = 1.0, intent: int = 0):
    item = nib.Nifti1Image(array, np.diag([2.0, 2.0, 3.0, 1.0]))
    item.header.set_xyzt_units("mm", unit)
    if array.ndim > 3:
        item.header["pixdim"][4] = step
    item.header["intent_code"] = intent
    item.to_filename(path)
    return path


@pytest.mark.parametrize(("unit", "step"), [("sec", 2.5), ("msec", 2500.0)])
def test_a_series_has_an_axis_of_seconds(tmp_path: Path, unit: str, step: float) -> None:
    array = np.random.default_rng(0).random((5, 6, 7, 3)).astype(np.float32)
    (layer,) = opened(nifti(tmp_path / "bold.nii.gz", array, unit, step))
    assert layer.data.shape == (3, 7, 6, 5)
    assert [str(unit) for unit in layer.units] == ["second", *["millimeter"] * 3]
    assert layer.axis_labels == ("t", "z", "y", "x")
    np.testing.assert_allclose(layer.data_to_world((2, 1, 1, 1)), (5, 3, -2, -2))
    assert file_of(layer) is None  # one time point of it is not the file
    single = nifti(tmp_path / "one.nii.gz", array[..., :1])
    assert opened(single)[0].data.shape == (7, 6, 5)


@pytest.mark.parametrize(
    ("name", "array", "labels"),
    [
        ("seg.nii.gz", np.arange(120, dtype=np.int16), True),
        ("sub-01_dseg.nii.gz", np.arange(120, dtype=np.float32), True),
        ("BrainMask.nii.gz", np.arange(120) % 2 == 1, True),
        ("t1_masked.nii.gz", np.arange(120, dtype=np.int16), False),
        ("labels.nii.gz", np.arange(120, dtype=np.float32) / 3, False),
        ("what.nii.gz", np.arange(120, dtype=np.int16) % 30, True),
        ("ct.nii.gz", np.arange(120, dtype=np.int16) % 30 - 5, False),
        ("t1.nii.gz", np.arange(120, dtype=np.int16), False),
    ],
)
def test_which_files_are_labels(tmp_path: Path, name: str, array: Any, labels: bool) -> None:
    array = array.astype(np.uint8) if array.dtype == bool else array
    (layer,) = opened(nifti(tmp_path / name, array.reshape(4, 5, 6)))
    assert isinstance(layer, Labels) is labels


def test_the_intent_of_nifti_says_labels(tmp_path: Path) -> None:
    array = np.arange(120, dtype=np.float32).reshape(4, 5, 6)
    assert isinstance(opened(nifti(tmp_path / "x.nii", array, intent=1002))[0], Labels)
    assert isinstance(opened(nifti(tmp_path / "y.nii", array + 0.5, intent=1002))[0], Image)


def test_colours_and_channels(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 255, (4, 5, 6, 3)).astype(np.uint8)
    path = tmp_path / "stain.nii.gz"
    sitk.WriteImage(itk_image(colour, TILT, vector=True), str(path))
    (layer,) = opened(path)
    assert layer.rgb
    np.testing.assert_array_equal(layer.data, colour)
    path = tmp_path / "stack.nrrd"
    many = np.random.default_rng(0).random((4, 5, 6, 2)).astype(np.float32)
    sitk.WriteImage(itk_image(many, SAGITTAL, vector=True), str(path))
    first, second = opened(path)
    assert (first.name, second.name) == ("stack, channel 1", "stack, channel 2")
    np.testing.assert_array_equal(np.sort(second.data, axis=None), np.sort(many[..., 1], axis=None))
    np.testing.assert_allclose(first.data_to_world((0, 0, 0)), (7.5, -30, 12))
    assert file_of(first) is None


def test_what_cannot_be_shown_is_told(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    array[0] = np.nan
    (layer,) = opened(nifti(tmp_path / "z.nii.gz", array))
    assert layer.data.max() > 0
    assert "z.nii.gz holds NaN" in notes()
    five = nib.Nifti1Image(np.zeros((3, 4, 5, 2, 2), np.float32), np.eye(4))
    five.to_filename(tmp_path / "five.nii")
    with pytest.raises(InputError, match=r"five\.nii: is 5D"):
        opened(tmp_path / "five.nii")
    (tmp_path / "cut.nii").write_bytes((tmp_path / "five.nii").read_bytes()[:400])
    with pytest.raises(InputError, match="truncated"):
        opened(tmp_path / "cut.nii")


def test_a_remembered_reader_still_says_why(tmp_path: Path, monkeypatch: Any) -> None:
    """napari then asks for another reader and does not show the sentence."""
    (tmp_path / "cut.nii").write_bytes(b"")
    monkeypatch.setattr("napari.plugins.utils.get_preferred_reader", lambda _: "napari-fireants")
    with pytest.raises(InputError):
        opened(tmp_path / "cut.nii")
    assert "cut.nii: the file is truncated" in notes()


# ------------------------------------------------------------------ transforms
def ends_mm(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Where arrows begin and end, LPS mm."""
    start, way = layer.data[:, 0], layer.data[:, 1]
    world = [[layer.data_to_world(p)[::-1] for p in places] for places in (start, start + way)]
    return np.array(world[0]), np.array(world[1])


def waves(direction: np.ndarray) -> sitk.Image:
    dim = len(direction)
    shape = (24, 30, 36)[-dim:]
    axes = np.meshgrid(*[np.linspace(0, 3, n) for n in shape], indexing="ij")
    field = np.stack([2 * np.sin(axes[k % dim] + k) for k in range(dim)], axis=-1)
    return itk_image(field.astype(np.float64), direction, vector=True)


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        ("plain", ".nii.gz"),
        ("oblique sagittal", ".mha"),
        ("flat", ".nii.gz"),
        ("oblique sagittal", ".h5"),
        ("flat", ".h5"),
    ],
)
def test_arrows_end_where_the_transform_takes_them(tmp_path: Path, kind: str, suffix: str) -> None:
    field = waves(DIRECTIONS[kind])
    path = tmp_path / f"1Warp{suffix}"
    if suffix == ".h5":
        dim = field.GetDimension()
        transform = sitk.CompositeTransform(dim)
        transform.AddTransform(sitk.TranslationTransform(dim, (1.0, 2.0, 3.0)[:dim]))
        transform.AddTransform(sitk.DisplacementFieldTransform(field))
        sitk.WriteTransform(transform, str(path))
        (layer,) = opened(path, _readers.get_transform_reader)
    else:
        sitk.WriteImage(field, str(path))
        transform = sitk.DisplacementFieldTransform(field)
        (layer,) = opened(path)
    assert isinstance(layer, Vectors)
    assert 50 < len(layer.data) < 30_000
    start, end = ends_mm(layer)
    for k in range(0, len(start), max(1, len(start) // 40)):
        expected = transform.TransformPoint(start[k].tolist())
        np.testing.assert_allclose(end[k], expected, atol=1e-3)
    lengths = np.linalg.norm(end - start, axis=1)
    np.testing.assert_allclose(layer.features["mm"], lengths, atol=1e-3)
    assert layer.metadata["fireants"]["kind"] == "displacement"
    assert "1Warp" in notes()
    assert "longest is" in notes()


@pytest.mark.parametrize("suffix", [".mat", ".tfm", ".txt"])
def test_an_affine_is_told_in_words_and_shown_around_its_centre(
    tmp_path: Path, suffix: str
) -> None:
    item = sitk.AffineTransform(3)
    item.SetMatrix((1.1 * Rotation.from_euler("z", 10, degrees=True).as_matrix()).ravel().tolist())
    item.SetCenter((10.0, 20.0, 30.0))
    item.SetTranslation((3.0, 0.0, 4.0))
    path = tmp_path / f"0GenericAffine{suffix}"
    sitk.WriteTransform(item, str(path))
    (layer,) = opened(path, _readers.get_transform_reader)
    start, end = ends_mm(layer)
    np.testing.assert_allclose(end[7], item.TransformPoint(start[7].tolist()), atol=1e-3)
    np.testing.assert_allclose((start.min(0) + start.max(0)) / 2, (10, 20, 30), atol=1e-6)
    assert "turns by 10°, scales by 1.1 × 1.1 × 1.1, shifts its centre by 5 mm" in notes()


def test_files_of_others_are_left_to_others(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("shopping")
    (tmp_path / "data.mat").write_bytes(b"MATLAB 5.0 MAT-file" + b" " * 200)
    (tmp_path / "table.h5").write_bytes(b"\x89HDF\r\n" + b" " * 200)
    for name in ("notes.txt", "data.mat", "table.h5", "gone.mat"):
        assert _readers.get_transform_reader(str(tmp_path / name)) is None
    assert _readers.get_run_reader(str(tmp_path)) is None


def test_a_list_of_points_has_names(tmp_path: Path) -> None:
    text = "# Markups fiducial file version = 4.11\n# CoordinateSystem = RAS\n"
    text += "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
    (tmp_path / "F.fcsv").write_text(
        text + "1,1,2,3,0,0,0,1,1,1,0,AC,,\n2,4,5,6,0,0,0,1,1,1,0,,,\n"
    )
    (layer,) = opened(tmp_path / "F.fcsv", _readers.get_points_reader)
    np.testing.assert_allclose(layer.data, [[3, -2, -1], [6, -5, -4]])
    assert list(layer.features["name"]) == ["AC", ""]
    assert str(layer.units[0]) == "millimeter"


# ------------------------------------------------------------------ runs
@pytest.fixture
def run_folder(tmp_path: Path, pair_3d: Any, recipe: Any) -> Path:
    """A run of two files, stored sagittally, with labels of the moving one."""
    images = {}
    labels = (pair_3d[1] > 40).astype(np.uint8)
    for name, array in (("fix", pair_3d[0]), ("mov", pair_3d[1]), ("mov_seg", labels)):
        path = tmp_path / f"{name}.nii.gz"
        sitk.WriteImage(itk_image(array, SAGITTAL), str(path))
        images[name] = EngineImage.from_numpy(
            array, Grid((28, 32, 24), (0.7, 2.0, 3.5), (12.0, -30.0, 7.5), SAGITTAL),
            name=path.name, path=str(path),
        )  # fmt: skip
    from fireants_engine import Extras

    result = register(
        images["fix"], images["mov"], recipe(3), extras=Extras(moving_labels=images["mov_seg"])
    )
    result.save(tmp_path / "out")
    return tmp_path / "out"


def test_a_run_opens_with_its_parts(run_folder: Path) -> None:
    layers = opened(run_folder, _readers.get_run_reader)
    names = ["fix", "mov", "mov (registered)", "mov_seg (registered)", "Jacobian"]
    assert [layer.name for layer in layers] == names
    assert [layer.visible for layer in layers] == [True, False, True, True, False]
    assert isinstance(layers[3], Labels)
    assert layers[3].opacity < 0.5
    assert [layer.metadata["fireants"]["role"] for layer in layers] == [
        "fixed", "moving", "result", "labels", "jacobian",
    ]  # fmt: skip
    assert file_of(layers[0]) == str(run_folder.parent / "fix.nii.gz")
    assert file_of(layers[2]) == str(run_folder / "warped.nii.gz")
    grids = [to_image(snapshot(layer)).grid for layer in layers]
    assert all(grids[0].same_space(grid) for grid in grids[2:])
    low, high = layers[4].contrast_limits
    assert low + high == pytest.approx(2)
    assert notes() == ""
    by_report = opened(run_folder / "report.json", _readers.get_run_reader)
    assert len(by_report) == 5


def test_what_a_run_lacks_is_told_and_the_rest_opens(run_folder: Path) -> None:
    (run_folder.parent / "mov.nii.gz").unlink()
    shutil.copy(run_folder / "jacobian.nii.gz", run_folder.parent / "fix.nii.gz")
    layers = opened(run_folder, _readers.get_run_reader)
    assert [layer.metadata["fireants"]["role"] for layer in layers] == [
        "fixed", "result", "labels", "jacobian",
    ]  # fmt: skip
    assert "out: the rest is open without this: the moving image" in notes()
    assert "fix.nii.gz has changed since the run" in notes()


def test_an_input_that_a_workflow_made_opens_from_the_folder(run_folder: Path) -> None:
    """Half a brain or a section made ready, not the file that it was made from."""
    report = json.loads((run_folder / "report.json").read_text())
    report["inputs"]["fixed"] |= {"path": None, "kept": "fixed.nii.gz"}
    (run_folder / "report.json").write_text(json.dumps(report))
    half = load_image(run_folder.parent / "fix.nii.gz")
    save_image(EngineImage(half.data * 0.5, half.grid), run_folder / "fixed.nii.gz")
    fixed, *_ = opened(run_folder, _readers.get_run_reader)
    assert fixed.metadata["fireants"]["role"] == "fixed"
    assert fixed.name == "fix"
    assert float(np.max(fixed.data)) == pytest.approx(0.5 * float(half.data.max()))
    assert not notes()


def test_a_run_of_such_layers_is_replayed_from_their_files(run_folder: Path, recipe: Any) -> None:
    """The files are stored sagittally, the layers lie as napari shows them."""
    fixed, moving, *_ = opened(run_folder, _readers.get_run_reader)
    mask = opened(run_folder.parent / "mov_seg.nii.gz")[0]
    images = [to_image(snapshot(layer)) for layer in (fixed, moving)]
    images[1] = images[1].with_mask(to_image(snapshot(mask)))
    result = register(*images, recipe(3))
    result.save(run_folder.parent / "again")
    assert json.loads((run_folder.parent / "again" / "report.json").read_text())["inputs"]["fixed"][
        "path"
    ] == str(run_folder.parent / "fix.nii.gz")
    again = replay(run_folder.parent / "again")
    np.testing.assert_array_equal(again.moved.numpy(), result.moved.numpy())


def test_a_run_dropped_on_napari_is_ours(run_folder: Path) -> None:
    npe2.PluginManager.instance().discover()
    commands = {r.command for r in npe2.PluginManager.instance().iter_compatible_readers(
        [str(run_folder)])}  # fmt: skip
    assert "napari-fireants.read_run" in commands
    viewer = ViewerModel()
    assert len(viewer.open(run_folder, plugin="napari-fireants")) == 5
