"""BIDS sidecars: inherited as BIDS says, never guessed, never those of another image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk

from fireants_engine.errors import InputError
from fireants_engine.io.bids import check_intended, encoding_of, find_sidecar

GOOD = {"PhaseEncodingDirection": "j-", "TotalReadoutTime": 0.05}
DIRECTION = "give one of i, i-, j, j-, k, k- by hand"
READOUT = r"give its seconds by hand\.$"
BY_HAND = r"give its direction and its readout time by hand\.$"


def epi(path: Path, size: tuple[int, ...] = (4, 6, 5)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.Image(list(size), sitk.sitkInt16), str(path))
    return path


def note(path: Path, **values: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def alone(folder: Path, size: tuple[int, ...] = (4, 6, 5), **values: Any) -> Path:
    """An image with the sidecar of its name."""
    note(folder / "epi_8.json", **values)
    return epi(folder / "epi_8.nii.gz", size)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    note(tmp_path / "ds" / "dataset_description.json", Name="d")
    return tmp_path / "ds"


# ------------------------------------------------------------------ sidecars
def test_the_json_of_the_same_name(tmp_path: Path) -> None:
    image = alone(tmp_path, **GOOD)
    note(tmp_path / "8.json", TotalReadoutTime=1.0)
    found = find_sidecar(image)
    assert (found.values, found.files) == (GOOD, (tmp_path / "epi_8.json",))
    none = find_sidecar(epi(tmp_path / "other.nii"))
    assert (none.values, none.files) == ({}, ())


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".NII.GZ"])
@pytest.mark.parametrize("stem", ["sub-01_epi", "a.b"])
def test_extensions(tmp_path: Path, stem: str, suffix: str) -> None:
    path = note(tmp_path / f"{stem}.json", **GOOD)
    assert find_sidecar(tmp_path / f"{stem}{suffix}").files == (path,)


def test_inheritance(dataset: Path) -> None:
    folder = dataset / "sub-01" / "fmap"
    image = folder / "sub-01_dir-AP_epi.nii.gz"
    expected = [
        note(dataset / "epi.json", a=0, b=0, c=0, d=0, e=0),
        note(dataset / "dir-AP_epi.json", b=1, c=1, d=1, e=1),
        note(dataset / "sub-01" / "sub-01_epi.json", c=2, d=2, e=2),
        note(folder / "sub-01_epi.json", d=3, e=3),
        note(folder / "sub-01_dir-AP_epi.json", e=4),
    ]
    for path in (
        dataset.parent / "epi.json",  # above the dataset
        dataset / "bold.json",  # another suffix
        dataset / "dir-PA_epi.json",  # another value
        folder / "sub-01_run-1_epi.json",  # an entity that the image has not
        folder / "._sub-01_dir-AP_epi.json",  # what macOS leaves behind
        dataset / "sub-02" / "sub-01_epi.json",  # not on the way
    ):
        note(path, a=9, b=9, c=9, d=9, e=9)
    found = find_sidecar(image)
    assert found.files == tuple(expected)
    assert found.values == {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4}
    assert dict(found.sources) == dict(zip("abcde", expected, strict=True))


def test_without_a_root_only_the_own_folder_counts(tmp_path: Path) -> None:
    note(tmp_path / "epi.json", PhaseEncodingDirection="i")
    near = note(tmp_path / "fmap" / "dir-AP_epi.json", TotalReadoutTime=0.05)
    assert find_sidecar(tmp_path / "fmap" / "sub-01_dir-AP_epi.nii").files == (near,)


def test_a_nested_dataset_inherits_nothing_from_around(dataset: Path) -> None:
    note(dataset / "epi.json", **GOOD)
    inner = dataset / "derivatives" / "x"
    note(inner / "dataset_description.json", Name="x")
    assert find_sidecar(inner / "sub-01" / "sub-01_epi.nii").files == ()


def test_a_relative_path(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = note(dataset / "epi.json", **GOOD)
    (dataset / "sub-01").mkdir()
    monkeypatch.chdir(dataset / "sub-01")
    assert find_sidecar("../sub-01/sub-01_epi.nii").files == (path,)


def test_two_that_apply_as_much(dataset: Path) -> None:
    image = dataset / "sub-01" / "sub-01_acq-a_dir-AP_epi.nii.gz"
    note(dataset / "acq-a_epi.json", TotalReadoutTime=0.05, EchoTime=1)
    note(dataset / "dir-AP_epi.json", TotalReadoutTime=0.05, EchoTime=2)
    assert find_sidecar(image).values["TotalReadoutTime"] == 0.05
    note(dataset / "dir-AP_epi.json", TotalReadoutTime=0.06)
    words = (
        r"dir-AP_epi\.json: gives another TotalReadoutTime of sub-01_acq-a_dir-AP_epi\.nii\.gz "
        r"than acq-a_epi\.json, .* delete one of the two"
    )
    with pytest.raises(InputError, match=words):
        find_sidecar(image)
    note(dataset / "sub-01" / "sub-01_epi.json", TotalReadoutTime=0.07)
    assert find_sidecar(image).values["TotalReadoutTime"] == 0.07


def test_letters_of_other_encodings_are_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "epi_8.json"
    path.write_bytes(b'\xef\xbb\xbf{"InstitutionName": "K\xf6ln", "TotalReadoutTime": 0.05}')
    assert find_sidecar(tmp_path / "epi_8.nii").values["TotalReadoutTime"] == 0.05


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"TotalReadoutTime": 0.05', "this sidecar is damaged or incomplete .*; copy or convert"),
        ("", "this sidecar is damaged"),
        ("[" * 100_000, "this sidecar is damaged"),
        ("[1, 2]", "holds no keys with values; a sidecar is one JSON object"),
    ],
)
def test_damaged_json(tmp_path: Path, text: str, words: str) -> None:
    image = alone(tmp_path)
    (tmp_path / "epi_8.json").write_text(text)
    for direction in (None, "j"):
        with pytest.raises(InputError, match=rf"epi_8\.json: {words}"):
            encoding_of(image, direction)
    assert encoding_of(image, "j", 0.05).direction == "j"


@pytest.mark.parametrize("name", ["sub-01_epi", "epi_8"])
def test_a_sidecar_that_was_not_fetched(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.json").symlink_to(tmp_path / "annex")
    with pytest.raises(InputError, match=rf"{name}\.json: the sidecar cannot be read .* copy"):
        find_sidecar(tmp_path / f"{name}.nii")


# ------------------------------------------------------------------ encoding
def test_what_is_given_wins(tmp_path: Path) -> None:
    image = alone(tmp_path, **GOOD)
    assert str(encoding_of(image)) == "j-, 0.05 s"
    assert str(encoding_of(image, "i")) == "i, 0.05 s"
    assert str(encoding_of(image, readout_s=0.1)) == "j-, 0.1 s"
    assert str(encoding_of(tmp_path / "not there.nii", "k-", 0.1)) == "k-, 0.1 s"


@pytest.mark.parametrize(("direction", "seconds"), [("i", 0.03), ("j-", 0.05), ("k", 0.04)])
def test_readout_of_the_echo_spacing(tmp_path: Path, direction: str, seconds: float) -> None:
    """TotalReadoutTime = EffectiveEchoSpacing x (N - 1), LESSONS 20."""
    image = alone(tmp_path, PhaseEncodingDirection=direction, EffectiveEchoSpacing=0.01)
    assert encoding_of(image).readout_s == pytest.approx(seconds)
    values = {"EffectiveEchoSpacing": 0.01, "ReconMatrixPE": round(seconds / 0.01) + 1}
    image = alone(tmp_path, PhaseEncodingDirection=direction, **values)
    assert encoding_of(image).readout_s == pytest.approx(seconds)
    image = alone(tmp_path, TotalReadoutTime=0.07, **values)
    assert encoding_of(image, direction).readout_s == 0.07


def test_readout_of_a_series(tmp_path: Path) -> None:
    values = {"PhaseEncodingDirection": "j", "EffectiveEchoSpacing": 0.01}
    assert encoding_of(alone(tmp_path, (4, 6, 5, 3), **values)).readout_s == pytest.approx(0.05)


def test_a_direction_is_never_guessed(tmp_path: Path) -> None:
    remedy = rf"{DIRECTION}, it is never guessed\.$"
    with pytest.raises(InputError, match=rf"a\.nii: there is no sidecar a\.json; {remedy}"):
        encoding_of(epi(tmp_path / "a.nii"))
    words = rf"epi_8\.nii\.gz: there is no PhaseEncodingDirection in epi_8\.json; {remedy}"
    with pytest.raises(InputError, match=words):
        encoding_of(alone(tmp_path, TotalReadoutTime=0.05))
    image = alone(tmp_path, PhaseEncodingAxis="j", TotalReadoutTime=0.05)
    words = r"epi_8\.json: says only PhaseEncodingAxis j, which does not tell the sign"
    with pytest.raises(InputError, match=rf"{words}; {remedy}"):
        encoding_of(image)


def test_a_readout_is_never_guessed(tmp_path: Path) -> None:
    remedy = f"its readout time is not known, {READOUT}"
    with pytest.raises(InputError, match=rf"a\.nii: there is no sidecar a\.json; {remedy}"):
        encoding_of(epi(tmp_path / "a.nii"), "j")
    image = alone(tmp_path, PhaseEncodingDirection="j", EstimatedTotalReadoutTime=0.05)
    words = r"epi_8\.nii\.gz: there is no TotalReadoutTime or EffectiveEchoSpacing in epi_8\.json"
    with pytest.raises(InputError, match=rf"{words}; {remedy}"):
        encoding_of(image)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"PhaseEncodingDirection": "AP"}, "'AP' is no phase-encoding direction; give one of"),
        ({"PhaseEncodingDirection": 1}, f"its PhaseEncodingDirection is 1, no text; {DIRECTION}"),
        ({"TotalReadoutTime": "0.05"}, f"its TotalReadoutTime is '0.05', no number; {READOUT}"),
        ({"TotalReadoutTime": None}, "its TotalReadoutTime is None, no number"),
        ({"TotalReadoutTime": True}, "its TotalReadoutTime is True, no number"),
        ({"TotalReadoutTime": float("nan")}, "its TotalReadoutTime is nan, no number"),
        ({"TotalReadoutTime": 10**400}, "its TotalReadoutTime is 10{400}, no number"),
        ({"TotalReadoutTime": -0.05}, f"its TotalReadoutTime is -0.05, below 0; {READOUT}"),
        ({"TotalReadoutTime": 0}, f"a readout time of 0 s is that of an image .*; {READOUT}"),
        ({"TotalReadoutTime": 52.5}, "A total readout time of 52.5 s .* not milliseconds"),
        ({"ReconMatrixPE": "6"}, f"its ReconMatrixPE is '6', no number; {BY_HAND}"),
    ],
)
def test_values_that_cannot_be(tmp_path: Path, values: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=rf"epi_8\.json: {words}"):
        encoding_of(alone(tmp_path, **GOOD | values))


@pytest.mark.parametrize(
    ("spacing", "words"),
    [
        ("x", "its EffectiveEchoSpacing is 'x', no number"),
        (-1e-3, "its EffectiveEchoSpacing is -0.001, below 0"),
        (0, "a readout time of 0 s"),
    ],
)
def test_spacings_that_cannot_be(tmp_path: Path, spacing: Any, words: str) -> None:
    image = alone(tmp_path, PhaseEncodingDirection="j", EffectiveEchoSpacing=spacing)
    with pytest.raises(InputError, match=rf"epi_8\.json: {words}.*{READOUT}"):
        encoding_of(image)


def test_given_values_that_cannot_be(tmp_path: Path) -> None:
    image = alone(tmp_path, **GOOD)
    with pytest.raises(InputError, match=r"epi_8\.nii\.gz: 'LR' is no phase-encoding direction"):
        encoding_of(image, "LR")
    with pytest.raises(InputError, match=rf"epi_8\.nii\.gz: a readout time of 0 s .* {READOUT}"):
        encoding_of(image, readout_s=0)
    with pytest.raises(InputError, match=r"epi_8\.nii\.gz: A total readout time of -1 s"):
        encoding_of(image, "j", -1)
    with pytest.raises(InputError, match=r"epi_8\.nii\.gz: A total readout time of nan s"):
        encoding_of(image, "j", float("nan"))
    assert encoding_of(image, readout_s=0, allow_zero=True).readout_s == 0


def test_the_sidecar_of_another_image(tmp_path: Path) -> None:
    image = alone(tmp_path, **GOOD, ReconMatrixPE=90)
    words = (
        r"epi_8\.nii\.gz: has 6 samples along j, but epi_8\.json is of an image with 90 "
        rf"\(ReconMatrixPE\); find its own sidecar, or if it was resampled {BY_HAND}"
    )
    for direction, readout_s in ((None, None), ("j", None), (None, 0.05)):
        with pytest.raises(InputError, match=words):
            encoding_of(image, direction, readout_s)
    assert encoding_of(image, "j", 0.05).readout_s == 0.05


def test_an_axis_that_the_image_has_not(tmp_path: Path) -> None:
    image = alone(tmp_path, (4, 6), PhaseEncodingDirection="k", EffectiveEchoSpacing=0.01)
    words = rf"epi_8\.nii\.gz: is 2D and has no voxel axis k to be phase encoded; {DIRECTION}"
    with pytest.raises(InputError, match=words):
        encoding_of(image)


@pytest.mark.parametrize(
    ("name", "direction", "seconds"),
    [
        ("ES0p59_BW2222_AP_8", "j-", 0.0525111),
        ("ES0p59_BW2222_PA_9", "j", 0.0525111),
        ("ES0p60_BW2222_LR_31", "i-", 0.0533986),
        ("ES0p60_BW2222_RL_30", "i", 0.0533986),
    ],
)
def test_what_dcm2niix_wrote(
    shared_data: Path, tmp_path: Path, name: str, direction: str, seconds: float
) -> None:
    image = shared_data / "epi_dcmqa" / f"noPF_noPAT_noPOS_PEres100_{name}.nii"
    if not image.exists():
        pytest.skip("no phantom pair: ../shared/data/epi_dcmqa is absent")
    found = encoding_of(image)
    assert (found.direction, found.readout_s) == (direction, seconds)
    values = dict(find_sidecar(image).values)
    del values["TotalReadoutTime"]
    (tmp_path / image.name).symlink_to(image)
    note(tmp_path / f"{image.stem}.json", **values)
    assert encoding_of(tmp_path / image.name).readout_s == pytest.approx(seconds, abs=1e-7)


# ------------------------------------------------------------------ what a pair is meant for
def study(dataset: Path, series: dict[str, Any], *pair: dict[str, Any]) -> tuple[Path, list[Path]]:
    """Paths of a series and of images in fmap; only the sidecars are written."""
    folder = dataset / "sub-01" / "ses-1"
    note(folder / "func" / "sub-01_ses-1_bold.json", **series)
    images = []
    for direction, values in zip(("AP", "PA"), pair, strict=False):
        images.append(folder / "fmap" / f"sub-01_ses-1_dir-{direction}_epi.nii.gz")
        note(images[-1].with_name(f"sub-01_ses-1_dir-{direction}_epi.json"), **values)
    return folder / "func" / "sub-01_ses-1_bold.nii.gz", images


WRONG = {"IntendedFor": "func/sub-01_ses-1_sbref.nii.gz"}
MEANT = [
    "ses-1/func/sub-01_ses-1_bold.nii.gz",
    "bids::sub-01/ses-1/func/sub-01_ses-1_bold.nii.gz",
    "bids:raw:sub-01/ses-1/func/sub-01_ses-1_bold.nii",
    ["dwi/sub-01_ses-1_dwi.nii.gz", "ses-1/func/sub-01_ses-1_bold.nii.gz"],
    "./ses-1/func/sub-01_ses-1_bold.nii.gz",
    [],
    "",
]


@pytest.mark.parametrize("target", MEANT)
def test_intended(dataset: Path, target: Any) -> None:
    check_intended(*study(dataset, {}, {"IntendedFor": target}, {}))


@pytest.mark.parametrize(
    ("source", "one", "other"),
    [
        ("a", {"B0FieldIdentifier": "a"}, {"B0FieldIdentifier": ["b", "a"]}),
        ("a", {"B0FieldIdentifier": "a"}, {"B0FieldIdentifier": "b"}),
        (["b", "c"], {"B0FieldIdentifier": "c"}, {}),
        ("a", {"B0FieldIdentifier": "a"} | WRONG, WRONG),  # then IntendedFor does not count
        ([], {"B0FieldIdentifier": "a"}, {}),
    ],
)
def test_sources(dataset: Path, source: Any, one: dict[str, Any], other: dict[str, Any]) -> None:
    check_intended(*study(dataset, {"B0FieldSource": source}, one, other))


def test_no_metadata_and_pairs_that_contain_the_series(dataset: Path, tmp_path: Path) -> None:
    check_intended(tmp_path / "a.nii", [tmp_path / "b.nii", tmp_path / "c.nii"])
    series, images = study(dataset, {"B0FieldSource": "a"}, WRONG, WRONG)
    check_intended(images[0], images)
    check_intended(series, [])


def test_meant_for_another_series(dataset: Path) -> None:
    words = (
        r"dir-PA_epi\.nii\.gz: is intended for func/sub-01_ses-1_sbref\.nii\.gz "
        r"\(sub-01_ses-1_dir-PA_epi\.json\), not for sub-01_ses-1_bold\.nii\.gz; choose the "
        r"images of this series, or correct the sidecar\.$"
    )
    for series in ({}, {"B0FieldSource": "a"}):
        with pytest.raises(InputError, match=words):
            check_intended(*study(dataset, series, {}, WRONG))
    many = {"IntendedFor": [f"func/{k}.nii" for k in range(5)]}
    with pytest.raises(InputError, match=r"for func/0\.nii, .*, func/2\.nii and 2 more \("):
        check_intended(*study(dataset, {}, many))
    tail = {"IntendedFor": "ses-2/func/sub-01_ses-1_bold.nii.gz"}
    with pytest.raises(InputError, match="is intended for ses-2"):
        check_intended(*study(dataset, {}, tail))


def test_another_source(dataset: Path) -> None:
    words = (
        r"bold\.nii\.gz: asks for the field a \(B0FieldSource\), but sub-01_ses-1_dir-AP_epi\.nii"
        r"\.gz, sub-01_ses-1_dir-PA_epi\.nii\.gz are of b, c \(B0FieldIdentifier\); choose the "
        r"images of that field, or correct the sidecars\.$"
    )
    one, other = {"B0FieldIdentifier": "b"}, {"B0FieldIdentifier": ["b", "c"]}
    with pytest.raises(InputError, match=words):
        check_intended(*study(dataset, {"B0FieldSource": "a"}, one, other))


@pytest.mark.parametrize("value", [1, None, ["a", 2], {"a": "b"}])
def test_metadata_that_are_no_texts(dataset: Path, value: Any) -> None:
    words = "is neither a text nor a list of texts; correct it"
    with pytest.raises(InputError, match=rf"bold\.json: its B0FieldSource {words}"):
        check_intended(*study(dataset, {"B0FieldSource": value}))
    with pytest.raises(InputError, match=rf"AP_epi\.json: its IntendedFor {words}"):
        check_intended(*study(dataset, {}, {"IntendedFor": value}))
