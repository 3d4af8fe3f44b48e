"""The workflows agree with the checkout that they build."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from fireants_engine.kernels.native import library

WORKFLOWS = ("ci", "wheels")


def workflow(root: Path, name: str) -> dict[str, Any]:
    return yaml.safe_load((root / ".github" / "workflows" / f"{name}.yml").read_text())


@pytest.fixture
def settings(repo_root: Path) -> dict[str, Any]:
    """Those of cibuildwheel."""
    text = (repo_root / "cuda_ext" / "pyproject.toml").read_text()
    return tomllib.loads(text)["tool"]["cibuildwheel"]


def test_every_machine_of_the_settings_builds_its_wheel(repo_root: Path, settings) -> None:
    machines = workflow(repo_root, "wheels")["jobs"]["wheels"]["strategy"]["matrix"]["include"]
    built = {(m["platform"], m["arch"]) for m in machines}
    systems = ("linux", "macos", "windows")
    assert built == {(system, arch) for system in systems for arch in settings[system]["archs"]}
    assert len({m["runner"] for m in machines}) == len(machines)  # none is built across


def test_the_wheels_are_tried_by_a_command_that_works(settings) -> None:
    if why := library.problem():
        pytest.skip(why)
    command = settings["test-command"].replace("python ", f"{sys.executable} ", 1)
    assert subprocess.run(command, shell=True, cwd="/").returncode == 0


@pytest.mark.parametrize("name", WORKFLOWS)
def test_what_a_workflow_uses_is_pinned_and_there(repo_root: Path, name: str) -> None:
    given = workflow(repo_root, name)
    events = given[True]  # YAML reads the key `on` as a truth
    for event in events.values():
        for pattern in (event or {}).get("paths", []):
            assert any(repo_root.glob(pattern)), pattern
    steps = [step for job in given["jobs"].values() for step in job["steps"]]
    for step in steps:
        if "uses" in step:
            assert re.search(r"@v\d+\.\d+\.\d+$", step["uses"]), step["uses"]
        for line in step.get("run", "").splitlines():
            if "pip install" in line:
                assert re.search(r"==[\d.]+$", line), line
            for script in re.findall(r"^\.\S+", line):
                assert (repo_root / script).stat().st_mode & 0o111, script


def test_nothing_is_published_without_a_tag(repo_root: Path) -> None:
    for name in WORKFLOWS:
        for job in workflow(repo_root, name)["jobs"].values():
            publishes = "publish" in str(job["steps"]) or "permissions" in job
            assert not publishes or "refs/tags/" in job["if"]
