#!/usr/bin/env bash
# Creates the peers' environments in the repository root, each on its own so that nothing of theirs
# can be imported by the engine, by its tests or by one another:
#
#   .venv-peers            antspyx, picsl-greedy
#   .venv-peers-elastix    itk-elastix
#   .venv-peers-fireants   fireants (its licence restricts use: it is only run, as another program)
#   .venv-peers-epi        PyHySCO (GPL: it is only run, as another program)
#   .venv-peers-packages   monai, kornia, hf-deepali, scipy, SimpleITK: for kernels.py --packages
#
# Idempotent: an environment that already holds its pinned packages is left alone.
#
#   benchmarks/peers/setup.sh                          # all
#   benchmarks/peers/setup.sh elastix                  # one: peers, elastix, fireants, epi or packages
#   PYTHON=python3.12 benchmarks/peers/setup.sh        # another interpreter
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
peers=(picsl-greedy==1.4.0.3 antspyx==0.6.3 SimpleITK numpy)
elastix=(itk-elastix==0.25.4 SimpleITK numpy)
fireants=(fireants==1.5.0 torch==2.13.0 SimpleITK numpy)
epi=(PyHySCO==0.0.4 torch==2.13.0 numpy nibabel)
packages=(torch==2.13.0 monai==1.6.1 kornia==0.9.0 kornia-rs==0.2.0 hf-deepali==0.6.5 scipy==1.17.1
  SimpleITK==2.5.7 numpy)

ready() { # venv, requirements
  [ -x "$1/bin/python" ] && "$1/bin/python" - "${@:2}" <<'PY' >/dev/null 2>&1
import sys
from importlib.metadata import version

for requirement in sys.argv[1:]:
    name, _, wanted = requirement.partition("==")
    if wanted and version(name).partition("+")[0] != wanted:
        raise SystemExit(1)
    version(name)
PY
}

install() { # venv, requirements
  "$1/bin/python" -m pip install --quiet --upgrade "${@:2}"
}

prepare() { # venv, requirements
  local venv=$1
  if ready "$@"; then
    echo "$venv is ready"
    return
  fi
  [ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
  printf '*\n' >"$venv/.gitignore"
  if [ "$venv" = "$root/.venv-peers-fireants" ]; then
    # torch first and pinned, then fireants without the rest of what it declares (notebooks, plots)
    install "$venv" torch==2.13.0 SimpleITK numpy scipy tqdm matplotlib nibabel pandas \
      scikit-image hydra-core
    install "$venv" --no-deps fireants==1.5.0
  elif [ "$venv" = "$root/.venv-peers-epi" ]; then
    install "$venv" torch==2.13.0 numpy scipy matplotlib nibabel # first and pinned
    install "$venv" --no-deps PyHySCO==0.0.4
  elif [ "$venv" = "$root/.venv-peers-packages" ]; then
    install "$venv" torch==2.13.0 numpy # first and pinned: the others would take any
    install "$@"
  else
    install "$@"
  fi
  ready "$@" || { echo "the packages could not be installed into $venv" >&2; exit 1; }
  echo "$venv is ready"
}

for name in "${@:-all}"; do
  case $name in
    peers) prepare "$root/.venv-peers" "${peers[@]}" ;;
    elastix) prepare "$root/.venv-peers-elastix" "${elastix[@]}" ;;
    fireants) prepare "$root/.venv-peers-fireants" "${fireants[@]}" ;;
    epi) prepare "$root/.venv-peers-epi" "${epi[@]}" ;;
    packages) prepare "$root/.venv-peers-packages" "${packages[@]}" ;;
    all)
      prepare "$root/.venv-peers" "${peers[@]}"
      prepare "$root/.venv-peers-elastix" "${elastix[@]}"
      prepare "$root/.venv-peers-fireants" "${fireants[@]}"
      prepare "$root/.venv-peers-epi" "${epi[@]}"
      prepare "$root/.venv-peers-packages" "${packages[@]}"
      ;;
    *) echo "unknown environment: $name" >&2; exit 2 ;;
  esac
done
