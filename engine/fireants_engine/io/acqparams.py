"""How volumes were read out, as a text file of FSL topup: one row `x y z seconds` per volume."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fireants_engine.errors import InputError
from fireants_engine.geometry import Encoding
from fireants_engine.io.itk import write_whole

_ROW = (
    "give x y z and the total readout time in seconds, with one of x, y, z 1 or -1 and the others "
    "0, such as 0 -1 0 0.05"
)


def load_acqparams(path: str | Path) -> tuple[Encoding, ...]:
    """The phase encodings in an `acqparams.txt` (topup --datain, eddy --acqp), row by row.

    One of x, y, z is 1 or -1, the others 0; the time is in seconds, 0 for a volume that is not
    distorted. Text from # on and blank lines are left out. Raises InputError naming file, line
    and remedy.
    Rows are taken as voxel axes of the stored image, as BIDS has them. FSL turns x around while
    it reads an image whose matrix (RAS) has a positive determinant ("neurological"): topup's
    rows along x have the other sign there. That leaves a corrected pair as it is, but negates
    the field in Hz. Reference: FSL, topup user guide; Andersson et al., NeuroImage 20 (2003).
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
        raise InputError(
            f"{path}: cannot be read as text{why}; give topup's table of acquisition parameters."
        ) from None
    rows = [(number, line.partition("#")[0].strip()) for number, line in enumerate(lines, 1)]
    found = tuple(_encoding(f"{path}: line {number}", row) for number, row in rows if row)
    if not found:
        raise InputError(f"{path}: has no row; {_ROW}.")
    return found


def save_acqparams(encodings: Sequence[Encoding], path: str | Path) -> Path:
    """Write one row per volume, times to a microsecond; see `load_acqparams`.

    topup takes no rows along z: turn such images first. Raises InputError for no encodings, and
    when the folder is not there or not writable.
    """
    path = Path(path)
    if not encodings:
        raise InputError(f"{path}: there are no volumes to write rows of; give one or more.")
    text = "".join(f"{_row(encoding)}\n" for encoding in encodings)

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8", newline="")

    return write_whole(path, write)


def _row(encoding: Encoding) -> str:
    vector = [0, 0, 0]
    vector[encoding.axis] = encoding.sign
    return f"{' '.join(map(str, vector))} {encoding.readout_s:.6f}"


def _encoding(where: str, row: str) -> Encoding:
    """Of one row; `where` begins the messages."""
    try:
        *vector, seconds = [float(cell) for cell in row.split()]
    except ValueError:
        vector, seconds = [], 0.0
    if len(vector) != 3 or sorted(map(abs, vector)) != [0, 0, 1]:
        raise InputError(f"{where}: {row!r} is no row; {_ROW}.")
    axis = next(k for k, value in enumerate(vector) if value)
    try:
        return Encoding(axis, int(vector[axis]), seconds)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
