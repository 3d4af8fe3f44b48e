"""Every CUDA kernel compiles for every architecture, within its registers; no GPU is needed."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

nvrtc = pytest.importorskip("fireants_kernels.nvrtc", reason="no fireants-kernels are installed")

try:
    nvrtc.library()
except OSError as error:
    pytest.skip(str(error), allow_module_level=True)

FIELDS = {"DIM": 3, "INDEX": "int"}
FLAT = {"DIM": 2, "INDEX": "long long"}
RADII = {"RX": 3, "RY": 3, "RZ": 3}
SCORE = {"MASK": 0, "SLOPES": 3, "EXACT": 1, "SQUARED": 1}
BOX = {"RADIUS": 3, "FLAT": 0, "GAUSSIAN": 0, "ROWS": 2, "BACK_ROWS": 2, "INDEX": "unsigned"}
WIDEST = {"RADIUS": 4, "GAUSSIAN": 1, "ROWS": 1, "BACK_ROWS": 1, "INDEX": "long long"}
ALL = {"MASK": 1, "SLOPES": 5}
APPROXIMATE = {"SLOPES": 5, "EXACT": 0, "SQUARED": 0}
VARIANTS = {
    "warp.cuh": (FIELDS, FLAT),
    "reduce.cuh": ({},),
    "smooth.cuh": (RADII, {"RX": 8, "RY": 8, "RZ": 8}, {}),
    "descent.cuh": ({},),
    "descent_tiles.cuh": (
        {"CHANNELS": 3, "RZ": 1, "RY": 1, "RX": 1},
        {"CHANNELS": 3, "RZ": 3, "RY": 3, "RX": 3},
        {"CHANNELS": 3, "RZ": 4, "RY": 4, "RX": 4},
        {"CHANNELS": 2, "RZ": 0, "RY": 4, "RX": 4},
    ),
    "labels.cuh": (
        {"DIM": 3, "LABEL": "unsigned char"},
        {"DIM": 3, "LABEL": "long long"},
        {"DIM": 2, "LABEL": "short"},
    ),
    "lncc.cuh": (
        BOX | SCORE,
        BOX | SCORE | WIDEST | ALL,
        BOX | SCORE | WIDEST | {"RADIUS": 5},
        BOX | SCORE | APPROXIMATE,
        BOX | SCORE | ALL | {"FLAT": 1, "BACK_ROWS": 1},
    ),
    "lncc_wide.cuh": (SCORE, SCORE | ALL, SCORE | APPROXIMATE),
    "jacobian.cuh": (
        {"DIM": 3, "WIDTH": 32, "PLANES": 16},
        {"DIM": 2, "WIDTH": 256, "PLANES": 16},
    ),
    "parzen.cuh": (
        {"BINS": 32, "WINDOW": 0, "APPROXIMATE": 0},
        {"BINS": 64, "WINDOW": 1, "APPROXIMATE": 0},
        {"BINS": 4096, "WINDOW": 2, "APPROXIMATE": 1},
    ),
}
"""File -> sets of names that it is compiled with; the first is what a registration uses most."""

MOST_REGISTERS = 128
"""Of a float kernel: at 256 threads a block, two blocks share a multiprocessor."""


MOST_SPILLED = 16
"""Bytes that the compiler may put aside to let one more block in."""


def compiled(file: str, defines: dict, real: str, architecture: int) -> tuple[bytes, str]:
    told = nvrtc.options({"REAL": real, **defines}, architecture, "--ptxas-options=-v")
    return nvrtc.compile_text(file, told)


def test_all_files_are_here() -> None:
    included = {"common.cuh", "lncc_score.cuh"}
    assert {name for name in nvrtc.sources() if name.endswith(".cuh")} == {*VARIANTS, *included}


@pytest.mark.parametrize("file", sorted(VARIANTS))
def test_for_every_architecture(file: str) -> None:
    usual, *others = VARIANTS[file]
    wanted = [(usual, "float", a) for a in nvrtc.ARCHITECTURES]
    wanted += [(usual, "double", 80), *((other, "float", 90) for other in others)]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda one: compiled(file, *one), wanted))
    for (_, real, architecture), (code, log) in zip(wanted, results, strict=True):
        assert code.startswith(b"\x7fELF"), (real, architecture)
        used = [int(n) for n in re.findall(r"Used (\d+) registers", log)]
        assert used, log
        assert max(map(int, re.findall(r"(\d+) bytes spill", log))) <= MOST_SPILLED, log
        if real == "float":
            assert max(used) <= MOST_REGISTERS, log


def test_a_mistake_is_told_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {**nvrtc.sources(), "broken.cuh": '#include "common.cuh"\nint f( { return 1; }\n'}
    monkeypatch.setattr(nvrtc, "sources", lambda: broken)
    with pytest.raises(nvrtc.CompileError, match=r"broken\.cuh\(2\)"):
        nvrtc.compile_text("broken.cuh", nvrtc.options({"REAL": "float"}, 90))


def test_what_was_compiled_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("FIREANTS_CACHE", str(tmp_path))
    made = nvrtc.cubin("reduce.cuh", {"REAL": "float"}, 90)
    (path,) = (tmp_path / "cubin").iterdir()
    assert path.read_bytes() == made
    monkeypatch.setattr(nvrtc, "compile_text", None)  # not called again
    assert nvrtc.cubin("reduce.cuh", {"REAL": "float"}, 90) == made
    changed = {**nvrtc.sources(), "common.cuh": nvrtc.sources()["common.cuh"] + "\n"}
    monkeypatch.setattr(nvrtc, "sources", lambda: changed)
    with pytest.raises(TypeError):  # another text is another kernel
        nvrtc.cubin("reduce.cuh", {"REAL": "float"}, 90)


def test_a_cache_that_cannot_be_written_is_done_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    (tmp_path / "cubin").write_text("a file where the folder should be")
    monkeypatch.setenv("FIREANTS_CACHE", str(tmp_path))
    assert nvrtc.cubin("reduce.cuh", {"REAL": "float"}, 75)


def test_the_installed_kernels_are_those_of_this_checkout(repo_root) -> None:
    source = repo_root / "cuda_ext" / "src"
    texts = {p.name: p.read_text() for p in [*source.glob("*.h"), *source.glob("cuda/*.cuh")]}
    assert nvrtc.sources() == texts, "run `make kernels`"
