"""What the benchmark scripts share: where data lie, which machine this is, how a run is measured.

No result may hold a path of the machine: describe, do not locate.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
TIMED_OUT = 124


def data_folder() -> Path:
    """The shared images: `FIREANTS_DATA`, or `../shared/data` beside the repository."""
    folder = Path(os.environ.get("FIREANTS_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        raise SystemExit(
            "no benchmark data: set FIREANTS_DATA to the folder that holds oasis_malf/"
        )
    return folder


def machine(threads: int | None = None) -> dict[str, object]:
    """Processor, memory and versions, for the head of a results file; threads: torch's own."""
    return {
        "cpu": _cpu_model(),
        "logical_cores": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": version_of("torch"),
        "SimpleITK": version_of("SimpleITK"),
        "threads": threads or _torch_threads(),
    }


@dataclass(frozen=True)
class Measured:
    """One finished process. `load_before` is the machine's 1-minute load average at its start.

    `nice`: its priority; with a value above 0 other work went first, and the wall time says little.
    """

    exit_code: int
    process_seconds: float
    process_cpu_seconds: float | None
    process_peak_mib: float
    load_before: float | None
    nice: int | None
    started: str

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def run_measured(
    command: list[str], threads: int, log: Path, timeout_s: float = float("inf")
) -> Measured:
    """Runs `command` with `threads` threads, its output in `log`; wall time and peak memory of it.

    The peak is read from the process while it runs (`VmHWM`, Linux): rusage of a child starts from
    its parent's size. NaN elsewhere. After `timeout_s` the process is killed: exit code TIMED_OUT.
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
    environment = os.environ | dict.fromkeys(names, str(threads)) | {"TQDM_DISABLE": "1"}
    cpu = _children_cpu_seconds()
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    stamp, peak = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), float("nan")
    start = time.perf_counter()
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
        try:
            while process.poll() is None:
                peak = np.fmax(peak, status_mib("VmHWM", process.pid))
                if time.perf_counter() - start > timeout_s:
                    process.kill()
                    process.wait()
                    process.returncode = TIMED_OUT
                    break
                time.sleep(0.05)
        except BaseException:
            process.kill()
            process.wait()
            raise
    seconds = time.perf_counter() - start
    after = _children_cpu_seconds()
    return Measured(
        process.returncode,
        round(seconds, 2),
        None if cpu is None or after is None else round(after - cpu, 2),
        round(float(peak), 1),
        load,
        os.nice(0) if hasattr(os, "nice") else None,
        stamp,
    )


def displacement_in_voxels(field: sitk.Image) -> NDArray[np.float32]:
    """ITK displacement (mm, LPS, components x, y, z) as `u` in voxels of its own grid.

    `u = inverse(direction * spacing) d`, components reversed to array order: (d, *spatial), where
    channel k moves along array axis k.
    """
    dim = field.GetDimension()
    to_mm = np.array(field.GetDirection()).reshape(dim, dim) * np.array(field.GetSpacing())
    voxels = sitk.GetArrayViewFromImage(field) @ np.linalg.inv(to_mm).T
    return np.ascontiguousarray(np.moveaxis(voxels[..., ::-1], -1, 0), dtype=np.float32)


def fold_fraction(field: sitk.Image, mask: NDArray[np.bool_]) -> tuple[int, float]:
    """Strictly folded voxels of `x + u(x)` inside `mask`: number and fraction of the mask.

    A voxel is folded where any of the 2^d one-sided finite-difference Jacobians is <= 0.
    """
    import torch

    from fireants_engine.ops.jacobian import count_folds

    u = torch.from_numpy(displacement_in_voxels(field))[None]
    return count_folds(u, torch.from_numpy(mask)[None, None])


def scrub(text: str) -> str:
    """Text without the paths of this machine."""
    for folder in (ROOT, ROOT.parent, Path.home()):
        text = text.replace(str(folder), "...")
    return text


def _children_cpu_seconds() -> float | None:
    """Processor seconds of all finished children of this process."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None


def _gpu() -> str | None:
    try:
        import torch
    except ImportError:
        return None
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _torch_threads() -> int | None:
    try:
        import torch
    except ImportError:
        return None
    return torch.get_num_threads()


def version_of(package: str) -> str | None:
    """Of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def available_mib() -> float:
    """Memory that could be had now without swapping; Linux."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return next(int(words[1]) / 1024 for words in lines if words[0] == "MemAvailable:")


def status_mib(name: str, pid: int | str = "self") -> float:
    """Memory of a process by the name of its line in /proc/PID/status; NaN elsewhere than Linux."""
    if sys.platform != "linux":
        return float("nan")
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has just ended
        return float("nan")
    lines = (line.split() for line in status.splitlines())
    found = (int(words[1]) / 1024 for words in lines if words[:1] == [f"{name}:"])
    return next(found, float("nan"))


def in_window(command: list[str], mark: str) -> Any:
    """What a process with a screen and settings of its own prints as JSON after `mark`.

    It keeps compiled modules, as an installed package does.
    """
    with tempfile.TemporaryDirectory() as scratch:
        settings = {
            "NAPARI_CONFIG": f"{scratch}/napari.yaml",
            "FIREANTS_USER_FOLDER": f"{scratch}/user",
            "QT_API": "pyqt6",
        }
        if sys.platform == "linux" and not os.environ.get("DISPLAY"):
            if shutil.which("xvfb-run") is None:
                raise SystemExit("no display and no xvfb-run: install xvfb and xauth")
            screen = ["xvfb-run", "-a", "-s", "-screen 0 1280x800x24 +extension GLX"]
            command = [*screen, *command]
            settings |= {"QT_QPA_PLATFORM": "xcb", "LIBGL_ALWAYS_SOFTWARE": "1"}
        world = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | settings
        done = subprocess.run(command, capture_output=True, text=True, env=world)
    line = next((x for x in done.stdout.splitlines() if x.startswith(mark)), None)
    if line is None:
        raise SystemExit(f"{command} failed:\n{done.stdout[-2000:]}{done.stderr[-3000:]}")
    return json.loads(line.removeprefix(mark))
