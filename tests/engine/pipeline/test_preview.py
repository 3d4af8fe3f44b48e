"""Previews: only when asked, the present transform, CPU arrays, within a share of the time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fireants_engine.deformations import Compositive, Deformation, Rigid
from fireants_engine.geometry import Image
from fireants_engine.ops import jacobian_determinant, warp_image
from fireants_engine.optimise import Adam, Stop
from fireants_engine.pipeline import (
    Control,
    Iteration,
    Level,
    Plan,
    Preview,
    PreviewRequest,
    Pyramid,
    RunOutput,
    Stage,
    run_plan,
)
from fireants_engine.pipeline.events import to_dict
from fireants_engine.pipeline.preview import BUDGET, Previewer
from fireants_engine.pipeline.steering import Edit
from fireants_engine.similarity import SSD
from fireants_engine.transforms import Affine, Transform
from fireants_engine.workflows.result import Mapping


def plan(deformation: Deformation, *steps: int) -> Plan:
    levels = tuple(Level(2.0 ** (len(steps) - 1 - k), n) for k, n in enumerate(steps))
    pyramid, never = Pyramid(levels, 8), Stop(tolerance=0)
    return Plan((Stage("stage", deformation, (SSD(),), Adam(0.5), pyramid, never),))


def ask_and_stop(
    pair, request: PreviewRequest, ctx, after: int, deformation: Deformation
) -> tuple[Preview, RunOutput]:
    """The preview asked for after so many looks at the loss, and the run that stops with it."""
    control, looks, shown, events = Control(), 0, None, []
    for event in run_plan(plan(deformation, 30, 30), *pair, ctx, control):
        events.append(event)
        looks += isinstance(event, Iteration)
        if looks == after and isinstance(event, Iteration):
            control.request_preview(request)
        if isinstance(event, Preview):
            assert shown is None
            shown = event
            control.stop()
    assert shown is not None
    return shown, events[-1].result


@pytest.fixture(scope="module")
def volumes(blobs, centred_grid) -> tuple[Image, Image]:
    """A 3D pair whose grids differ in size, spacing and direction."""
    shape = blobs(3, 9.0)
    fixed = centred_grid((20, 18, 13), (1.0, 1.1, 1.5))
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    moving = centred_grid((16, 21, 15), (1.2, 1.0, 1.3), turn)
    return shape.image(fixed), shape.image(moving, lambda y: y - [1.5, -1.0, 0.5])


# ------------------------------------------------------------------------- when it comes
def test_there_is_no_preview_unless_somebody_asks(small_pair, ran) -> None:
    found = ran(plan(Compositive(), 12, 12), *small_pair)
    assert found.of(Preview) == []
    assert found.output.preview_seconds == 0


def test_one_request_gives_one_preview_and_the_newest_counts(small_pair, ran) -> None:
    control = Control()
    control.request_preview(PreviewRequest(((0, 3),)))
    control.request_preview(PreviewRequest(((1, 5),)))
    found = ran(plan(Compositive(), 12, 12), *small_pair, control)
    (preview,) = found.of(Preview)
    assert list(preview.frames) == [(1, 5)]
    assert preview.stage == "stage"
    assert found.output.preview_seconds > 0


def test_a_request_is_answered_before_the_next_step(scripted, small_pair, ctx) -> None:
    calls: list[int] = []
    term = scripted(lambda call, shape: calls.append(call) or 1.0)
    stage = Stage("stage", Rigid(), (term,), Adam(0.5), Pyramid((Level(1.0, 30),)), Stop(0))
    control, asked_at = Control(), None
    for event in run_plan(Plan((stage,)), *small_pair, ctx, control):
        if isinstance(event, Iteration) and event.step == 10:
            asked_at = len(calls)
            control.request_preview(PreviewRequest(((0, 3),)))
        if isinstance(event, Preview):
            break
    assert asked_at == 10
    assert len(calls) == 10


def test_previews_leave_the_result_as_it_is(small_pair, ran, ctx) -> None:
    quiet = ran(plan(Compositive(), 12, 12), *small_pair).output
    control, last, shown = Control(), None, 0
    for event in run_plan(plan(Compositive(), 12, 12), *small_pair, ctx, control):
        control.request_preview(PreviewRequest(((0, 3),), 1.0))
        shown += isinstance(event, Preview)
        last = event
    assert shown >= 1
    assert torch.equal(last.result.transform.parts[0].u, quiet.transform.parts[0].u)


# -------------------------------------------------------------------------- what it shows
@pytest.mark.parametrize("after", [2, 10], ids=["coarse level", "fine level"])
@pytest.mark.parametrize("deformation", [Rigid(), Compositive()], ids=lambda d: type(d).__name__)
def test_every_axis_shows_the_moving_image_through_the_present_transform(
    deformation, after, volumes, ctx
) -> None:
    """The run stops with the state it showed: its result is the transform of the preview."""
    planes = ((0, 6), (0, 0), (1, 10), (1, 17), (2, 7), (2, 19))
    preview, output = ask_and_stop(volumes, PreviewRequest(planes), ctx, after, deformation)
    fixed, moving = volumes
    whole = warp_image(moving, output.transform, fixed.grid).numpy()
    unmoved = warp_image(moving, Affine.identity(3), fixed.grid).numpy()
    assert set(preview.frames) == set(planes)
    for (axis, index), frame in preview.frames.items():
        assert isinstance(frame, np.ndarray)
        assert frame.dtype == np.float32
        np.testing.assert_allclose(frame, whole.take(index, axis), atol=1e-5)
    assert np.abs(whole.take(6, 0) - unmoved.take(6, 0)).max() > 0.05  # it did move


def test_the_volume_may_be_coarse_and_has_the_moving_images_own_intensities(ctx, volumes) -> None:
    fixed, moving = volumes
    bright = Image(moving.data * 500 - 1000, moving.grid)
    request = PreviewRequest(volume_shrink=2.0)
    preview, output = ask_and_stop((fixed, bright), request, ctx, 3, Rigid())
    (frame,) = preview.frames.values()
    assert list(preview.frames) == [None]
    assert frame.shape == (10, 10, 10)  # towards isotropy: 2 mm from 20 x 19.8 x 19.5
    coarse = fixed.grid.resized((10, 10, 10))
    truth = warp_image(bright, output.transform, coarse).numpy()
    np.testing.assert_allclose(frame, truth, rtol=1e-5, atol=1e-2)
    assert frame[5, 5, 5] < -300


def test_in_the_plane_the_whole_image_is_one_frame(small_pair, ctx) -> None:
    request = PreviewRequest(((0, 20), (1, 7)), volume_shrink=1.0)
    preview, output = ask_and_stop(small_pair, request, ctx, 3, Rigid())
    truth = warp_image(small_pair[1], output.transform, small_pair[0].grid).numpy()
    np.testing.assert_allclose(preview.frames[None], truth, atol=1e-5)
    np.testing.assert_allclose(preview.frames[0, 20], truth[20], atol=1e-5)
    np.testing.assert_allclose(preview.frames[1, 7], truth[:, 7], atol=1e-5)


def test_colours_come_last(small_pair, ctx) -> None:
    fixed, moving = (Image(i.data.repeat(3, 1, 1), i.grid) for i in small_pair)
    coloured = Image(moving.data * torch.tensor([1.0, 0.5, 0.2])[:, None, None], moving.grid)
    preview, _ = ask_and_stop((fixed, coloured), PreviewRequest(((0, 20),), 1.0), ctx, 2, Rigid())
    assert preview.frames[None].shape == (36, 40, 3)
    assert preview.frames[0, 20].shape == (40, 3)
    np.testing.assert_allclose(preview.frames[0, 20][:, 1], preview.frames[0, 20][:, 0] / 2)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_slice_has_planes_too(axis, blobs, centred_grid) -> None:
    grid = centred_grid((12, 10, 1), (1.0, 1.0, 4.0))
    image = blobs(3, 6.0).image(grid)
    identity = Affine.identity(3)
    frames = Previewer(image, grid).frames(PreviewRequest(((axis, 0),)), identity)
    np.testing.assert_allclose(frames[axis, 0], image.numpy().take(0, axis), atol=1e-6)


# ------------------------------------------------------------------------ what it may cost
def test_previews_take_no_more_than_their_share(small_pair) -> None:
    previewer = Previewer(small_pair[1], small_pair[0].grid)
    assert previewer.affordable(0.0)  # the first is free
    previewer.spent_seconds = 3.0
    assert not previewer.affordable(0.99 * 3.0 / BUDGET)
    assert previewer.affordable(1.01 * 3.0 / BUDGET)
    assert 0 < BUDGET <= 0.1


def test_the_next_is_expected_to_cost_as_much(small_pair, monkeypatch) -> None:
    ticks = iter([100.0, 100.25, 200.0, 200.5])
    clock = SimpleNamespace(perf_counter=lambda: next(ticks))
    monkeypatch.setattr("fireants_engine.pipeline.preview.time", clock)
    previewer = Previewer(small_pair[1], small_pair[0].grid, spent_seconds=0.75)
    for last in (0.25, 0.5):
        previewer.owed = True
        assert previewer.affordable(0.0)
        previewer.make(PreviewRequest(((0, 3),)), lambda: Affine.identity(2))
        assert previewer.last_seconds == pytest.approx(last)
    assert not previewer.affordable(0.99 * 1.25 / BUDGET)
    assert previewer.affordable(1.01 * 1.25 / BUDGET)


def expensive(made: list[Transform]) -> Any:
    """A picture that uses up the share of a whole run."""

    def make(
        self: Previewer, request: PreviewRequest, transform: Any, found: Any
    ) -> dict[str, Any]:
        made.append(transform())
        self.last_seconds, self.owed = 1e6, False
        return {}

    return make


def test_a_request_waits_while_the_share_is_used_up(small_pair, ctx, monkeypatch) -> None:
    """An expensive first picture delays the second, but does not lose it."""
    made: list[Transform] = []
    monkeypatch.setattr(Previewer, "make", expensive(made))
    control = Control()
    control.request_preview(PreviewRequest(((0, 1),)))
    for event in run_plan(plan(Rigid(), 12, 12), *small_pair, ctx, control):
        if isinstance(event, Preview):
            control.request_preview(PreviewRequest(((0, 2),)))
    assert len(made) == 1
    waiting = control.take_request()
    assert waiting is not None
    assert waiting.planes == ((0, 2),)


def test_an_edit_is_shown_once_whatever_it_costs(small_pair, ctx, monkeypatch) -> None:
    made: list[Transform] = []
    monkeypatch.setattr(Previewer, "make", expensive(made))
    control, shown = Control(), []
    control.request_preview(PreviewRequest(((0, 1),)))
    for event in run_plan(plan(Rigid(), 12, 40), *small_pair, ctx, control):
        if isinstance(event, Preview):
            shown.append(len(made))
            control.request_preview(PreviewRequest(((0, 2),)))
        if isinstance(event, Iteration) and (event.level, event.step) == (1, 10):
            control.update(Edit("Nothing.", nudge=Affine.identity(2)))
    assert shown == [1, 2]


def test_pictures_of_a_paused_run_take_none_of_its_time(small_pair, ctx, monkeypatch) -> None:
    made: list[Transform] = []
    monkeypatch.setattr(Previewer, "make", expensive(made))
    control, shown, finished = Control(), 0, None
    control.pause()
    control.request_preview(PreviewRequest(((0, 1),)))
    for event in run_plan(plan(Rigid(), 12), *small_pair, ctx, control):
        if isinstance(event, Preview):
            shown += 1
            control.request_preview(PreviewRequest(((0, shown),)))
            if shown == 3:
                control.resume()
        finished = event
    assert shown == 3
    assert finished is not None
    assert finished.result.preview_seconds == 0


# ------------------------------------------------------------------------- the map itself
@pytest.mark.parametrize(("axis", "index"), [(0, 6), (1, 0), (2, 19), (2, 10)])
def test_the_warp_of_a_plane_comes_with_its_neighbours(volumes, ctx, axis: int, index: int) -> None:
    request = PreviewRequest(((axis, index),), warp=True)
    preview, output = ask_and_stop(volumes, request, ctx, 2, Compositive(sigma_grad_mm=2.0))
    slab = preview.warps[(axis, index)]
    whole = Mapping(output.transform, volumes[0].grid).warp_field
    assert whole is not None
    assert slab.grid.shape[axis] == 3
    middle = slab.u.narrow(2 + axis, 1, 1)
    torch.testing.assert_close(middle, whole.u.narrow(2 + axis, index, 1), atol=2e-4, rtol=0)
    jacobian = jacobian_determinant(slab.u).narrow(2 + axis, 1, 1)
    right = jacobian_determinant(whole.u).narrow(2 + axis, index, 1)
    torch.testing.assert_close(jacobian, right, atol=2e-3, rtol=0)


def test_points_are_mapped_by_the_present_map(volumes, ctx) -> None:
    points = np.array([[1.0, -2.0, 0.5], [-3.0, 2.5, 1.0]])
    request = PreviewRequest(((0, 5),), points_mm=points)
    preview, output = ask_and_stop(volumes, request, ctx, 2, Rigid())
    np.testing.assert_allclose(preview.points_mm, output.transform(points), atol=1e-4)
    assert preview.warps == {}
    assert "points_mm" not in to_dict(preview)
