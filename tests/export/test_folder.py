import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import onnx
import pytest
import torch
import yaml

from onceforall.arch import Arch
from onceforall.common.files import write_json
from onceforall.errors import CheckpointError, FileError, StatisticsError, VerificationError
from onceforall.export import FORMATS, ExportConfig, OnnxOptions, load
from onceforall.export.card_text import head_of
from one_export import export_network

ALL = {"README.md", "arch.json", "config.json", "model.onnx", "model.py", "network.svg", "preprocess.py", "weights.safetensors"}


NEAREST = {"mean": [0, 0, 0], "std": [1, 1, 1], "crop_share": 1.0, "resize": "", "resolution": 8, "max_pixels": None} | {
    "interpolation": "nearest"
}
OLD_STEPS = {"mean": [0, 0, 0], "std": [1, 1, 1], "crop_share": 1.0, "resize": ""}


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_the_folder_is_whole(sample, tmp_path):
    exported = export_network(tmp_path / "deep" / "net", **sample.arguments())
    assert names(exported.folder) == ALL
    assert names(tmp_path / "deep") == {"net"}
    assert list(exported.proofs) == ["pytorch", "onnx"]
    assert exported.proofs["pytorch"].extracted.max_abs_diff <= exported.proofs["pytorch"].extracted.rounding
    assert exported.proofs["onnx"].active is None
    assert Arch.from_json((exported.folder / "arch.json").read_text()) == sample.arch
    assert len({path.stat().st_mode for path in exported.folder.iterdir()}) == 1  # who may read one may read all
    ElementTree.parse(exported.folder / "network.svg")


def test_the_model_file_says_what_it_is(sample, folder, config):
    properties = {item.key: item.value for item in onnx.load(folder / "model.onnx").metadata_props}
    assert Arch.from_json(properties["arch"]) == sample.arch
    assert ExportConfig.from_json(json.loads(properties["config"])) == replace(config, onnx=OnnxOptions())


def test_load_gives_the_network_back(sample, folder):
    network = load(folder)
    assert not any(module.training for module in network.modules())
    with torch.no_grad():
        torch.testing.assert_close(network(sample.images), sample.network(sample.images), rtol=0, atol=0)


def test_an_export_of_before_there_was_a_preprocessing_file_opens(sample, folder):
    data = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", data | {"format": "onceforall.export/1", "preprocessing": OLD_STEPS})
    (folder / "preprocess.py").unlink()
    with torch.no_grad():
        torch.testing.assert_close(load(folder)(sample.images), sample.network(sample.images))
    export_network(folder, **sample.arguments())  # takes its place
    assert names(folder) == ALL
    assert json.loads((folder / "config.json").read_text())["format"] == "onceforall.export/2"


def test_an_export_of_before_there_was_an_interpolation_opens(sample, folder):
    data = json.loads((folder / "config.json").read_text())
    assert data["preprocessing"].pop("interpolation") == "bilinear"
    write_json(folder / "config.json", data)
    with torch.no_grad():
        torch.testing.assert_close(load(folder)(sample.images), sample.network(sample.images))
    assert ExportConfig.from_json(data).preprocessing.interpolation == "bilinear"


def test_weights_alone(sample, tmp_path):
    export_network(tmp_path / "net", **sample.arguments(formats=["pytorch"]))
    assert names(tmp_path / "net") == ALL - {"model.onnx"}
    assert "onnxruntime.InferenceSession" not in (tmp_path / "net" / "README.md").read_text()
    load(tmp_path / "net")


def test_measure_sees_the_proven_files(sample, tmp_path):
    seen = []

    def measure(folder):
        seen.append(names(folder))
        return sample.arguments()["measure"](folder)

    export_network(tmp_path / "net", **sample.arguments(measure=measure))
    assert {"model.onnx", "weights.safetensors", "arch.json", "config.json"} <= seen[0]


def test_a_network_that_does_not_compute_what_its_weights_say_leaves_no_folder(sample, tmp_path):
    sample.network.register_forward_hook(lambda module, inputs, logits: logits * 1.01)
    with pytest.raises(VerificationError, match=r"weights\.safetensors: does not compute"):
        export_network(tmp_path / "net", **sample.arguments())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, VerificationError])
def test_an_interrupted_export_leaves_the_earlier_one(sample, folder, error):
    before = (folder / "README.md").read_text()

    def measure(folder):
        raise error("stop")

    with pytest.raises(error):
        export_network(folder, **sample.arguments(measure=measure))
    assert names(folder.parent) == {"net"}
    assert (folder / "README.md").read_text() == before
    load(folder)


def test_an_earlier_export_is_replaced(sample, folder):
    export_network(folder, **sample.arguments(formats=[]))
    assert names(folder) == ALL - {"model.onnx"}
    assert names(folder.parent) == {"net"}


def test_files_of_a_format_that_was_added_later_are_of_an_export(sample, tmp_path, monkeypatch):
    monkeypatch.setitem(FORMATS, "later", replace(FORMATS["onnx"], files=("model.later",)))
    for formats in (["later"], []):
        export_network(tmp_path / "net", **sample.arguments(formats=formats))
    assert names(tmp_path / "net") == ALL - {"model.onnx"}


@pytest.mark.parametrize("content", [{"thesis.tex": ""}, {"README.md": "mine"}, {"config.json": '{"format": "other"}'}])
def test_a_folder_with_anything_else_is_left_alone(sample, tmp_path, content):
    (tmp_path / "net").mkdir()
    for name, text in content.items():
        (tmp_path / "net" / name).write_text(text)
    with pytest.raises(FileError, match=r"choose another|not the config"):
        export_network(tmp_path / "net", **sample.arguments())
    assert names(tmp_path / "net") == set(content)
    assert names(tmp_path) == {"net"}


def test_a_file_in_the_way_is_left_alone(sample, tmp_path):
    (tmp_path / "net").write_text("mine")
    with pytest.raises(FileError, match="is not a folder"):
        export_network(tmp_path / "net", **sample.arguments())
    assert (tmp_path / "net").read_text() == "mine"


def test_unknown_formats_are_named(sample, tmp_path):
    with pytest.raises(VerificationError, match=f"'tflite': choose from {', '.join(FORMATS)}"):
        export_network(tmp_path / "net", **sample.arguments(formats=["onnx", "tflite"]))


def test_train_mode_and_missing_statistics_are_refused(sample, tmp_path):
    with pytest.raises(VerificationError, match="recalibrate"):
        export_network(tmp_path / "net", **sample.arguments(network=sample.network.train()))
    sample.network.eval().get_submodule("stem.first.norm").running_mean.fill_(torch.nan)
    with pytest.raises((VerificationError, StatisticsError, CheckpointError), match="not finite"):
        export_network(tmp_path / "net", **sample.arguments())
    assert not list(tmp_path.iterdir())


def test_load_refuses_what_is_missing_or_damaged(folder):
    weights = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        load(folder)
    (folder / "weights.safetensors").unlink()
    with pytest.raises(FileError, match=r"weights\.safetensors: no such file"):
        load(folder)
    (folder / "arch.json").write_text("{}")
    with pytest.raises(FileError, match=r"arch\.json: "):
        load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileError, match=r"config\.json: no such file"):
        load(folder)


def test_load_refuses_weights_of_another_architecture(sample, folder):
    other = sample.space.largest() if sample.arch != sample.space.largest() else sample.space.smallest()
    (folder / "arch.json").write_text(other.to_json())
    with pytest.raises(CheckpointError, match=r"another architecture|export again"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "onceforall.export/9"}, "onceforall.export/1"),
        ({"num_classes": 9}, "num_classes 9"),
        ({"classes": [1] * 10}, "names in classes"),
        ({"preprocessing": {}}, "exactly mean"),
        (
            {"preprocessing": NEAREST},
            "interpolation is 'nearest'",
        ),
        ({"format": "onceforall.export/1", "preprocessing": OLD_STEPS | {"mean": [0]}}, "list of 3 numbers"),
        ({"space": {"format": "onceforall.space/1", "family": "resnet", "arguments": {}}}, "unknown family 'resnet'"),
        ({"more": 1}, "has the fields"),
    ],
)
def test_load_refuses_a_wrong_config(folder, change, message):
    data = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", data | change)
    with pytest.raises(FileError, match=message):
        load(folder)


def test_the_card_tells_what_was_measured(sample, folder):
    card = (folder / "README.md").read_text()
    assert "trained_on" not in card, "there is none"
    plan = sample.space.lower(sample.arch, 10)
    for text in ("97.5 % (95.3 – 98.7)", "360 test images", "0.412 ms (0.409 – 0.416)", "median of 60, batch 1", "network.svg"):
        assert text in card
    for segment in plan.segments:
        assert f"| {segment.name} |" in card
    assert "<b>" not in card.replace("\\<b", "")


def test_the_head_of_the_card_is_yaml(folder):
    card = (folder / "README.md").read_text()
    head = re.match(r"---\n(.*?)\n---\n", card, re.S).group(1)
    told = yaml.safe_load(head)
    assert (told["library_name"], told["pipeline_tag"]) == ("onceforall", "image-classification")
    assert told["metrics"] == ["accuracy"]
    (result,) = told["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == 0.975
    assert told["tags"] == ["once-for-all", "mobilenet_v3", "onnx"]
    assert "license" not in head


@pytest.mark.parametrize("name", ["yes", "a: b", "q\"u'o", "line\nbreak", "\udce4x", "ü 🐈", "*a", "- b", "x" * 300])
def test_any_name_may_stand_in_the_head_of_a_card(name):
    (model,) = yaml.safe_load(head_of({name: 0.5}, name, [name]))["model-index"]
    assert model["name"] == model["results"][0]["dataset"]["name"] == name
