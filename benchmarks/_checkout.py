"""Importing this lets a bare Python import the checkout's engine and kernels, uninstalled."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [str(path) for path in (ROOT / "engine", ROOT / "cuda_ext", ROOT, ROOT / "benchmarks")]

sys.path.extend(SOURCES)
