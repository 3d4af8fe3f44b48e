"""EPI correction: signs, units, frames, both routes, and what is refused (WORKFLOWS E1 to E9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from fireants_engine.errors import InputError
from fireants_engine.geometry import Encoding, Grid, Image
from fireants_engine.pipeline import Control, Preview, PreviewRequest
from fireants_engine.recipe import Recipe
from fireants_engine.transforms import Affine, Displacement
from fireants_engine.transforms.distortion import Distortion
from fireants_engine.workflows import epi as w
from fireants_engine.workflows import epi_images as made
from tests.engine.workflows.epi_phantom import (
    READOUT,
    SHAPE,
    field_hz,
    inside,
    laid,
    pair,
    truth,
    volume,
)

STILL = Affine.identity(3)


def known(volumes: Sequence[w.Volume], hz: np.ndarray | None = None) -> w.Correction:
    """The correction by the true field."""
    grid = volumes[0].image.grid
    field = torch.as_tensor(field_hz() if hz is None else hz, dtype=torch.float32)[None, None]
    encodings = tuple(one.encoding for one in volumes)
    poses = (STILL,) * len(volumes)
    return w.Correction(
        tuple(volumes), Distortion(field, grid, encodings, poses, tuple(grid.spacing_zyx))
    )


def array(image: Image) -> np.ndarray:
    return image.data[0].double().numpy()


@pytest.fixture(scope="module")
def found() -> w.Correction:
    return w.correct(pair())


# ------------------------------------------------------------------ the field
def test_the_field_is_found_in_hz(found: w.Correction) -> None:
    off = np.abs(found.distortion.field_hz[0, 0].numpy() - field_hz())[inside()] * READOUT
    assert off.mean() < 0.12  # voxels, of up to 3
    assert np.percentile(off, 95) < 0.35
    assert all(float(found.distortion.stretch(v.encoding).min()) > 0 for v in found.volumes)


def test_both_corrected_volumes_show_the_truth(found: w.Correction) -> None:
    one, other = (array(image) for image in made.corrected(found))
    true, chosen = truth(), inside()
    for image in (one, other):
        assert np.corrcoef(image[chosen], true[chosen])[0, 1] > 0.97
    before = np.corrcoef(*(array(v.image)[chosen] for v in found.volumes))[0, 1]
    assert before < 0.8
    assert np.corrcoef(one[chosen], other[chosen])[0, 1] > 0.98


def test_nothing_moves_along_other_axes(found: w.Correction) -> None:
    u = found.distortion.warp(found.volumes[0].encoding).u
    assert float(u[:, [0, 2]].abs().max()) == 0.0
    assert float(u[:, 1].abs().max()) > 1


def test_an_identical_pair_has_no_field() -> None:
    """E6."""
    image = truth()
    shown = [volume(image, np.zeros(SHAPE), d) for d in ("j", "j-")]
    shift = w.correct(shown).distortion.shift_voxels()
    assert np.abs(shift)[inside()].max() < 0.05


def test_swapped_inputs_negate_the_field(found: w.Correction) -> None:
    """E7."""
    back = w.correct(w.swapped(pair())).distortion.field_hz
    off = (back + found.distortion.field_hz)[0, 0].abs().numpy()[inside()] * READOUT
    assert np.percentile(off, 99) < 0.05


def test_unlike_readouts() -> None:
    shown = [volume(truth(), field_hz(), "j", 0.05), volume(truth(), field_hz(), "j-", 0.025)]
    off = np.abs(w.correct(shown).distortion.field_hz[0, 0].numpy() - field_hz()) * READOUT
    assert off[inside()].mean() < 0.2


def test_four_ways_of_one_object() -> None:
    """Along two axes at once, one field."""
    found = w.correct(pair(("j", "j-", "i", "i-")))
    off = np.abs(found.distortion.field_hz[0, 0].numpy() - field_hz())[inside()] * READOUT
    assert off.mean() < 0.12
    assert len(made.corrected(found)) == 4


@pytest.mark.parametrize("direction", ["i", "k"])
def test_any_axis_and_odd_sizes(direction: str) -> None:
    shape = (29, 21, 25)
    hz, image = field_hz(shape, 40.0), truth(shape=shape)
    if direction == "k":
        image, hz = np.moveaxis(image, 1, 0).copy(), np.moveaxis(hz, 1, 0).copy()
    shown = [volume(image, hz, d) for d in (direction, f"{direction}-")]
    off = np.abs(w.correct(shown).distortion.field_hz[0, 0].numpy() - hz)
    chosen = ndimage.binary_erosion(image > 0.2)
    assert (off * READOUT)[chosen].mean() < 0.15


def test_the_image_plane_alone_will_do() -> None:
    shape = (48, 40)
    hz, image = field_hz(shape, 40.0), truth(shape=shape)
    shown = [volume(image, hz, d) for d in ("j", "j-")]
    off = np.abs(w.correct(shown).distortion.field_hz[0, 0].numpy() - hz) * READOUT
    assert off[ndimage.binary_erosion(image > 0.2)].mean() < 0.2


def test_head_motion_is_estimated_with_the_field() -> None:
    """E8: moved across the readout and turned before the second volume."""
    turn, shift = np.radians(2.0), np.array([0.0, 0.0, 1.0])
    image, hz = truth(), field_hz()
    cos, sin = np.cos(turn), np.sin(turn)
    matrix = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    centre = (np.array(SHAPE) - 1) / 2
    offset = centre - matrix.T @ (centre + shift)
    moved = [
        ndimage.affine_transform(a, matrix.T, offset=offset, order=1, mode="nearest")
        for a in (image, hz)
    ]
    shown = [volume(image, hz, "j"), volume(*moved, "j-")]
    off = {}
    for motion in (False, True):
        found = w.correct(shown, motion=motion)
        off[motion] = np.abs(found.distortion.shift_voxels() - hz * READOUT)[inside()].mean()
    assert off[True] < 0.2
    assert off[True] < 0.6 * off[False]
    pose = found.distortion.poses[1].matrix[:3, :3]
    assert np.degrees(np.arccos((np.trace(pose) - 1) / 2)) == pytest.approx(2.0, abs=0.4)


# ------------------------------------------------------------------ signs and frames
def test_sign_of_a_shift() -> None:
    """E1: +100 Hz at .05 s along j is +5 voxels along +j."""
    image = np.zeros((3, 30, 8))
    image[:, 10] = 1
    shown = volume(image, np.full(image.shape, 100.0), "j")
    assert array(shown.image)[1, :, 4].argmax() == 15
    field = known([shown], np.full(image.shape, 100.0)).distortion
    back = array(made.unbent(shown.image, field, 0))
    assert back[1, :, 4].argmax() == 10


def test_every_way_to_store_the_volumes_gives_the_same() -> None:
    """E1: 48 orders and flips of the axes, with the direction rewritten accordingly."""
    image, hz = truth(), field_hz()
    pairs = [(d, laid(image, hz * READOUT * s, 1)) for d, s in (("j", 1), ("j-", -1))]
    grid = Grid.identity(SHAPE[::-1])
    reference = array(made.unbent(Image.from_numpy(pairs[0][1], grid), known(pair()).distortion, 0))
    for order, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        stored, field = (_stored(a, order, flips) for a in (pairs[0][1], hz))
        axis = order.index(1)  # where array axis 1 (j) has gone
        name = "kji"[axis] + "-" * flips[axis]
        turned = Grid.identity(stored.shape[::-1])
        encoding = Encoding.parse(name, READOUT)
        distortion = Distortion(
            torch.as_tensor(field, dtype=torch.float32)[None, None],
            turned, (encoding,), (STILL,), tuple(turned.spacing_zyx),
        )  # fmt: skip
        got = array(made.unbent(Image.from_numpy(stored, turned), distortion, 0))
        np.testing.assert_allclose(got, _stored(reference, order, flips), atol=2e-5)


def _stored(a: np.ndarray, order: tuple[int, ...], flips: tuple[bool, ...]) -> np.ndarray:
    out = a.transpose(order)
    for axis, flipped in enumerate(flips):
        out = np.flip(out, axis) if flipped else out
    return out.copy()


def test_signal_is_kept() -> None:
    """E3."""
    shown = pair()
    for one in shown:
        assert array(one.image).sum() == pytest.approx(truth().sum(), rel=1e-3)
    for image in made.corrected(known(shown)):
        assert array(image).sum() == pytest.approx(truth().sum(), rel=1e-2)


# ------------------------------------------------------------------ the thesis's route
def test_the_half_deformation_is_inverted() -> None:
    """E4: from the exact T(y) = y + u(y) of the first volume; LESSONS 17."""
    shape = (6, 64, 40)
    place = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    v = 3.0 * np.exp(-sum(x**2 for x in place[1:]) / 0.1)  # voxels; slopes up to 0.5
    first, second = (Encoding.parse(d, READOUT) for d in ("j", "j-"))
    y = np.arange(shape[1], dtype=float)
    u = np.zeros(shape)
    for line in np.ndindex(shape[0], shape[2]):
        shift = v[line[0], :, line[1]]
        u[line[0], :, line[1]] = -2 * np.interp(y, y + shift, shift)
    field = np.zeros((1, 3, *shape), np.float32)
    field[0, 1] = u
    warp = Displacement(torch.from_numpy(field), Grid.identity(shape[::-1]))
    off = np.abs(w.half_deformation(warp, first, second).shift_voxels() - v)
    assert np.percentile(off, 95) <= 0.02
    assert np.percentile(off, 99) <= 0.05
    naive = np.abs(-u / 2 - v)
    assert np.percentile(naive, 99) > 0.3  # what an un-inverted half would be


def test_the_pairwise_route_agrees_roughly(found: w.Correction) -> None:
    other = w.correct(pair(), method="pairwise")
    off = np.abs(other.distortion.shift_voxels() - found.distortion.shift_voxels())[inside()]
    assert off.mean() < 0.5
    u = other.distortion.warp(other.volumes[0].encoding).u
    assert float(u[:, [0, 2]].abs().max()) == 0.0


# ------------------------------------------------------------------ images
def test_restoration_explains_both_volumes() -> None:
    """With the true field, least squares beats the mean where signal has piled up."""
    given = known(pair())
    chosen = inside()
    mean = array(made.mean_of(made.corrected(given), "mean"))
    least = array(made.restored(given))
    plain = array(made.mean_of(made.corrected(given, modulate=False), "plain"))

    def error(a: np.ndarray) -> float:
        return float(np.sqrt(np.mean((a - truth())[chosen] ** 2)))

    assert error(least) < error(mean) < error(plain)


def test_what_cannot_be_recovered_is_marked() -> None:
    shape = (4, 40, 8)
    hz = np.zeros(shape)
    hz[:, 20:26] = (-np.arange(6) * 0.9 / READOUT)[:, None]  # j: signal of 6 voxels in one
    hz[:, 26:] = hz[:, 25:26]
    shown = [volume(np.ones(shape), hz, d) for d in ("j", "j-")]
    lost = made.unrecoverable(known(shown, hz)).data[0].numpy()
    assert lost[1, 22, 4] == 1  # the reversed volume shows it
    assert lost[1, 10, 4] == 0
    far = known(shown, np.full(shape, 400.0))  # 20 voxels out of view
    assert made.unrecoverable(far).data[0, 1, 30, 4] == 1


def test_a_series_is_corrected_with_its_own_readouts() -> None:
    """E9: mixed directions and times equal the volumes one by one."""
    given = known(pair())
    ways = [Encoding.parse(d, s) for d, s in (("j", 0.05), ("j-", 0.03), ("i", 0.02))]
    shown = [volume(truth(), field_hz(), e.direction, e.readout_s) for e in ways]
    images = [one.image for one in shown]
    grid = images[0].grid
    series = list(made.corrected_series(iter(images), ways, given.distortion, grid))
    for image, encoding, got in zip(images, ways, series, strict=True):
        alone = replace(given.distortion, volumes=(encoding,), poses=(STILL,))
        assert torch.equal(got.data, made.unbent(image, alone, 0).data)
        assert np.corrcoef(array(got)[inside()], truth()[inside()])[0, 1] > 0.97
    with pytest.raises(InputError, match=r"more volumes than there are readouts \(2\)"):
        list(made.corrected_series(iter(images), ways[:2], given.distortion, grid))


def test_a_series_on_another_grid_is_bent_by_its_own_voxels() -> None:
    """The shift is so many voxels of the acquisition that is corrected (LESSONS 20)."""
    given = known(pair())
    grid = given.distortion.grid
    coarse = grid.resized((grid.size[0], grid.size[1] // 2, grid.size[2]))
    on = made.on_grid(given.distortion, coarse)
    assert on.zooms_mm == coarse.spacing_zyx
    middle = tuple(n // 2 for n in coarse.shape)
    hz = float(on.field_hz[(0, 0, *middle)])
    assert on.shift_voxels()[middle] == pytest.approx(hz * READOUT)
    u = on.warp(given.volumes[0].encoding).u[(0, 1, *middle)]
    assert float(u) == pytest.approx(hz * READOUT, rel=1e-5)


def test_a_given_field_map() -> None:
    shown = pair()
    grid = shown[0].image.grid
    hz = Image.from_numpy(field_hz().astype(np.float32), grid, name="map")
    given = w.given_field(shown[:1], hz)
    chosen = inside()
    back = array(made.unbent(shown[0].image, given.distortion, 0))
    assert np.corrcoef(back[chosen], truth()[chosen])[0, 1] > 0.98
    flat = Image.from_numpy(field_hz()[0].astype(np.float32), name="flat")
    with pytest.raises(InputError, match="flat: is no field map"):
        w.given_field(shown[:1], flat)


def test_a_structural_image_helps_where_one_volume_tells_little() -> None:
    """It enters as a term of its own and the run still finds the field."""
    anatomy = Image.from_numpy((2 - truth()).astype(np.float32), name="T2")
    recipe = w.epi_recipe([v.encoding for v in pair()], structural=True)
    assert recipe.stages[0].terms[-1].kind == "structural"
    found = w.correct(pair(), structural=anatomy)
    off = np.abs(found.distortion.shift_voxels() - field_hz() * READOUT)[inside()]
    assert off.mean() < 0.2


# ------------------------------------------------------------------ what is refused
def changed(volumes: list[w.Volume], **more: Any) -> list[w.Volume]:
    return [volumes[0], replace(volumes[1], **more)]


@pytest.mark.parametrize(
    ("volumes", "told"),
    [
        (pair()[:1], "give a second one, or a field map"),
        (pair(("j", "j")), "dir-j and dir-j: both have the phase encoding j, 0.05 s"),
        (
            changed(pair(), image=Image.from_numpy(truth()[:, :-1].astype(np.float32), name="odd")),
            "odd: lies on another grid than dir-j",
        ),
        (changed(pair(), encoding=Encoding.parse("j-", 0.0))[1:] * 2, "readout time of 0 s"),
        (
            changed(
                pair(), image=Image.from_numpy(np.zeros((*SHAPE, 3)), channels=True, name="rgb")
            ),
            "rgb: has 3 channels",
        ),
    ],
)
def test_what_cannot_be_corrected_is_told(volumes: list[w.Volume], told: str) -> None:
    with pytest.raises(InputError, match=told):
        w.correct(volumes)


def test_axes_that_differ_have_to_be_meant() -> None:
    with pytest.raises(InputError, match="different axes, which is rarely meant"):
        w.check_one_axis(pair(("j", "i")))
    w.check_one_axis(pair(("j", "j-", "i")))
    with pytest.raises(InputError, match="pairwise method takes two volumes"):
        w.correct(pair(("j", "i")), method="pairwise")


def test_a_recipe_without_a_field_is_told() -> None:
    result = w.correct(pair()).result
    assert result is not None
    without = replace(result, output=replace(result.output, stages=()))
    with pytest.raises(InputError, match="The run found no field"):
        w.distortion_of(without)


def test_the_recipe_runs_without_the_workflow(found: w.Correction) -> None:
    """What is in the folder repeats the run."""
    from fireants_engine.workflows.registration import register

    assert found.result is not None
    recipe = Recipe.from_dict(found.result.recipe.to_dict())
    again = w.distortion_of(register(*w.as_pair(pair()), recipe))
    assert torch.equal(again.on(found.distortion.grid).field_hz, found.distortion.field_hz)


# ------------------------------------------------------------------ while it runs
def test_a_preview_tells_the_field_without_a_picture_of_the_map() -> None:
    control = Control()
    control.request_preview(PreviewRequest(found=True))
    volumes, seen = pair(), []
    for event in w.correction(volumes, control=control):
        if isinstance(event, Preview):
            seen.append(event)
            control.request_preview(PreviewRequest(found=True))
    assert seen
    assert all(not event.frames and event.points_mm is None for event in seen)
    field = seen[-1].found
    assert isinstance(field, Distortion)
    part = volumes[0].image.grid.part([slice(4, 7), slice(0, 40), slice(0, 32)])
    whole = made.corrected(w.Correction(tuple(volumes), made.on_grid(field, volumes[0].image.grid)))
    slab = made.corrected(w.Correction(tuple(volumes), made.on_grid(field, part)))
    for one, other in zip(whole, slab, strict=True):
        np.testing.assert_allclose(other.numpy()[1], one.numpy()[5], atol=1e-4)
