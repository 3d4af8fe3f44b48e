"""benchmarks/kernels.py: forms that fail, the public packages, and the tables of the page."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PACKAGES = Path(".venv-peers-packages", "bin", "python")
CHECKS = """
import warnings
warnings.simplefilter("ignore")
from _packages import PEERS, check
for name, peers in PEERS.items():
    for form in peers:
        print(name, form, check(name, form, (24, 24, 24)), check(name, form, (24, 26)))
"""


@pytest.fixture
def benchmark(repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a script of benchmarks/."""
    monkeypatch.syspath_prepend(str(repo_root / "benchmarks"))
    return importlib.import_module


@pytest.fixture
def kernels(benchmark: Any) -> ModuleType:
    return benchmark("kernels")


def row(operation: str, form: str, **more: Any) -> dict[str, Any]:
    about = {"operation": operation, "form": form, "title": f"the {operation}", "least_gb": 0.01}
    measured = {} if "failed" in more else {"seconds": 0.01, "mib": 8.0}
    return about | measured | more


def result(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    names = ("cpu", "logical_cores", "memory_gib", "gpu", "system", "python", "torch", "threads")
    machine = dict.fromkeys(names, 1)
    return {"machine": machine, "size": [64, 128, 256], "bandwidth_gb_s": 10, "rows": rows, **more}


def test_page_shows_what_was_measured(benchmark: Any) -> None:
    package = {"package": "monai", "version": "1.6.1", "what": "Warp", "differs": "0 outside"}
    shown = benchmark("page").SECTIONS["kernels"](
        result(
            row("warp", "native"),
            row("warp", "torch", seconds=0.02, mib=80.0),
            row("warp", "torch-thp", seconds=0.015),
            row("warp", "compiled", failed="BackendCompilerFailed: no compiler"),
            row("warp", "monai", seconds=5.0, mib=16.0, difference=2e-7, **package),
            row("mi", "native"),
            row("mi", "monai", failed="killed by signal 9", **package),
            command="python benchmarks/kernels.py --rounds 2",
        )
    )
    heads = "| plain torch | plain torch, huge pages | torch.compile | memory |"
    assert heads in shown
    assert "| the warp | 10 | 10% | 2.0x | 1.5x | failed | 1.0 / 10.0 / 1.0 / - |" in shown
    assert "| the mi | 10 | 10% |  |  |  | 1.0 |" in shown
    assert "| the warp | monai 1.6.1: Warp | 500x | 2.0 | 2e-07 | 0 outside |" in shown
    assert "| failed | - |  | failed: killed by signal 9 |" in shown
    assert shown.endswith("`python benchmarks/kernels.py --rounds 2`")


def test_page_without_packages_has_one_table(benchmark: Any) -> None:
    shown = benchmark("page").SECTIONS["kernels"](result(row("warp", "native"), command="x"))
    assert "ackage" not in shown
    assert "torch.compile" not in shown


def test_a_failed_form_is_kept_with_its_reason(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def alone(name: str, form: str, *_: Any) -> dict[str, Any]:
        asked.append(form)
        return {"failed": "why"} if form == "compiled" else {"seconds": 3 - len(asked), "mib": 1.0}

    monkeypatch.setattr(kernels, "alone", alone)
    rows = kernels.each({"warp": ["native", "compiled"]}, "8,8,8", 1, rounds=2)
    assert [r.get("failed") for r in rows] == [None, "why"]
    assert rows[0]["seconds"] == 0
    assert asked == ["native", "compiled", "native"]
    monkeypatch.setattr(kernels, "alone", lambda *_: {"failed": "why"})
    with pytest.raises(SystemExit, match="warp as native failed: why"):
        kernels.each({"warp": ["native"]}, "8,8,8", 1, rounds=1)


def test_what_torch_cannot_compile_has_failed(repo_root: Path, tmp_path: Path) -> None:
    script = str(repo_root / "benchmarks" / "kernels.py")
    nowhere = {"CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, script, "--one", "warp:compiled", "--size", "24,24,24"]
    done = subprocess.run(command, env=os.environ | nowhere, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Compiler" in json.loads(done.stdout.splitlines()[-1])["failed"]


def test_reasons_hold_no_path(kernels: ModuleType, repo_root: Path) -> None:
    text = f"Traceback\n\nImportError: {repo_root}/benchmarks is strange\n\n"
    assert kernels.reason(text) == "ImportError: .../benchmarks is strange"
    assert kernels.reason("") == "no output"


def test_missing_packages_name_their_script(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kernels, "PACKAGES", tmp_path / "python")
    with pytest.raises(SystemExit, match="setup"):
        kernels.installed()


def test_packages_have_forms_of_known_operations(kernels: ModuleType, benchmark: Any) -> None:
    operations, peers = benchmark("_forms").OPERATIONS, benchmark("_packages").PEERS
    assert set(peers) <= set(operations)
    assert not set(kernels.FORMS) & {form for own in peers.values() for form in own}
    forms = kernels.chosen(["warp"], compiled=False, packages=True)["warp"]
    assert forms == ["native", "torch", "torch-thp", "usual", "monai", "scipy", "simpleitk"]


@pytest.mark.slow
def test_packages_agree_with_the_engine(repo_root: Path) -> None:
    if not (repo_root / PACKAGES).exists():
        pytest.skip("benchmarks/peers/setup.sh packages has not been run")
    path = os.pathsep.join(str(repo_root / name) for name in ("engine", "benchmarks"))
    done = subprocess.run(
        [repo_root / PACKAGES, "-c", CHECKS],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
