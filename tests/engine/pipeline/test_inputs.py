"""What is given beside the pair: it reaches the terms, and what does not fit is one sentence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fireants_engine.context import ExecutionContext
from fireants_engine.deformations import Compositive, Rigid, Source
from fireants_engine.errors import InputError
from fireants_engine.features import MIND, Distance, OneHot
from fireants_engine.geometry import Grid, Image, Landmarks
from fireants_engine.ops import warp_labels
from fireants_engine.optimise import Adam
from fireants_engine.pipeline import Level, Plan, Pyramid, Stage, run_plan
from fireants_engine.pipeline.inputs import Extras
from fireants_engine.pipeline.prepare import Prepared
from fireants_engine.regularise import Bending
from fireants_engine.similarity import SSD, Dice, LandmarkDistance, MutualInformation, Term

CTX = ExecutionContext()


def plan(*terms: Term, deformation=None) -> Plan:
    pyramid = Pyramid((Level(1, 40),), 8)
    return Plan((Stage("match", deformation or Compositive(2.0), terms, Adam(0.5), pyramid),))


def labels_of(image: Image, levels: tuple[float, ...] = (0.35, 0.7), **names) -> Image:
    values = sum((image.data > level).to(torch.int32) for level in levels)
    return Image(values, image.grid, **names)


@pytest.fixture
def labelled(small_pair) -> Extras:
    fixed, moving = small_pair
    return Extras(labels_of(moving, name="seg m"), labels_of(fixed, name="seg f"))


def run(the_plan: Plan, pair, extras: Extras):
    *_, last = run_plan(the_plan, *pair, CTX, extras=extras)
    return last.result


# ------------------------------------------------------------------------ terms that use them
@pytest.mark.parametrize(
    "terms",
    [
        (Dice(),),
        (SSD(source=Source("labels", Distance((), 6.0))),),
        (Dice(source=Source("labels", OneHot((1,)))), SSD(weight=0.1)),
    ],
    ids=["dice", "contour", "one label and intensities"],
)
@pytest.mark.parametrize("deformation", [Rigid(), Compositive(2.0)], ids=["rigid", "greedy"])
def test_labels_pull_the_images_together(small_pair, labelled, terms, deformation) -> None:
    fixed, _ = small_pair
    result = run(plan(*terms, deformation=deformation), small_pair, labelled)
    truth = labelled.fixed_labels.data[0] == 1
    moved = warp_labels(labelled.moving_labels, result.transform, fixed.grid).data[0] == 1
    still = labelled.moving_labels.data[0] == 1
    before, after = (
        2 * float((truth & other).sum()) / float(truth.sum() + other.sum())
        for other in (still, moved)
    )
    assert after > 0.9
    assert after > before + 0.05


def test_landmarks_pull_their_points_together(small_pair) -> None:
    points = np.array([[-6.0, 3.0], [4.0, -5.0], [8.0, 6.0], [0.0, 0.0], [-9.0, -4.0]])
    turn = np.array([[np.cos(0.12), -np.sin(0.12)], [np.sin(0.12), np.cos(0.12)]])
    target = points @ turn.T + [1.5, -1.0]
    extras = Extras(landmarks=Landmarks(points, target))
    for deformation, limit in ((Rigid(), 0.25), (Compositive(3.0), 0.6)):
        result = run(plan(LandmarkDistance(), deformation=deformation), small_pair, extras)
        left = np.linalg.norm(result.transform(points) - target, axis=1)
        assert left.mean() < limit
        assert left.mean() < 0.4 * np.linalg.norm(points - target, axis=1).mean()


def test_a_term_compares_its_own_images(small_pair) -> None:
    """The pair itself is useless here; the further input, on another grid, has the structure."""
    fixed, moving = small_pair
    rng = np.random.default_rng(0)
    noise = [
        Image.from_numpy(rng.random(image.grid.shape, dtype=np.float32), image.grid, name="noise")
        for image in small_pair
    ]
    coarse = fixed.grid.resized([30, 27])
    from fireants_engine.ops import warp_image
    from fireants_engine.transforms import Affine

    structure = (warp_image(fixed, Affine.identity(2), coarse), moving)
    extras = Extras(images={"t2": structure})
    found = run(plan(SSD(source=Source("t2"))), noise, extras)
    moved = warp_image(moving, found.transform, fixed.grid).data
    assert float(((fixed.data - moved) ** 2).mean()) < 0.15 * float(
        ((fixed.data - moving.data) ** 2).mean()
    )


def test_masks_and_channels_belong_to_the_term(small_pair) -> None:
    fixed = small_pair[0]
    mask = torch.zeros(fixed.grid.shape, dtype=torch.bool)
    mask[10:20, 10:25] = True
    two = [Image(torch.cat([im.data, im.data**2]), im.grid) for im in small_pair]
    prepared = Prepared.create(replace(two[0], mask=mask), two[1], CTX)
    sources = [
        Source(),
        Source(masks="none"),
        Source(masks="moving"),
        Source(channels=(1,)),
        Source(features=MIND()),
    ]
    pair = prepared.level(1, 8, sources)
    seen = [pair.of(source) for source in sources]
    assert [p.fixed_mask is None for p in seen] == [False, True, True, False, False]
    assert [p.fixed.shape[1] for p in seen] == [2, 2, 2, 1, 8]
    torch.testing.assert_close(seen[3].moving, pair.moving[:, 1:])
    with pytest.raises(InputError, match=r"channel 2 of 'image', which has 2 \(0 to 1\)"):
        prepared.level(1, 8, [Source(channels=(2,))])


def test_weights_per_level(small_pair, ran) -> None:
    """A term of weight 0 on a level is not evaluated there."""
    stage = Stage(
        "bend",
        Compositive(2.0),
        (SSD(level_weights=(1, 0)), MutualInformation(level_weights=(0, 1))),
        Adam(0.5),
        Pyramid((Level(2, 5), Level(1, 5)), 8),
    )
    found = ran(Plan((stage,)), *small_pair)
    assert min(found.losses[:5]) > 0  # SSD
    assert max(found.losses[5:]) < 0  # minus the mutual information


# --------------------------------------------------------------------------------- bad input
def refused(the_plan: Plan, pair, extras: Extras) -> str:
    with pytest.raises(InputError) as caught:
        next(run_plan(the_plan, *pair, CTX, extras=extras))
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_a_term_without_its_input(small_pair, labelled) -> None:
    nothing = Extras()
    assert "'match' has a term that needs label maps of both" in refused(
        plan(Dice()), small_pair, nothing
    )
    assert "needs label maps" in refused(
        plan(Dice()), small_pair, Extras(moving_labels=labelled.moving_labels)
    )
    assert "needs corresponding points" in refused(plan(LandmarkDistance()), small_pair, nothing)
    wanted = plan(SSD(), SSD(source=Source("flair")))
    assert "needs the input 'flair'; give it (--input flair" in refused(wanted, small_pair, nothing)


def test_labels_that_do_not_fit(small_pair, labelled) -> None:
    fixed, moving = small_pair
    other = Image(labelled.moving_labels.data * 10, moving.grid, name="other scheme")
    assert "no label in common" in refused(
        plan(Dice()), small_pair, replace(labelled, moving_labels=other)
    )
    deep = Image(torch.ones((1, 4, 4, 4), dtype=torch.int32), Grid.identity((4, 4, 4)), name="deep")
    assert "deep is 3D but the images are 2D" in refused(
        plan(SSD()), small_pair, Extras(moving_labels=deep)
    )
    half = Image(fixed.data, fixed.grid, name="grey")
    assert "grey: label values must be whole numbers" in refused(
        plan(SSD()), small_pair, Extras(fixed_labels=half)
    )


def test_landmarks_that_do_not_fit(small_pair) -> None:
    inside, outside = np.zeros((2, 2)), np.array([[0.0, 0.0], [500.0, 0.0]])
    far = Extras(landmarks=Landmarks(inside, outside, name="marks.csv"))
    sentence = refused(plan(LandmarkDistance()), small_pair, far)
    assert "marks.csv: 1 moving point(s) lie outside the moving image" in sentence
    assert "(500.0, 0.0) mm" in sentence
    for fixed, moving, weights, words in (
        (inside, inside[:1], None, "2 fixed and 1 moving points"),
        (inside[:0], inside[:0], None, "holds no landmarks"),
        (inside, inside, [1.0, -1.0], "weights must be >= 0"),
        (inside, inside, [0.0, 0.0], "not all zero"),
        (inside, inside, [1.0], "1 weights for 2 points"),
    ):
        with pytest.raises(InputError, match=words):
            Landmarks(fixed, moving, weights)


def test_further_images_that_do_not_fit(small_pair) -> None:
    fixed, moving = small_pair
    two = Image(torch.cat([moving.data] * 2), moving.grid, name="two")
    flat = Image(torch.zeros_like(moving.data), moving.grid, name="flat")
    for images, words in (
        ({"labels": (fixed, moving)}, "cannot be named 'labels'"),
        ({"t2": (fixed, two)}, "fixed has 1 channel(s) and two 2"),
        ({"t2": (fixed, flat)}, "flat: every value is 0"),
    ):
        assert words in refused(plan(SSD()), small_pair, Extras(images=images))


def test_a_regulariser_needs_a_warp(small_pair) -> None:
    with pytest.raises(InputError, match="no warp to regularise"):
        run(plan(SSD(), Bending(), deformation=Rigid()), small_pair, Extras())
