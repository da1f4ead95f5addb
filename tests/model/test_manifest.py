"""The manifest: formats that are read, and rates of pictures that make no sense."""

from __future__ import annotations

import json

import msgspec
import pytest

from split_core.errors import BundleError
from split_core.model.build import Calibration, build_bundle
from split_core.model.bundle import open_bundle
from split_core.model.cuts import find_cuts
from split_core.model.graph import read_graph
from split_core.model.manifest import FORMAT, PictureRate, parse_manifest
from split_lab.split import describe_model
from tests.support import tiny_models

RATES = (PictureRate("jpeg", 50, 0.2, 900.5), PictureRate("jpeg", 80, 0.1, 1200),
         PictureRate("webp", 50, 0.2, 800))


@pytest.fixture
def bundle(tmp_path):
    """A bundle with rates of pictures, and nothing else measured."""
    source, path = tiny_models.skip_model(), tmp_path / "m.split.tflite"
    graph = read_graph(source)
    path.write_bytes(build_bundle(
        source, graph, find_cuts(graph), calibration=Calibration(pictures=RATES),
        **describe_model(tmp_path / "m.tflite", source, graph).fields()))
    return open_bundle(path)


def changed(bundle, **fields) -> bytes:
    return json.dumps(json.loads(bundle.manifest.to_json()) | fields).encode()


def test_rates_of_pictures_survive_the_bundle(bundle):
    assert bundle.manifest.format == FORMAT == 3
    assert bundle.manifest.pictures == RATES
    assert bundle.picture_rate("jpeg").points == RATES[:2]
    assert bundle.picture_rate("webp").bytes(50) == pytest.approx(800)


def test_older_formats_are_read_without_them(bundle):
    old = json.loads(bundle.manifest.to_json())
    del old["pictures"]
    for number in (1, 2):
        manifest = parse_manifest(json.dumps(old | {"format": number}).encode())
        assert (manifest.format, manifest.pictures) == (number, ())
    with pytest.raises(BundleError, match="format 4, this program reads 1, 2, 3"):
        parse_manifest(changed(bundle, format=4))


@pytest.mark.parametrize("rates, what", [
    ([("jpeg", 0, 0.2, 9)], "picture has the rate"),
    ([("jpeg", 101, 0.2, 9)], "picture has the rate"),
    ([("jpeg", 50, 0.0, 9)], "picture has the rate"),
    ([("jpeg", 50, 1e6, 9)], "picture has the rate"),
    ([("jpeg", 50, 0.2, 0)], "picture has the rate"),
    ([("jpeg", 50, 0.2, 1e12)], "picture has the rate"),
    ([("webp", 50, 0.2, 9), ("webp", 50, 0.1, 10)], "webp pictures are not in order"),
    ([("jpeg", 60, 0.2, 9), ("webp", 40, 0.2, 9), ("jpeg", 50, 0.1, 10)], "not in order"),
    ([("jpeg", 50, 0.1, 9), ("jpeg", 60, 0.2, 10)], "not in order"),
    ([("jpeg", 50, 0.2, 9), ("jpeg", 60, 0.2, 8)], "not in order"),
    ([("avif", 50, 0.2, 9)], "pictures"), ([("jpeg", 50.5, 0.2, 9)], "pictures"),
])
def test_rates_that_make_no_sense_are_refused(bundle, rates, what):
    names = ("format", "quality", "kl", "bytes")
    with pytest.raises(BundleError, match=what):
        parse_manifest(changed(bundle, pictures=[dict(zip(names, r)) for r in rates]))


def test_a_model_without_an_image_input_has_no_pictures(bundle):
    blind = msgspec.structs.replace(bundle.manifest, image=None)
    with pytest.raises(BundleError, match="no image input"):
        parse_manifest(blind.to_json())
