"""`make gpu-check` on a machine that has torch, numpy and pytest and nothing else of ours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BARE = """
import runpy, sys
BANNED = {"pydantic", "SimpleITK", "scipy", "nibabel", "yaml", "napari", "qtpy", "hypothesis"}
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BANNED:
            raise ImportError(f"{name} is not on this machine")
sys.meta_path.insert(0, Nothing())
script, *sys.argv[1:] = sys.argv[1:]
sys.path.insert(0, script.rsplit("/", 1)[0])
"""


def bare(code: str, *arguments: str, root: Path) -> subprocess.CompletedProcess[str]:
    script = str(root / "benchmarks" / "gpu_check.py")
    command = [sys.executable, "-c", BARE + code, script, *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)


def test_it_times_kernels_and_a_registration(repo_root: Path, tmp_path: Path) -> None:
    pytest.importorskip("fireants_kernels", reason="no fireants-kernels are installed")
    out = tmp_path / "cpu.json"
    small = ["--size", "12,14,16", "--shapes", "16,18,20", "--only", "kernels,registration"]
    run = 'runpy.run_path(script, run_name="__main__")'
    done = bare(run, "--device", "cpu", *small, "--out", str(out), root=repo_root)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    rows = {(row["operation"], row["form"]): row["ms"] for row in result["kernels"]["rows"]}
    assert all(ms > 0 for ms in rows.values())
    assert {form for _, form in rows} == {"fused", "torch", "usual"}
    (one,) = result["registration"]
    assert one["steps"] == [200, 100, 50], one
    assert one["seconds"] > 0.01
    assert one["losses"][-1] < -0.3


def test_its_tests_need_no_more(repo_root: Path) -> None:
    code = """
from importlib import import_module
import gpu_check
for name in gpu_check.ON_DEVICE:
    import_module(f"tests.engine.kernels.test_cuda_{name}")
"""
    done = bare(code, root=repo_root)
    assert done.returncode == 0, done.stderr


def test_without_a_gpu_it_says_so(repo_root: Path) -> None:
    done = bare('runpy.run_path(script, run_name="__main__")', root=repo_root)
    assert done.returncode == 2
    assert "No CUDA device is here" in done.stderr
