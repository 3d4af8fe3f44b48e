#!/usr/bin/env bash
# Creates .venv-peers in the repository root: the programs the accuracy benchmark compares with.
# They live apart so that nothing of theirs can be imported by the engine or by its tests.
# Idempotent: a second call returns at once when the packages are already there.
#
#   PYTHON=python3.12 benchmarks/peers/setup.sh     # another interpreter
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
venv="$root/.venv-peers"
packages=(picsl-greedy==1.4.0.3 antspyx==0.6.3 SimpleITK numpy)

ready() {
  "$venv/bin/python" - "${packages[@]}" <<'PY' >/dev/null 2>&1
import sys
from importlib.metadata import version

for requirement in sys.argv[1:]:
    name, _, wanted = requirement.partition("==")
    if wanted and version(name) != wanted:
        raise SystemExit(1)
    version(name)
PY
}

if ready; then
  echo "$venv is ready"
  exit 0
fi

[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
printf '*\n' >"$venv/.gitignore"
"$venv/bin/python" -m pip install --quiet --upgrade "${packages[@]}"
ready || { echo "the packages could not be installed into $venv" >&2; exit 1; }
"$venv/bin/python" -m pip list 2>/dev/null | grep -iE '^(picsl-greedy|antspyx|simpleitk|numpy) '
