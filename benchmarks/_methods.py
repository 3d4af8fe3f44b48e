"""How each method of the accuracy benchmark is started, and where its finished runs are kept."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from _common import ROOT, TIMED_OUT, run_measured, scrub
from _sets import DataSet, Pair

PEERS = ROOT / "benchmarks" / "peers"
WORK = PEERS / ".work"


@dataclass(frozen=True)
class Peer:
    """A program we compare with. Raise `revision` when its script changes what it computes."""

    environment: str
    script: str
    versions: str
    options: tuple[str, ...] = ()
    revision: int = 1
    timeout_min: float = 40.0

    @property
    def python(self) -> Path:
        return ROOT / self.environment / "bin" / "python"


METHODS = {
    "greedy": Peer(".venv-peers", "run_greedy.py", "picsl-greedy 1.4.0.3"),
    "ants-syn": Peer(".venv-peers", "run_ants.py", "antspyx 0.6.3"),
    "ants-syncc": Peer(".venv-peers", "run_ants.py", "antspyx 0.6.3", ("--cc",), timeout_min=150.0),
    "elastix": Peer(".venv-peers-elastix", "run_elastix.py", "itk-elastix 0.25.4"),
    "fireants": Peer(".venv-peers-fireants", "run_fireants.py", "fireants 1.5.0", timeout_min=90.0),
}


@dataclass(frozen=True)
class Settings:
    """What holds for every run of one call."""

    threads: int = 2
    device: str | None = None
    again: bool = False  # peers: run although a finished run is kept
    keep_ours: bool = False  # ours: take a finished run, whatever the engine is now
    run: bool = True  # False: only judge what is kept


def folder_of(method: str, name: str, pair: Pair) -> Path:
    return WORK / method.replace(":", "-") / name / pair.name


def key_of(method: str, data: DataSet, settings: Settings) -> str:
    """What a kept run depends on: program, version, options, revision of the script, threads."""
    parts = [method, str(settings.threads)]
    if method in METHODS:
        peer = METHODS[method]
        parts += [peer.versions, *peer.options, str(peer.revision)]
        parts += [*data.options_of(method), data.start, str(data.multimodal)]
    else:
        parts.append(settings.device or "auto")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def command(method: str, data: DataSet, pair: Pair, out: Path, settings: Settings) -> list[str]:
    if method not in METHODS:
        return _command_of_ours(method.removeprefix("ours:"), pair, out, settings)
    peer = METHODS[method]
    words: list[object] = [peer.python, PEERS / peer.script]
    words += ["--fixed", pair.fixed, "--moving", pair.moving]
    optional = {
        "--moving-labels": pair.moving_labels,
        "--fixed-mask": pair.fixed_mask,
        "--moving-mask": pair.moving_mask,
    }
    words += [word for flag, path in optional.items() if path for word in (flag, path)]
    words += ["--out", out, "--threads", settings.threads, "--start", data.start]
    words += ["--multimodal"] if data.multimodal else []
    return [str(word) for word in [*words, *peer.options, *data.options_of(method)]]


def _command_of_ours(preset: str, pair: Pair, out: Path, settings: Settings) -> list[str]:
    preset, _, kernels = preset.partition("@")
    words: list[object] = [sys.executable, "-m", "fireants_engine.cli.main", "run"]
    words += [pair.fixed, pair.moving, "-o", out, "--preset", preset]
    optional = {
        "--kernels": kernels,
        "--moving-labels": pair.moving_labels,
        "--fixed-labels": pair.fixed_labels,
        "--fixed-mask": pair.fixed_mask,
        "--moving-mask": pair.moving_mask,
        "--device": settings.device,
    }
    words += [word for flag, value in optional.items() if value for word in (flag, value)]
    return [str(word) for word in words]


def run(method: str, name: str, data: DataSet, pair: Pair, settings: Settings) -> dict:
    """The record of a finished or failed run (`failed`), kept or made now; {} without any."""
    out = folder_of(method, name, pair)
    record, key = out / "run.json", key_of(method, data, settings)
    kept = json.loads(record.read_text()) if record.exists() else {}
    again = settings.again if method in METHODS else not settings.keep_ours
    if kept.get("key") == key and not (settings.run and again):
        return {"reused": True} | kept
    if not settings.run:
        return {}
    made = {"key": key} | _run_now(method, data, pair, out, settings)
    record.write_text(json.dumps(made) + "\n")
    return {"reused": False} | made


def _run_now(method: str, data: DataSet, pair: Pair, out: Path, settings: Settings) -> dict:
    out.mkdir(parents=True, exist_ok=True)
    for old in out.iterdir():  # nothing of an earlier run may be judged
        if old.is_file():
            old.unlink()
    peer = METHODS.get(method)
    if peer is not None and not peer.python.exists():
        return {"failed": "not installed: run benchmarks/peers/setup.sh"}
    minutes = peer.timeout_min if peer else 40.0
    log = WORK / "logs" / f"{'-'.join(out.relative_to(WORK).parts)}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    words = command(method, data, pair, out, settings)
    measured = run_measured(words, settings.threads, log, timeout_s=60 * minutes)
    if measured.exit_code == 0:
        return measured.as_dict()
    reason = f"exit code {measured.exit_code}"
    if measured.exit_code == TIMED_OUT:
        reason = f"stopped after {minutes:.0f} minutes"
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
    return {"failed": reason, "log_tail": scrub(tail)[-1000:]} | measured.as_dict()
