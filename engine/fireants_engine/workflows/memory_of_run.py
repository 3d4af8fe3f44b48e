"""A run thought through array by array: `Model.run` writes into a Book what the pipeline allocates.

Follows `pipeline.prepare`, `pipeline.stage`, `pipeline.level`, the deformations, the terms and
`workflows.registration`; whoever changes what lives there at one time changes it here too
(`benchmarks/memory.py` measures the difference). No torch, no numpy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fireants_engine.recipe.models import Recipe, StageSpec
from fireants_engine.sizes import level_size
from fireants_engine.workflows.arrays import MIB, Block, Book
from fireants_engine.workflows.memory_of_images import FLOAT, Given, ImageSize
from fireants_engine.workflows.memory_of_terms import MIND_CHANNELS, TermArrays, arrays_of

LINEAR = ("translation", "rigid", "similarity", "affine")
FEW = (*LINEAR, "slicewise")
"""Deformations of few numbers; of a slicewise one a warp is made for every evaluation."""
_SAMPLES = 1_000_000
_LIBRARIES = 8 * MIB, 20 * MIB
"""What the first run of a process loads while it prepares the images, and after."""
_SLAB = 1_000_000 * 8 * 8
"""Bytes of the coordinates that are computed at a time where images are carried."""


@dataclass
class _Level:
    """Sizes of one level: voxels of both grids, and which of them are the full ones."""

    fixed: int
    moving: int
    fixed_whole: bool
    moving_whole: bool
    dim: int
    pairs: int

    @property
    def volume(self) -> int:
        """Bytes of one channel on the fixed grid."""
        return self.fixed * FLOAT * self.pairs

    @property
    def warp(self) -> int:
        return self.volume * self.dim


@dataclass(frozen=True)
class Model:
    """The arrays of one run on one kind of kernels."""

    recipe: Recipe
    fixed: ImageSize
    moving: ImageSize
    given: Given
    native: bool
    pairs: int = 1

    # ------------------------------------------------------------------ the whole run
    def run(self, book: Book) -> list[Block]:
        """All of it, in order; what is left is the result's warp."""
        book.load("libraries", _LIBRARIES[0])
        images = self._prepare(book)
        if self.pairs > 1:
            images += [book.take("images", b.size * (self.pairs - 1)) for b in images]
        book.load("libraries", _LIBRARIES[1])
        result: list[Block] = []
        level = None
        for stage in self.recipe.stages:
            if stage.enabled:
                result, level = self._stage(book, stage, result)
        if level is not None and result:
            result = self._at_full_resolution(book, level, result)
        book.give(*images)
        book.trim()
        return result

    def _prepare(self, book: Book) -> list[Block]:
        held = []
        for image in (self.fixed, self.moving):
            held += self._normalised(book, image, image.channels, image.real)
        for name, channels in self.given.images.items():
            if name in self._inputs():
                for image in (self.fixed, self.moving):
                    held += self._normalised(book, image, channels, False)
        if "labels" in self._inputs():
            held += [book.take("images", i.voxels * FLOAT) for i in (self.fixed, self.moving)]
        return held

    def _inputs(self) -> set[str]:
        """Names of the inputs that terms of enabled stages look at."""
        terms = [term for stage in self.recipe.stages if stage.enabled for term in stage.terms]
        named = {getattr(term, "input", "image") for term in terms}
        return named | {"labels" for term in terms if term.kind in ("dice", "contour")}

    def _normalised(self, book: Book, image: ImageSize, channels: int, real: bool) -> list[Block]:
        """`normalise` of one image, and its mask as numbers."""
        volume = image.voxels * FLOAT
        own = 0 if real else volume
        stride = max(1, image.voxels // _SAMPLES)
        thin = image.voxels // stride
        book.touch("preparing", own, thin * 4, thin * 4, thin * 8)  # sorted, with the order
        out = book.take("images", volume * channels)
        book.touch("preparing", own, volume)
        if not image.mask:
            return [out]
        mask = book.take("images", volume)
        # `fill_outside`: known, its share, weighted, filled, and where they meet
        book.touch("preparing", volume / 4, volume, *[volume * channels] * 2)
        return [out, mask]

    # ------------------------------------------------------------------ one stage
    def _stage(
        self, book: Book, spec: StageSpec, start: list[Block]
    ) -> tuple[list[Block], _Level | None]:
        """What it leaves (its warp, if there is one) and the level that lies on."""
        dense = spec.deformation.kind not in LINEAR
        left: list[Block] = []  # of the level before: its pair, warps and memory
        state: list[Block] = []
        memory: list[Block] = []
        level = None
        for number, planned in enumerate(spec.pyramid.levels):
            level = self._level(planned.shrink, spec.pyramid.min_size)
            terms = self._terms(spec, number)
            pair = self._pair(book, level, terms)
            before, remembered = state, memory
            state = self._begin(book, spec, level, first=not before)
            memory = self._memory(book, spec, level)
            book.give(*remembered)
            rows = state  # the state of the start, until the level ends
            state = self._steps(book, spec, level, terms, state)
            book.give(*left)
            left = [*pair, *before, *(rows if rows is not state else [])]
            if spec.deformation.kind in FEW:
                continue
            self._settle(book, spec, level)
        book.give(*left, *memory)
        if not dense:
            book.give(*state)
            return start, level
        book.give(*start)
        return self._transform(book, spec, level, state), level

    def _level(self, shrink: float, min_size: int) -> _Level:
        finest = max(min(self.fixed.spacing_mm), min(self.moving.spacing_mm))
        fixed = level_size(self.fixed.size, self.fixed.spacing_mm, shrink, min_size)
        moving = level_size(self.moving.size, self.moving.spacing_mm, shrink, min_size, finest)
        return _Level(
            math.prod(fixed),
            math.prod(moving),
            fixed == tuple(self.fixed.size),
            moving == tuple(self.moving.size),
            len(fixed),
            self.pairs,
        )

    def _terms(self, spec: StageSpec, number: int) -> list[Any]:
        """The terms that count on this level."""

        def counts(weights: Sequence[float]) -> bool:
            return not weights or weights[min(number, len(weights) - 1)] > 0

        return [term for term in spec.terms if counts(term.level_weights)]

    def channels(self, term: Any) -> int:
        """Channels of what a term compares; 0 where it compares no images."""
        if term.kind in ("dice", "contour"):
            return len(term.labels) or self.given.labels or 1
        if not hasattr(term, "channels"):
            return 0
        own = self.fixed.channels if term.input == "image" else self.given.images.get(term.input, 1)
        chosen = len(term.channels) or own
        mind = getattr(getattr(term, "features", None), "kind", "") == "mind"
        return chosen * MIND_CHANNELS[len(self.fixed.size)] if mind else chosen

    def _sources(self, terms: Sequence[Any]) -> dict[str, int]:
        """What the terms look at, each once: a name that tells them apart -> channels."""
        found = {"image": self.fixed.channels}
        for term in terms:
            count = self.channels(term)
            if not count:
                continue
            plain = getattr(getattr(term, "features", None), "kind", "intensity") == "intensity"
            if plain and getattr(term, "input", "") == "image" and not term.channels:
                continue
            name = getattr(term, "input", term.kind)
            found[f"{name} {term.kind if not plain else ''}"] = count
        return found

    def _pair(self, book: Book, level: _Level, terms: Sequence[Any]) -> list[Block]:
        """Both images, features and masks on a level."""
        out = []
        for name, count in self._sources(terms).items():
            for image, voxels, whole in (
                (self.fixed, level.fixed, level.fixed_whole),
                (self.moving, level.moving, level.moving_whole),
            ):
                size = voxels * FLOAT * self.pairs
                if not whole:
                    book.touch("level images", image.voxels * FLOAT * image.channels, lent=True)
                if name != "image":
                    book.touch("level images", *[size] * 8)  # shifted images and their differences
                if not whole or name != "image" or self.pairs > 1:
                    out.append(book.take("level images", size * count))
        for image, voxels, whole in (
            (self.fixed, level.fixed, level.fixed_whole),
            (self.moving, level.moving, level.moving_whole),
        ):
            if image.mask and (not whole or self.pairs > 1):
                out.append(book.take("level images", voxels * FLOAT * self.pairs))
        return out

    def _rows(self, spec: StageSpec) -> int:
        """Warps of a state."""
        return 2 if spec.deformation.kind == "symmetric" else 1

    def _begin(self, book: Book, spec: StageSpec, level: _Level, first: bool) -> list[Block]:
        """The state a level starts from."""
        if spec.deformation.kind in FEW:
            return []
        size = level.warp * self._rows(spec)
        if first and self._rows(spec) == 2:
            book.touch("warps", level.warp, level.warp, size)
        return [book.take("warps", size)]

    def _memory(self, book: Book, spec: StageSpec, level: _Level) -> list[Block]:
        """Buffers of the descent."""
        if spec.deformation.kind in FEW:
            return []
        buffers = {"adam": 2, "rmsprop": 1, "sgd": 1, "levenberg_marquardt": 1}
        count = buffers[spec.descent.kind]
        if spec.descent.kind == "adam" and not spec.descent.beta1:
            count = 1
        size = level.warp * self._rows(spec)
        return [book.take("memory of the descent", size) for _ in range(count)]

    # ------------------------------------------------------------------ one level
    def _steps(
        self, book: Book, spec: StageSpec, level: _Level, terms: Sequence[Any], state: list[Block]
    ) -> list[Block]:
        """Some steps: afterwards the state, and the best one seen, are kernels' results."""
        each = [arrays_of(term, self.channels(term), self.native) for term in terms]
        kept = [
            book.take("step", size)
            for item in each
            for size in _arrays(item.kept, level.volume * item.channels)
        ]
        if spec.deformation.kind in FEW:
            for _ in range(2):
                if grad := self._loss(book, spec, level, each):
                    book.give(grad)
            book.give(*kept)
            return []
        best: list[Block] = []
        now = state
        for _ in range(3):
            moved = self._step(book, spec, level, each)
            if best and best[0] is not state[0]:
                book.give(*best)
            best, now = now, moved
        book.give(*kept)
        if best and best[0] is not state[0]:
            book.give(*best)
        return now

    def _loss(
        self, book: Book, spec: StageSpec, level: _Level, each: Sequence[TermArrays]
    ) -> Block | None:
        """Loss and gradient; the gradient by the warp, if there is one, is left."""
        dense, rows = spec.deformation.kind not in LINEAR, self._rows(spec)
        held = self._views(book, spec, level, each)
        saved = []
        for item in each:
            size = level.warp if item.of_warp else level.volume * item.channels
            book.touch("step", *_arrays(item.forward * rows, size), lent=item.lent)
            held_on = [book.take("step", n, item.lent) for n in _arrays(item.saved * rows, size)]
            saved.append((item, size, held_on))
        grads: list[Block] = []
        for item, size, blocks in saved:
            book.touch("step", *_arrays(item.backward * rows, size), lent=item.lent)
            book.give(*blocks)
            if dense and not (self.native and item.channels == 1):
                grads.append(book.take("step", level.warp * rows, lent=not item.of_warp))
                if not self.native:
                    book.touch("step", level.warp * rows)
        both = book.take("step", level.warp * 2) if rows == 2 else None  # of both halves
        book.give(*held, *grads)
        if not dense:
            return None
        return both or book.take("step", level.warp, lent=True)

    def _views(
        self, book: Book, spec: StageSpec, level: _Level, each: Sequence[TermArrays]
    ) -> list[Block]:
        """Both images as the terms see them, and what their gradient needs."""
        volume, rows = level.volume, self._rows(spec)
        dense = spec.deformation.kind not in LINEAR
        held = self._exponential(book, spec, level)
        few = spec.deformation.kind in FEW
        if few and dense:
            held += [book.take("step", level.warp)]
        if self.fixed.mask or self.moving.mask or few:
            held += [book.take("step", volume, lent=True)]  # carried masks, or field of view
            held += [book.take("step", volume) for _ in range(2)]  # their product, the weights
        for count in {item.channels for item in each if item.channels} or {1}:
            held += [book.take("step", volume * count, lent=True) for _ in range(rows)]
            if self.native and dense and count == 1:
                held += [book.take("step", level.warp, lent=True) for _ in range(rows)]
            elif not self.native:  # coordinates, of every sample
                held += [book.take("step", level.warp) for _ in range(rows)]
        return held

    def _exponential(self, book: Book, spec: StageSpec, level: _Level) -> list[Block]:
        """The chain of compositions of a velocity, kept for its gradient."""
        if spec.deformation.kind != "stationary_velocity":
            return []
        # each of about three squarings keeps a sampled field and a sum
        return [book.take("step", level.warp, lent=k % 2 == 0) for k in range(_SQUARINGS * 2 + 1)]

    def _step(
        self, book: Book, spec: StageSpec, level: _Level, each: Sequence[TermArrays]
    ) -> list[Block]:
        rows = self._rows(spec)
        size = level.warp * rows
        grad = self._loss(book, spec, level, each)
        assert grad is not None
        if getattr(spec.deformation, "jacobian_transpose", False):
            book.touch("step", size, size, *[level.warp] * 3)
        smooth = book.take("step", size, lent=True)
        if not self.native:
            book.touch("step", size)
        way = smooth
        if rows == 2:  # equal and opposite
            with book.passing("step", level.warp, level.warp):
                way = book.take("step", size)
            book.give(smooth)
            smooth = way
        book.give(grad)
        if not self.native or spec.descent.kind == "sgd":
            more = [size] if spec.descent.kind == "sgd" else [size, size]
            way = book.take("step", size)
            book.touch("step", *more)
            book.give(smooth)
        if spec.deformation.kind in ("greedy", "symmetric"):
            moved = book.take("step", size, lent=True)
            if not self.native:
                book.touch("step", size, size)
        else:
            with book.passing("step", size, size):
                moved = book.take("step", size)
        out = book.take("warps", size, lent=True)
        if not self.native:
            book.touch("step", size)
        book.give(moved)
        if spec.descent.kind == "levenberg_marquardt":
            book.touch("step", size, size)
        book.give(way)
        return [out]

    def _settle(self, book: Book, spec: StageSpec, level: _Level) -> None:
        """What folds is smoothed in copies of a box of the warp: half of it, as a guess; of both
        halves of a symmetric warp all is copied."""
        both = [level.warp] * 8 if spec.deformation.kind == "symmetric" else []
        if spec.deformation.kind != "stationary_velocity":
            book.touch("folds", *both, level.warp * _FOLDED)
        book.touch("folds", level.fixed * self.pairs, lent=True)

    def _transform(
        self, book: Book, spec: StageSpec, level: _Level | None, state: list[Block]
    ) -> list[Block]:
        """The warp that the stage's state stands for."""
        assert level is not None
        if spec.deformation.kind in ("greedy", "free_form"):
            return state
        book.touch("result", level.warp, level.warp / 8, 3 * _SLAB / 8)
        out = book.take("result", level.warp, lent=True)
        book.give(*state)
        return [out]

    def _at_full_resolution(self, book: Book, level: _Level, result: list[Block]) -> list[Block]:
        """One warp per pair on the fixed grid, looked over for folds."""
        if level.fixed_whole:
            book.touch("folds", self.fixed.voxels, lent=True)
            return result
        size = self.fixed.voxels * FLOAT * level.dim
        out = book.take("result", size * self.pairs)
        book.touch("folds", *[self.fixed.voxels * FLOAT] * 2)
        book.give(*result)
        return [out]

    # ------------------------------------------------------------------ the window
    def pictures(self, book: Book, result: list[Block]) -> None:
        """What the window makes of a finished run: images carried, grey, and in bytes."""
        volume = self.fixed.voxels * FLOAT
        shown = volume * self.fixed.channels
        labels = [volume * 2] if self.given.moving_labels else []
        with book.passing("pictures", shown, shown, *[self.fixed.voxels] * 3):
            book.touch("pictures", _SLAB, volume, *labels)
        book.give(*result)


def _arrays(count: float, size: float) -> list[float]:
    """Sizes of `count` arrays of one size, the last a part of it."""
    whole, rest = divmod(count, 1)
    return [size] * int(whole) + ([size * rest] if rest else [])


_SQUARINGS = 4
_FOLDED = 0.5
