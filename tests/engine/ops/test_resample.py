"""Resampling: images against SimpleITK, labels against explicit one-hot maps."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy import ndimage
from scipy.stats import special_ortho_group

from fireants_engine.errors import InputError
from fireants_engine.geometry import Grid, Image, apply_matrix
from fireants_engine.ops import resample, warp_each, warp_image, warp_labels
from fireants_engine.transforms import Affine, Chain, Displacement, Transform


def a_grid(size, spacing, seed: int, flip: bool = False) -> Grid:
    dim = len(size)
    direction = special_ortho_group.rvs(dim, random_state=seed)
    if flip:
        direction = direction @ np.diag([-1.0] + [1.0] * (dim - 1))
    origin = np.random.default_rng(seed).uniform(-50, 50, dim)
    return Grid(tuple(size), tuple(spacing), tuple(origin), direction)


def shifted(grid: Grid) -> Grid:
    """As many samples, half a voxel further."""
    origin = np.asarray(grid.origin_mm) + 0.5 * np.asarray(grid.spacing_mm)
    return Grid(grid.size, grid.spacing_mm, tuple(origin), grid.direction)


def as_itk(array: np.ndarray, grid: Grid) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.origin_mm)
    image.SetDirection(grid.direction.ravel().tolist())
    return image


def itk_affine(affine: Affine) -> sitk.AffineTransform:
    out = sitk.AffineTransform(affine.dim)
    out.SetMatrix(affine.matrix[:-1, :-1].ravel().tolist())
    out.SetTranslation(affine.matrix[:-1, -1].tolist())
    return out


def matching_affine(fixed: Grid, moving: Grid, seed: int = 0) -> Affine:
    """A random affine that brings the centre of fixed near that of moving."""
    rng = np.random.default_rng(seed)
    dim = fixed.dim
    linear = np.eye(dim) + 0.15 * rng.normal(size=(dim, dim))
    shift = moving.centre_mm - fixed.centre_mm + rng.normal(size=dim)
    return Affine.about(linear, shift, fixed.centre_mm)


GRIDS = {
    "2D": (((17, 23), (1.0, 1.7), 1), ((21, 14), (0.8, 2.1), 2)),
    "3D": (((17, 13, 9), (1.0, 1.3, 2.7), 3), ((11, 19, 15), (1.9, 0.9, 1.4), 4)),
    "thin": (((17, 13, 5), (1.0, 1.3, 2.7), 3), ((14, 19, 2), (1.9, 0.9, 4.0), 4)),
}


class Counted(Transform):
    """A transform of which nothing is known but where it takes points."""

    def __init__(self, inner: Transform) -> None:
        self.inner, self.dim, self.points = inner, inner.dim, 0

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        self.points += len(points_mm)
        return self.inner(points_mm)

    def inverse(self) -> Transform:
        return self.inner.inverse()


ITK_METHODS = {
    "nearest": sitk.sitkNearestNeighbor,
    "linear": sitk.sitkLinear,
    "bspline": sitk.sitkBSpline,
    "sinc": sitk.sitkLanczosWindowedSinc,
}


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("case", GRIDS)
@pytest.mark.parametrize("name", ITK_METHODS)
def test_warp_image_is_itks_resampling(case: str, flip: bool, name: str) -> None:
    fixed, moving = (a_grid(*spec, flip=flip) for spec in GRIDS[case])
    if name == "bspline" and case == "thin":  # ITK mirrors two samples wrongly in the outer half
        moving = a_grid((14, 19, 3), (1.9, 0.9, 4.0), 4, flip=flip)
    values = np.random.default_rng(5).normal(size=moving.shape).astype(np.float32)
    values = ndimage.gaussian_filter(values, 1.0)
    affine = matching_affine(fixed, moving)
    image = Image.from_numpy(values, moving)
    ours = warp_image(image, affine, fixed, fill=-9, interpolation=name)
    truth = sitk.GetArrayFromImage(
        sitk.Resample(
            as_itk(values, moving), as_itk(np.zeros(fixed.shape), fixed), itk_affine(affine),
            ITK_METHODS[name], -9.0, sitk.sitkFloat32,
        )
    )  # fmt: skip
    assert ours.grid is fixed
    assert 0.1 < (truth == -9).mean() < 0.9  # both inside and outside are tested
    differs = np.abs(ours.numpy() - truth) > 1e-4 * np.abs(values).max()
    assert differs.mean() <= (2e-3 if name == "nearest" else 0)  # ties may round either way


@pytest.mark.parametrize("name", ["bspline", "sinc"])
def test_through_a_warp_too_it_is_itks(name: str) -> None:
    """The displacements are ITK's to begin with: an own field on the fixed grid."""
    fixed, moving = (a_grid(*spec) for spec in GRIDS["3D"])
    rng = np.random.default_rng(8)
    values = ndimage.gaussian_filter(rng.normal(size=moving.shape), 0.7).astype(np.float32)
    field = ndimage.gaussian_filter(rng.normal(size=(*fixed.shape, 3)), (2, 2, 2, 0)) * 20
    field += moving.centre_mm - fixed.centre_mm
    itk_field = sitk.GetImageFromArray(field, isVector=True)
    itk_field.CopyInformation(as_itk(np.zeros(fixed.shape), fixed))
    truth = sitk.GetArrayFromImage(
        sitk.Resample(
            as_itk(values, moving), as_itk(np.zeros(fixed.shape), fixed),
            sitk.DisplacementFieldTransform(itk_field), ITK_METHODS[name], 0.0, sitk.sitkFloat32,
        )
    )  # fmt: skip
    warp = Displacement.from_mm(field, fixed)
    ours = warp_image(Image.from_numpy(values, moving), warp, fixed, interpolation=name).numpy()
    away = np.abs(ours - truth) > 2e-4 * np.abs(values).max()
    assert (truth != 0).mean() > 0.3
    assert away.mean() < 1e-3  # points on the rim fall in or out by rounding


@pytest.mark.parametrize("name", ["linear", "bspline", "sinc"])
def test_at_the_voxels_every_interpolation_gives_the_image(name: str) -> None:
    grid = a_grid((9, 8, 7), (0.7, 1.1, 3.0), 11)
    image = Image.from_numpy(np.random.default_rng(0).normal(size=grid.shape), grid)
    got = warp_image(image, Affine.identity(3), grid, interpolation=name).numpy()
    np.testing.assert_allclose(got, image.numpy(), atol=1e-5)


def test_two_slices_are_mirrored_at_either_end_by_bsplines() -> None:
    values = np.random.default_rng(0).normal(size=(2, 5, 6))
    image = Image.from_numpy(values)
    turned = Image.from_numpy(values[::-1].copy())
    fine = Grid((6, 5, 9), (1.0, 1.0, 0.24), (0.0, 0.0, -0.46), np.eye(3))
    got = warp_image(image, Affine.identity(3), fine, interpolation="bspline").numpy()
    back = warp_image(turned, Affine.identity(3), fine, interpolation="bspline").numpy()
    np.testing.assert_allclose(got, back[::-1], atol=1e-5)


def test_a_bspline_is_smooth_where_linear_is_not() -> None:
    """Halfway between the voxels of a cubic, B-splines are exact; linear is off by f''/8."""
    x = np.arange(40.0)
    line = np.repeat((1e-3 * (x - 20) ** 3)[None], 3, axis=0)
    image = Image.from_numpy(line)
    between = Grid((10, 1), (1.0, 1.0), (15.5, 1.0), np.eye(2))
    truth = 1e-3 * (15.5 + np.arange(10) - 20) ** 3
    spline = warp_image(image, Affine.identity(2), between, interpolation="bspline").numpy()[0]
    straight = warp_image(image, Affine.identity(2), between).numpy()[0]
    np.testing.assert_allclose(spline, truth, atol=1e-4)
    assert np.abs(straight - truth).max() > 3e-3


def test_nearest_keeps_whole_numbers_of_any_size() -> None:
    grid = Grid.identity((5, 4))
    values = np.array([0, 2**31 + 5, 2**40 + 1])[np.random.default_rng(0).integers(0, 3, (4, 5))]
    shift = Affine.about(np.eye(2), np.array([1.2, 0.0]), np.zeros(2))
    got = warp_image(Image.from_numpy(values, grid), shift, grid, interpolation="nearest").numpy()
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got[:, :4], values[:, 1:])
    assert (got[:, 4] == 0).all()


def test_a_fill_has_to_fit_whole_numbers() -> None:
    image = Image.from_numpy(np.zeros((4, 5), np.uint8), name="scan")
    for fill in (-1, 0.5, 256, np.nan):
        with pytest.raises(InputError, match=r"scan: .* does not fit its whole numbers"):
            warp_image(image, Affine.identity(2), image.grid, interpolation="nearest", fill=fill)


def test_label_is_the_vote() -> None:
    fixed, moving = (a_grid(*spec) for spec in GRIDS["3D"])
    labels = np.random.default_rng(0).integers(0, 9, moving.shape).astype(np.int32)
    image, affine = Image.from_numpy(labels, moving), matching_affine(fixed, moving)
    got = warp_image(image, affine, fixed, interpolation="label")
    assert torch.equal(got.data, warp_labels(image, affine, fixed).data)


def test_an_unknown_interpolation_is_one_sentence() -> None:
    image = Image.from_numpy(np.zeros((4, 5)))
    with pytest.raises(InputError) as caught:
        warp_image(image, Affine.identity(2), image.grid, interpolation="cubic")
    assert str(caught.value) == (
        "interpolation 'cubic' is not known; choose one of linear, nearest, bspline, sinc, label."
    )


@pytest.mark.parametrize("name", ITK_METHODS)
def test_channels_are_resampled_alike(name: str) -> None:
    fixed, moving = (a_grid(*spec) for spec in GRIDS["2D"])
    rgb = np.random.default_rng(0).integers(0, 255, (*moving.shape, 3), dtype=np.uint8)
    affine = matching_affine(fixed, moving)
    colour = Image.from_numpy(rgb, moving, channels=True)
    together = warp_image(colour, affine, fixed, interpolation=name)
    for c in range(3):
        grey = Image.from_numpy(rgb[..., c], moving)
        single = warp_image(grey, affine, fixed, interpolation=name)
        torch.testing.assert_close(together.data[c], single.data[0])


@pytest.mark.parametrize("name", ITK_METHODS)
def test_slabs_do_not_show(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    fixed, moving = (a_grid(*spec) for spec in GRIDS["3D"])
    values = np.random.default_rng(0).normal(size=moving.shape).astype(np.float32)
    labels = Image.from_numpy((values * 3).astype(np.int16), moving)
    affine, image = matching_affine(fixed, moving), Image.from_numpy(values, moving)
    whole = warp_image(image, affine, fixed, interpolation=name)
    voted = warp_labels(labels, affine, fixed)
    monkeypatch.setattr(resample, "_POINTS_PER_CHUNK", 2 * 17 * 13 + 1)
    again = warp_image(image, affine, fixed, interpolation=name)
    torch.testing.assert_close(again.data, whole.data)
    assert torch.equal(warp_labels(labels, affine, fixed).data, voted.data)


@pytest.mark.parametrize("case", GRIDS)
def test_a_warp_on_the_grid_before_affine_maps_is_not_looked_up(case: str) -> None:
    """Its own values are taken, and the coordinates are those of the look-up."""
    fixed, moving = (a_grid(*spec) for spec in GRIDS[case])
    affine, rng = matching_affine(fixed, moving), np.random.default_rng(3)
    shift = Affine.about(np.eye(fixed.dim), np.ones(fixed.dim), fixed.centre_mm)
    u = torch.from_numpy(2 * rng.normal(size=(1, fixed.dim, *fixed.shape))).float()
    warp, other = Displacement(u, fixed), Displacement(u, shifted(fixed))
    direct = [[affine], [affine, shift], [warp, affine], [warp, shift, affine], [warp]]
    looked_up = [[shift, warp, affine], [warp, warp, affine], [other, affine]]
    for parts in [*direct, *looked_up]:
        for start, stop in ((0, None), (1, 3)):
            truth = resample.coordinates(Counted(Chain(parts)), fixed, moving, start, stop)
            found = resample.coordinates(Chain(parts), fixed, moving, start, stop)
            np.testing.assert_allclose(found[0], truth[0], atol=1e-5)
            assert torch.equal(found[1], truth[1])
            by_matrix = resample._by_matrix(Chain(parts), fixed, moving, 0, 2)
            assert (by_matrix is not None) == (parts in direct)


@pytest.mark.parametrize("name", [*ITK_METHODS, "label"])
def test_a_series_is_each_of_its_images(name: str) -> None:
    fixed, moving = (a_grid(*spec) for spec in GRIDS["3D"])
    rng = np.random.default_rng(0)
    images = [Image.from_numpy(rng.integers(0, 9, moving.shape), moving) for _ in range(3)]
    affine = Counted(matching_affine(fixed, moving))
    together = list(warp_each(iter(images), affine, fixed, interpolation=name))
    assert affine.points == fixed.voxels  # the transform is evaluated once, not for every image
    for image, got in zip(images, together, strict=True):
        alone = warp_image(image, affine, fixed, interpolation=name)
        assert torch.equal(got.data, alone.data)
    with pytest.raises(ValueError, match="another grid"):
        list(warp_each([images[0], Image.from_numpy(np.zeros((3, 4, 5)))], affine, fixed))


def test_a_chain_is_resampled_once() -> None:
    """Two half shifts of half a voxel each leave no blur; two resamplings would."""
    grid = Grid.identity((16, 12))
    values = np.random.default_rng(0).random(grid.shape)
    half = Affine.about(np.eye(2), np.array([0.5, 0.5]), np.zeros(2))
    moved = warp_image(Image.from_numpy(values, grid), Chain([half, half]), grid).numpy()
    np.testing.assert_allclose(moved[:-1, :-1], values[1:, 1:], atol=1e-5)


def test_the_outer_half_voxel_takes_the_edge_value_and_then_comes_the_fill() -> None:
    line = Image.from_numpy(np.array([[1.0, 2.0, 3.0]]))
    fine = Grid((13, 1), (0.4, 1.0), (-1.2, 0.0), np.eye(2))  # x = -1.2, -.8, -.4, 0, ... 3.6
    got = warp_image(line, Affine.identity(2), fine, fill=7).numpy()[0]
    x = -1.2 + 0.4 * np.arange(13)
    inside = (x >= -0.5) & (x <= 2.5)
    np.testing.assert_allclose(got[inside], 1 + np.clip(x[inside], 0, 2), atol=1e-5)
    assert (got[~inside] == 7).all()


def test_dimensions_have_to_agree() -> None:
    image = Image.from_numpy(np.zeros((3, 4)), name="scan")
    with pytest.raises(InputError, match="scan is 2D but the transform is 3D"):
        warp_image(image, Affine.identity(3), Grid.identity((4, 3)))
    with pytest.raises(InputError, match="scan is 2D but the grid of the result is 3D"):
        warp_image(image, Affine.identity(2), Grid.identity((4, 3, 2)))


# ------------------------------------------------------------------------------- labels
def by_one_hot(labels: np.ndarray, source: Grid, transform, grid: Grid) -> np.ndarray:
    """Linear interpolation of every label's map, argmax (first of equals), in float64."""
    at = apply_matrix(source.matrix("mm", "voxel"), transform(grid.points_mm())).T
    names = np.unique(labels)
    shares = [
        ndimage.map_coordinates((labels == n).astype(float), at, order=1, mode="nearest")
        for n in names
    ]
    shares = np.round(shares, 5)  # equal up to rounding is a tie: the smallest label
    out = names[np.argmax(shares, axis=0)]
    limit = np.array(source.shape)[:, None] - 0.5
    out[((at < -0.5) | (at > limit)).any(axis=0)] = 0
    return out.reshape(grid.shape)


def agree(got: np.ndarray, truth: np.ndarray) -> None:
    """Float32 weights may decide a near-tie otherwise; nothing else may differ."""
    assert (got != truth).mean() < 1e-3


@pytest.mark.parametrize("case", GRIDS)
@pytest.mark.parametrize("count", [2, 7, 200])
def test_labels_are_one_hot_linear_argmax(case: str, count: int) -> None:
    fixed, moving = (a_grid(*spec) for spec in GRIDS[case])
    labels = np.random.default_rng(count).integers(0, count, moving.shape).astype(np.int32)
    affine = matching_affine(fixed, moving)
    got = warp_labels(Image.from_numpy(labels, moving), affine, fixed).numpy()
    assert got.dtype.kind == "i"
    agree(got, by_one_hot(labels, moving, affine, fixed))


def test_labels_through_a_random_warp() -> None:
    grid = Grid.identity((19, 14, 9), (1.0, 1.5, 2.0))
    labels = np.random.default_rng(0).integers(0, 12, grid.shape).astype(np.uint8)
    u = torch.from_numpy(np.random.default_rng(1).normal(size=(1, 3, *grid.shape))).float()
    warp = Displacement(u, grid)
    got = warp_labels(Image.from_numpy(labels, grid), warp, grid).numpy()
    agree(got, by_one_hot(labels, grid, warp, grid))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([-5, -1, 3], np.int16),
        ([0, 200, 255], np.uint8),
        ([0, 614454277, 2**31 - 1], np.int32),
        ([0, 2**31 + 5, 2**32 - 1], np.uint32),
        ([-(2**40), 2**24 + 1, 2**53 + 1], np.int64),
        ([-128, 1, 127], np.int8),
        ([0.0, 4.0, 614454277.0], np.float64),
        ([0.0, 4.0, 4294967295.0], np.float64),
    ],
)
def test_labels_of_any_value_come_back_unchanged(values: list, dtype: type) -> None:
    grid = Grid.identity((9, 8, 7))
    labels = np.array(values, dtype)[np.random.default_rng(0).integers(0, 3, grid.shape)]
    shift = Affine.about(np.eye(3), np.array([0.3, 0.2, -0.1]), np.zeros(3))
    got = warp_labels(Image.from_numpy(labels, grid), shift, grid).numpy()
    assert np.issubdtype(got.dtype, np.integer)
    agree(got.astype(np.int64), by_one_hot(labels.astype(np.int64), grid, shift, grid))


@pytest.mark.parametrize(("pair", "winner"), [((3, 8), 3), ((8, 3), 3), ((0, 4), 0), ((-2, 0), -2)])
def test_ties_go_to_the_smallest_label(pair: tuple[int, int], winner: int) -> None:
    labels = Image.from_numpy(np.array([pair], dtype=np.int16))
    between = Grid((1, 1), (1.0, 1.0), (0.5, 0.0), np.eye(2))
    assert int(warp_labels(labels, Affine.identity(2), between).data) == winner


def test_the_identity_changes_no_label() -> None:
    labels = np.random.default_rng(0).integers(-3, 300, (6, 7, 8)).astype(np.int32)
    grid = a_grid((8, 7, 6), (0.7, 1.1, 3.0), 11)
    got = warp_labels(Image.from_numpy(labels, grid), Affine.identity(3), grid).numpy()
    np.testing.assert_array_equal(got, labels)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([[0.5, 1.0]]), "seg.*whole numbers"),
        (np.array([[np.nan, 1.0]]), "seg.*whole numbers"),
        (np.array([[np.inf, 1.0]]), "seg.*whole numbers"),
    ],
)
def test_values_that_are_no_labels_are_refused(array: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        warp_labels(Image.from_numpy(array, name="seg"), Affine.identity(2), Grid.identity((2, 1)))


def test_colour_is_no_label_map() -> None:
    colour = Image.from_numpy(np.zeros((4, 5, 3), np.uint8), channels=True, name="seg")
    with pytest.raises(InputError, match=r"seg.*one channel, not 3"):
        warp_labels(colour, Affine.identity(2), colour.grid)
