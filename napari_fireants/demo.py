"""`python -m napari_fireants.demo`: register the packaged pair of brains.

With a display napari opens with the pair loaded and the run started; without one the same run is
done by the command line, which leaves a report and pictures.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

PRESET = "brain-mri-fast"
OUTPUT = Path("demo-output")


def has_display() -> bool:
    """False on a Linux machine without X11 or Wayland."""
    shown = ("DISPLAY", "WAYLAND_DISPLAY")
    return sys.platform != "linux" or any(os.environ.get(name) for name in shown)


def in_napari() -> int:
    """Open napari on the sample pair and press Register."""
    import napari
    from qtpy.QtCore import QTimer

    from napari_fireants._controller import PLUGIN, WIDGET
    from napari_fireants.panels._inputs import SAMPLE

    viewer = napari.Viewer(title="napari-fireants demo")
    viewer.open_sample(PLUGIN, SAMPLE)
    _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
    panel.store.load_preset(PRESET)
    QTimer.singleShot(1000, panel.start)
    napari.run()
    return 0


def headless() -> int:
    """The same run without a window; prints where its report and pictures are."""
    from fireants_engine.cli.main import main
    from napari_fireants._samples import sample_path

    pair = [str(sample_path(f"{name}_t1.nii.gz")) for name in ("icbm152", "colin27")]
    print("No display: registering the sample pair without a window (about a minute).")
    code = main(["run", *pair, "-o", str(OUTPUT), "--preset", PRESET])
    if not code:
        report = (OUTPUT / "report.html").resolve()
        print(f"Report with pictures: {report}")
        print(f"Moved image and transforms: {report.parent}")
    return int(code or 0)


def main() -> int:
    """Exit code of the demo."""
    return in_napari() if has_display() else headless()


if __name__ == "__main__":
    raise SystemExit(main())
