"""Pages that are generated from code agree with the code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_recipe_reference_is_up_to_date(repo_root: Path) -> None:
    script = repo_root / "scripts" / "recipe_reference.py"
    done = subprocess.run([sys.executable, str(script), "--check"], check=False)
    assert done.returncode == 0, "run: .venv/bin/python scripts/recipe_reference.py"


def test_benchmark_page_is_what_the_results_say(repo_root: Path) -> None:
    script = repo_root / "benchmarks" / "page.py"
    done = subprocess.run([sys.executable, str(script), "--check"], check=False)
    assert done.returncode == 0, "run: .venv/bin/python benchmarks/page.py"
