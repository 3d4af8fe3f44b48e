"""A set of stains: pairs, their graph, a wrong pair among them, and the folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fireants_engine.errors import InputError, StoppedError
from fireants_engine.geometry import Grid
from fireants_engine.pipeline import Control
from fireants_engine.recipe import Recipe
from fireants_engine.transforms import Affine, Chain
from fireants_engine.workflows import section_set as w
from fireants_engine.workflows import sections
from fireants_engine.workflows.chain import compose, compose_points
from fireants_engine.workflows.section_joint import mean_of
from fireants_engine.workflows.section_paths import averaged, shortest
from fireants_engine.workflows.section_set_folder import save_set, sentences
from fireants_engine.workflows.sections_folder import load_section
from fireants_engine.workflows.spaces import SpaceGraph
from fireants_engine.workflows.spaces_file import load_spaces
from tests.engine.workflows.section_phantom import (
    BROWN,
    PURPLE,
    SIDE,
    points_inside,
    section,
    turned,
)

TRUE = {
    "HE.png": turned(0, stretch=1.0), "PAS.png": turned(40), "Ki67.png": turned(200, True),
    "CD3.png": turned(-70),
}  # fmt: skip
"""Base mm -> mm of the section."""
NAMES = tuple(TRUE)
BASE = points_inside()
POINTS = TRUE["HE.png"](BASE)


def images() -> dict[str, w.Section]:
    colours = (PURPLE, BROWN, PURPLE, BROWN)
    return {
        name: sections.section_of(section(true, colour=colour, name=name))
        for (name, true), colour in zip(TRUE.items(), colours, strict=True)
    }


def quick() -> Recipe:
    data = sections.sections_recipe().to_dict()
    data["stages"][0]["pyramid"]["levels"] = [{"shrink": 3, "max_steps": 20}]
    data["stages"][1]["pyramid"]["levels"] = [{"shrink": 2, "max_steps": 8}]
    return Recipe.from_dict(data)


WRONG = ("HE.png", "CD3.png")


@pytest.fixture(scope="module")
def found() -> w.SectionSet:
    """All pairs; that of `WRONG` starts mirrored and so stays, the others near the truth."""
    once = sections.match

    def near(fixed: w.Section, moving: w.Section, **options) -> sections.Match:
        a, b = fixed.original.name, moving.original.name
        start = TRUE[b].after(TRUE[a].inverse())
        if (a, b) == WRONG:
            start = start.after(turned(0, True))
        options.pop("flip")
        return once(fixed, moving, start=start, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(w, "match", near)
        return w.match_set(images(), recipe=quick())


def gap(found: w.SectionSet, name: str) -> float:
    return float(
        np.median(np.linalg.norm(found.transform(name)(POINTS) - TRUE[name](BASE), axis=1))
    )


def test_a_wrong_pair_is_told_and_has_no_say(found: w.SectionSet) -> None:
    assert [gap(found, name) < 1.0 for name in NAMES] == [True] * 4
    wrong = {(pair.fixed, pair.moving) for pair in found.pairs if pair.outlier}
    assert wrong == {WRONG}
    (note,) = (note for note in found.notes if "disagree" in note)
    assert note.startswith("HE.png - CD3.png:")
    assert "turned over" in note
    assert found.path("CD3.png") != WRONG
    assert "CD3.png: fits HE.png less well" not in " ".join(found.notes)
    direct, now = found.fits["CD3.png"]
    assert direct is not None
    assert now > direct


def test_pairs_agree_better_with_the_final_maps(found: w.SectionSet) -> None:
    good = [pair for pair in found.pairs if not pair.outlier]
    before, after = (
        np.mean([getattr(p, k) ** 2 for p in good]) for k in ("off_mm", "off_after_mm")
    )
    assert after <= before * 1.02
    assert max(pair.off_after_mm for pair in good) < 1.5


def test_between_two(found: w.SectionSet) -> None:
    through = found.between("PAS.png", "Ki67.png")
    away = through(TRUE["PAS.png"](BASE)) - TRUE["Ki67.png"](BASE)
    assert np.median(np.linalg.norm(away, axis=1)) < 1.2
    with pytest.raises(InputError, match="There is no section 'CD8'"):
        found.transform("CD8")


def test_the_folder(found: w.SectionSet, tmp_path: Path) -> None:
    for _ in range(2):  # an older one is replaced
        out = save_set(found, tmp_path / "out")
    names = {file.name for file in out.iterdir()}
    assert names == {
        "set.json", "notes.txt", "overview.png", "spaces", "PAS", "Ki67", "CD3",
        "warped-PAS.tif", "warped-Ki67.tif", "warped-CD3.tif",
    }  # fmt: skip
    report = json.loads((out / "set.json").read_text())
    assert report["reference"] == "HE.png"
    assert [row["outlier"] for row in report["pairs"]].count(True) == 1
    assert report["sections"][3]["path"][0] == "HE.png"
    assert report["sections"][2]["mirrored"]
    own = found.transform("Ki67.png")(POINTS)
    assert np.abs(compose_points([out / "Ki67"])(POINTS) - own).max() < 1e-3
    assert np.abs(compose_points([f"{out / 'Ki67'}:inverse"])(own) - POINTS).max() < 0.1
    assert compose([out / "Ki67"]).grid.same_space(found.sections["HE.png"].image.grid)
    carried = load_spaces(out / "spaces").points(POINTS, "HE.png", "Ki67.png").points_mm
    assert np.abs(carried - own).max() < 1e-6
    moved, fixed = (
        load_section(p).image for p in (out / "warped-Ki67.tif", out / "warped-PAS.tif")
    )
    assert moved.grid.size == fixed.grid.size == (SIDE, SIDE)
    inner = (slice(None), slice(50, 110), slice(50, 110))
    plain = section(TRUE["HE.png"]).data[inner].float()
    assert (moved.data[inner].float() - plain).abs().mean() < 0.3 * plain.std()
    assert "no say" in (out / "notes.txt").read_text()
    assert any(line.startswith("Pairs: 6, without a say: 1;") for line in sentences(found))


# ------------------------------------------------------------------ what is given
def test_which_pairs() -> None:
    names = ("a", "b", "c", "d")
    assert w.pairs_of(names, "b", "chain") == (("b", "a"), ("b", "c"), ("c", "d"))
    assert w.pairs_of(names, "b", "star") == (("b", "a"), ("b", "c"), ("b", "d"))
    assert len(w.pairs_of(names, "b", "all")) == 6
    own = [("a", "b"), ("b", "a"), ("c", "a"), ("d", "c")]
    assert w.pairs_of(names, "b", own) == (("b", "a"), ("c", "a"), ("d", "c"))


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        ("ring", "choose chain, star or all"),
        ([("a", "x")], "There is no pair a - x"),
        ([("a", "a")], "There is no pair a - a"),
        ([("a", "b"), ("c", "d")], "c and d: no pair connects"),
    ],
)
def test_pairs_that_are_none(pairs, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        w.pairs_of(("a", "b", "c", "d"), "a", pairs)


def test_too_few_and_an_unknown_reference() -> None:
    one = section()
    with pytest.raises(InputError, match="two sections or more"):
        w.match_set({"a": one})
    with pytest.raises(InputError, match="reference c is none of a, b"):
        w.match_set({"a": one, "b": one}, reference="c")


def test_stopped_before_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    control = Control()
    control.stop()
    ready = {name: sections.section_of(section(name=name)) for name in ("a", "b", "c")}
    once = sections.match

    def near(*given, flip: str, **options) -> sections.Match:
        return once(*given, start=Affine.identity(2), **options)

    monkeypatch.setattr(w, "match", near)
    with pytest.raises(StoppedError, match="after 1 of 3 pairs"):
        w.match_set(ready, recipe=quick(), control=control)


def test_a_section_over_doubtful_pairs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    once = sections.match

    def unsure(*given, flip: str, **options) -> sections.Match:
        found = once(*given, start=Affine.identity(2), **options)
        best = replace(found.candidates[0], score=0.2)
        other = replace(best, affine=turned(90), score=0.19)
        return replace(found, candidates=(best, other))

    monkeypatch.setattr(w, "match", unsure)
    found = w.match_set({"a": section(), "b": section()}, recipe=quick())
    (pair,) = found.pairs
    assert pair.doubtful
    assert pair.weight == pytest.approx(w.DOUBTFUL / pair.score**2)
    assert any(note.startswith("b: comes onto a only over a - b, which") for note in found.notes)


def test_a_worse_fit_than_the_direct_pair_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    once = sections.match

    def near(*given, flip: str, **options) -> sections.Match:
        return once(*given, start=Affine.identity(2), **options)

    monkeypatch.setattr(w, "match", near)
    given = {"a": section(), "b": section()}
    assert not w.match_set(given, recipe=quick()).notes
    monkeypatch.setattr(w, "local_fit", lambda *given: 0.1)
    (note,) = w.match_set(given, recipe=quick()).notes
    assert note.startswith("b: fits a less well by the map of the set (0.100)")


def test_a_section_that_no_sure_pair_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    once, off = sections.match, Affine.about(np.eye(2), np.array([5.0, 3.0]), np.zeros(2))
    once_only = [{"shrink": 3, "max_steps": 1}]
    held = quick().with_values(
        {f"stages.{name}.pyramid.levels": once_only for name in ("affine", "greedy")}
    )

    def near(fixed: w.Section, moving: w.Section, **options) -> sections.Match:
        a, b = fixed.original.name, moving.original.name
        options.pop("flip")
        start = TRUE[b].after(TRUE[a].inverse())
        if "CD3.png" not in (a, b):
            return once(fixed, moving, start=start, **options)
        found = once(fixed, moving, start=off.after(start), **{**options, "recipe": held})
        best = replace(found.candidates[0], score=0.2)
        turn = turned(90).after(best.affine)
        return replace(found, candidates=(best, replace(best, affine=turn, score=0.195)))

    monkeypatch.setattr(w, "match", near)
    given = images()
    alone = w.match_set(given, recipe=quick(), joint=False)
    joint = w.match_set(given, recipe=quick())
    assert gap(alone, "CD3.png") > 3
    assert gap(joint, "CD3.png") < 1
    (note,) = (note for note in joint.notes if "may be wrong" in note)
    assert note.startswith("CD3.png: comes onto HE.png only over")
    assert "registered onto the mean of the others" in note


def test_what_one_has_lost_is_taken_from_the_others() -> None:
    whole, torn = sections.section_of(section()), sections.section_of(section(bite=0.15))
    still, grid = Affine.identity(2), whole.image.grid
    three = {"a": whole, "b": whole, "c": torn}
    found = mean_of(three, dict.fromkeys(three, still), grid).data[0]
    lost = (whole.image.data[0] > 0.5) & (torn.image.data[0] < 0.1)
    assert lost.sum() > 100
    assert (found - whole.image.data[0])[lost].abs().mean() < 0.05


# ------------------------------------------------------------------ paths
def shifts(**weights: float) -> SpaceGraph:
    """a - d directly (off by 3 mm), through b (right) and through c (off by -1)."""
    found = SpaceGraph()
    for name in "abcd":
        found = found.with_space(name, 2)
    for pair, shift in {"ad": 3.0, "ab": 0.0, "bd": 0.0, "ac": -1.0, "cd": 0.0}.items():
        step = Affine.about(np.eye(2), np.array([shift, 0.0]), np.zeros(2))
        found = found.with_edge(*pair, step, weight=weights.get(pair, 1.0))
    return found


def test_the_middle_of_several_paths() -> None:
    grid, at = Grid.identity((20, 20)), np.full((1, 2), 9.0)
    assert shortest(shifts(), "a", grid)["d"](at)[0, 0] == pytest.approx(12.0)
    assert averaged(shifts(), "a", grid)["d"](at)[0, 0] == pytest.approx(9.0)  # of -1, 0, 3
    two = averaged(shifts(ad=10.0, ac=1.5), "a", grid)["d"](at)[0, 0]
    assert two == pytest.approx(9.0)  # the shorter of -1, 0
    assert isinstance(averaged(shifts(), "a", grid)["d"], Chain)
