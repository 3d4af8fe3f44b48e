#!/usr/bin/env bash
# Sets up this checkout. Safe to repeat: what is there already is left alone.
#
#   scripts/setup.sh python   .venv with torch, the package (editable), napari and the tools
#   scripts/setup.sh kernels  the fused CPU kernels (fireants-kernels), where there is a C++ compiler
#   scripts/setup.sh system   the system libraries that Qt and the tests need (Debian, Ubuntu)
#   scripts/setup.sh oracle   .venv-oracle with ANTs, which the tests use to re-read our files
#
# Variables, all optional:
#   PYTHON           the interpreter to build the environments with (3.11 to 3.13)
#   TORCH_VERSION    the torch release to install (2.13.0)
#   TORCH_INDEX_URL  the package index to take torch from: on a plain machine PyTorch's index of
#                    CPU builds, on a CUDA machine the index of the CUDA release you want
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

readonly TORCH_VERSION=${TORCH_VERSION:-2.13.0}
readonly SYSTEM_PACKAGES=(
    libxcb-cursor0 libxkbcommon-x11-0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1
    libxcb-render-util0 libxcb-xinerama0 libxcb-shape0 libegl1 libgl1 libdbus-1-3
    libfontconfig1 libglib2.0-0 fonts-dejavu-core xvfb xauth xdotool
)

say() { printf 'setup: %s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.11 python3.12 python3.13; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
            2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail "no Python 3.11, 3.12 or 3.13 found: install one, or name it with PYTHON=/path/to/python."
}

# make_venv FOLDER: creates the environment, or again where an earlier try broke off.
make_venv() {
    "$1/bin/python" -m pip --version >/dev/null 2>&1 && return
    local python
    python=$(find_python)
    say "creating $1 with $("$python" --version)"
    "$python" -m venv --clear "$1" ||
        fail "$python cannot make a virtual environment: install its venv module (Debian: python3-venv)."
}

has_nvidia_driver() { [[ -e /proc/driver/nvidia/version ]] || command -v nvidia-smi >/dev/null; }

install_torch() {
    local pip=(.venv/bin/python -m pip install -qq)
    if .venv/bin/python -c 'import torch' 2>/dev/null; then
        return
    elif [[ -n ${TORCH_INDEX_URL:-} ]]; then
        say "installing torch $TORCH_VERSION from TORCH_INDEX_URL"
        "${pip[@]}" --index-url "$TORCH_INDEX_URL" "torch==$TORCH_VERSION"
    elif [[ $(uname -s) != Linux ]] || has_nvidia_driver; then
        say "installing torch $TORCH_VERSION"
        "${pip[@]}" "torch==$TORCH_VERSION"
    else
        # Only the CUDA builds for Linux require triton: refusing it refuses their gigabytes.
        say "installing torch $TORCH_VERSION, CPU build (no NVIDIA driver found)"
        printf 'triton<0\n' >.venv/no-cuda.txt
        "${pip[@]}" --constraint .venv/no-cuda.txt "torch==$TORCH_VERSION" || fail \
            "no CPU build of torch $TORCH_VERSION could be installed (pip's reason is above)." \
            "Set TORCH_INDEX_URL to PyTorch's index of CPU builds, as its site's 'Get Started'" \
            "names it, and repeat the command."
    fi
}

setup_python() {
    make_venv .venv
    install_torch
    say "installing napari-fireants, napari and the tools (a few minutes the first time)"
    .venv/bin/python -m pip install -qq -e '.[gui,dev]'
    touch .venv/.ready
    say "python environment ready: .venv"
}

find_compiler() {
    local candidate
    for candidate in ${CXX:+"$CXX"} c++ g++ clang++; do
        command -v "$candidate" && return
    done
    return 1
}

setup_kernels() {
    [[ -x .venv/bin/python ]] || fail "run 'scripts/setup.sh python' first."
    if find_compiler >/dev/null; then
        say "building the fused CPU kernels (about two minutes)"
        .venv/bin/python -m pip install -qq --force-reinstall --no-deps ./cuda_ext
    else
        say "no C++ compiler found: the engine will run on its slower PyTorch kernels." \
            "Install one (Debian: g++) and run 'make kernels'."
    fi
    touch .venv/.kernels
}

setup_oracle() {
    [[ -x .venv/bin/python ]] || fail "run 'scripts/setup.sh python' first."
    make_venv .venv-oracle
    say "installing ANTs for the tests of our files (about a minute the first time)"
    # The requirement stands once, in pyproject.toml; the package itself is not needed there.
    .venv/bin/python -c "
import pathlib, tomllib
project = tomllib.loads(pathlib.Path('pyproject.toml').read_text())['project']
print('\n'.join(project['optional-dependencies']['oracle']))" >.venv-oracle/requirements.txt
    .venv-oracle/bin/python -m pip install -qq -r .venv-oracle/requirements.txt
    touch .venv-oracle/.ready
    say "ANTs environment ready: .venv-oracle"
}

# Prints those of the packages that are not installed, one a line.
missing_packages() {
    local name installed
    installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" "${@/%/t64}" 2>/dev/null |
        awk '$2 == "installed" { sub(/t64$/, "", $1); print $1 }') || true
    for name in "$@"; do
        grep -qx -- "$name" <<<"$installed" || printf '%s\n' "$name"
    done
}

setup_system() {
    [[ $(uname -s) == Linux ]] || return 0
    if ! command -v dpkg-query >/dev/null; then
        say "not a Debian system; napari's window and the tests need what Debian calls:" \
            "${SYSTEM_PACKAGES[*]}"
        return
    fi
    local missing root=()
    mapfile -t missing < <(missing_packages "${SYSTEM_PACKAGES[@]}")
    ((${#missing[@]})) || return 0
    if ((EUID != 0)); then
        if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
            root=(sudo -n)
        else
            say "system libraries are missing; install them with:" \
                "sudo apt-get install ${missing[*]}"
            return
        fi
    fi
    say "installing system libraries: ${missing[*]}"
    if ! { "${root[@]}" apt-get -qq update &&
        "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get -qq install --no-install-recommends "${missing[@]}" >/dev/null; }; then
        say "apt-get failed; install them by hand: apt-get install ${missing[*]}"
    fi
}

case ${1:-} in
    python) setup_python ;;
    kernels) setup_kernels ;;
    system) setup_system ;;
    oracle) setup_oracle ;;
    *) fail "usage: scripts/setup.sh python|kernels|system|oracle" ;;
esac
