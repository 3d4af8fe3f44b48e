#!/usr/bin/env bash
# Runs pytest with its arguments, on a virtual screen on Linux. Its exit code is pytest's:
# a run that collects no test (exit 5) fails too. Without arguments all tests are run: first those
# that may share the machine, in several processes, then those of the shown window, which are timed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export NAPARI_CONFIG=$scratch/napari.yaml # never the settings of who runs the tests
export NAPARI_STRICT_QT=1 QT_API=pyqt6 MPLBACKEND=Agg

screen=()
if [[ $(uname -s) == Linux ]]; then
    if ! command -v xvfb-run >/dev/null || ! command -v xauth >/dev/null; then
        echo "test: Xvfb is missing: install it with 'apt-get install xvfb xauth'." >&2
        exit 1
    fi
    unset WAYLAND_DISPLAY
    export QT_QPA_PLATFORM=xcb LIBGL_ALWAYS_SOFTWARE=1 XDG_RUNTIME_DIR=$scratch
    screen=(xvfb-run -a -s "-screen 0 1280x800x24 +extension GLX")
fi
# A test that ends its process leaves where it was in the middle of a long log: say it again last.
run() {
    local code=0
    "${screen[@]}" .venv/bin/python -m pytest "$@" 2> >(tee -a "$scratch/errors" >&2) || code=$?
    grep -A 24 'Fatal Python error' "$scratch/errors" | head -60 || true
    : >"$scratch/errors"
    return "$code"
}
if (($#)); then
    run "$@"
    exit
fi
failed=0
OMP_NUM_THREADS=1 run -n auto --maxprocesses 4 --dist worksteal --ignore tests/e2e || failed=$?
run tests/e2e || failed=$?
exit "$failed"
