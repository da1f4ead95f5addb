"""The demo's model, labels and pictures as files, for a first try with a broker of one's own."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from split_core.files import write_whole
from split_lab.demo.frames import compose

_PICTURES = 24
_MODEL = Path(__file__).with_name("meter.tflite")


def write_demo_files(folder: str | Path) -> tuple[Path, Path, Path]:
    """``meter.tflite``, ``digits.txt`` with its labels, and a folder of pictures named by what is
    on them. Raises what `files.cannot_write` makes of a place that takes no file."""
    model, labels, pictures = (Path(folder) / name
                               for name in ("meter.tflite", "digits.txt", "pictures"))
    for index in range(_PICTURES):
        frame, drawn = compose(index, "test"), io.BytesIO()
        Image.fromarray(frame.pixels).save(drawn, "png")
        write_whole(pictures / f"{index:02}-{frame.text}.png", drawn.getvalue())
    write_whole(model, _MODEL.read_bytes())
    write_whole(labels, "".join(f"{digit}\n" for digit in range(10)))
    return model, labels, pictures
