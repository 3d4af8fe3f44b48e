"""ExecutionContext: *where* a run happens. Frozen, passed, never global."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from fireants_engine.errors import BackendUnavailableError
from fireants_engine.kernels import REFERENCE, KernelTable, select


def available_devices() -> dict[str, str]:
    """Device name -> plain description, best first."""
    found: dict[str, str] = {}
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(i)
        found[f"cuda:{i}"] = (
            f"{torch.cuda.get_device_name(i)}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        )
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    found["cpu"] = f"CPU, {torch.get_num_threads()} threads"
    return found


def resolve_device(name: str = "auto") -> torch.device:
    """The torch device for `name` (auto, cpu, cuda, cuda:i, mps).

    `auto` prefers CUDA, then the CPU (Apple's GPU has to be asked for: it lacks float64).
    Raises BackendUnavailableError for a device that is not there.
    """
    devices = available_devices()
    if name == "auto":
        name = next((d for d in devices if d.startswith("cuda")), "cpu")
    if name == "cuda":
        name = "cuda:0"
    if name not in devices:
        raise BackendUnavailableError(
            f"Device {name!r} is not available; found: {', '.join(devices)}. Choose one or 'auto'."
        )
    return torch.device(name)


@dataclass(frozen=True)
class ExecutionContext:
    """Device, precision and kernels of a run. `why` says what `auto` chose."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    kernels: KernelTable = REFERENCE
    why: str = ""

    @classmethod
    def create(cls, device: str = "auto", kernels: str = "auto") -> ExecutionContext:
        """Resolve names to a context; raises BackendUnavailableError."""
        where = resolve_device(device)
        table, why = select(kernels, str(where))
        return cls(device=where, kernels=table, why=why)
