"""Times that were measured by another tool."""

import csv
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from onceforall import Space
from onceforall.common.files import read_json
from onceforall.errors import DeviceError, FileError
from onceforall.latency import Device, Effort, LatencyTable, export_kit, import_results
from small_spaces import SMALL, SPACES

TINY = Effort(resolutions=2, fit=6, test=4)
SPACE = SPACES[SMALL[0]]


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kits") / "kit"
    export_kit(SPACE, 10, folder, TINY)
    return folder


def fill(kit: Path, target: Path, ms: dict[str, float] | None = None) -> Path:
    """The kit's CSV with times in proportion to MACs, in a folder with the manifest."""
    target.mkdir()
    (target / "manifest.json").write_bytes((kit / "manifest.json").read_bytes())
    times = {m["file"]: 1e-6 * m["macs"] + 0.01 for m in read_json(kit / "manifest.json")["models"]} | (ms or {})
    with open(target / "results.csv", "w", newline="") as file:
        csv.writer(file).writerows([["file", "ms"], *times.items()])
    return target / "results.csv"


def test_every_model_runs(kit: Path) -> None:
    models = read_json(kit / "manifest.json")["models"]
    lines = (kit / "results.csv").read_text().splitlines()
    assert [row["file"] for row in csv.DictReader(lines)] == [m["file"] for m in models]
    for model in models:
        session = onnxruntime.InferenceSession(str(kit / model["file"]))
        (logits,) = session.run(None, {"images": np.zeros(model["input_shape"], np.float32)})
        assert np.isfinite(logits).all()


def test_times_that_follow_macs_give_a_table_that_does(kit: Path, tmp_path: Path) -> None:
    table = import_results(SPACE, 10, fill(kit, tmp_path / "filled"), "phone-7.1")
    assert table.device == Device("imported", host="phone-7.1") == Device.parse("imported@phone-7.1")
    assert table.errors.mape < 0.03
    table.save(tmp_path / "table.json")
    genes = SPACE.sample_genes(np.random.default_rng(0), 50)
    assert np.array_equal(LatencyTable.load(tmp_path / "table.json", SPACE, 10).estimate(genes), table.estimate(genes))


def test_an_export_goes_on_where_it_stopped(kit: Path, tmp_path: Path) -> None:
    again = tmp_path / "kit"
    assert export_kit(SPACE, 10, again, TINY) == export_kit(SPACE, 10, kit, TINY)
    (again / "results.csv").write_text("mine")
    removed = next(again.glob("models/*"))
    before = removed.read_bytes()
    removed.unlink()
    export_kit(SPACE, 10, again, TINY)
    assert removed.read_bytes() == before
    assert (again / "results.csv").read_text() == "mine"
    with pytest.raises(FileError, match="not a kit of this space"):
        export_kit(SPACE, 11, again, TINY)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("file,ms", "a,b"), "the first line must be file,ms"),
        (lambda text: "\n".join(text.splitlines()[:-1]), "1 of .* models have no time"),
        (lambda text: text + "models/x.onnx,1\n", "models/x.onnx is not a model of this kit"),
        (lambda text: text + text.splitlines()[1] + "\n", "occurs twice"),
        (lambda text: text + "models/y.onnx,fast\n", "'fast' is not a time in ms"),
        (lambda text: text + "models/y.onnx,-1\n", "'-1' is not a time in ms"),
        (lambda text: text + "models/y.onnx,nan\n", "'nan' is not a time in ms"),
        (lambda text: text + "models/y.onnx,0\n", "'0' is not a time in ms"),
        (lambda text: text + "models/y.onnx,inf\n", "'inf' is not a time in ms"),
        (lambda text: "", "the first line must be file,ms"),
    ],
)
def test_wrong_results(kit: Path, tmp_path: Path, change: object, message: str) -> None:
    path = fill(kit, tmp_path / "filled")
    path.write_text(change(path.read_text()))  # type: ignore[operator]
    with pytest.raises(DeviceError, match=message):
        import_results(SPACE, 10, path, "phone")


def as_written_by_a_spreadsheet(text: str, separator: str, decimal: str, start: str = "", encoding: str = "utf-8") -> bytes:
    rows = [[cell.replace(".", decimal) if i else cell for i, cell in enumerate(row)] for row in csv.reader(text.splitlines())]
    return (start + "\r\n".join(separator.join(f'"{cell}"' for cell in row) for row in rows)).encode(encoding)


@pytest.mark.parametrize(
    ("separator", "decimal", "start"),
    [(",", ".", "\ufeff"), (";", ",", ""), (";", ".", "\ufeff"), ("\t", ",", ""), ("\t", ".", "")],
)
def test_what_spreadsheets_write(kit: Path, tmp_path: Path, separator: str, decimal: str, start: str) -> None:
    path = fill(kit, tmp_path / "filled")
    table = import_results(SPACE, 10, path, "phone")
    path.write_bytes(as_written_by_a_spreadsheet(path.read_text(), separator, decimal, start))
    genes = SPACE.sample_genes(np.random.default_rng(0), 50)
    assert np.array_equal(import_results(SPACE, 10, path, "phone").estimate(genes), table.estimate(genes))


@pytest.mark.parametrize(
    ("separator", "decimal", "error", "message"),
    [
        ("|", ".", DeviceError, "the first line must be file,ms, separated by a comma, a semicolon or a tab"),
        (",", ",", DeviceError, "line 2: '.*,.*' is not a time in ms"),
    ],
)
def test_what_is_not_clear_is_refused(
    kit: Path, tmp_path: Path, separator: str, decimal: str, error: type[Exception], message: str
) -> None:
    path = fill(kit, tmp_path / "filled")
    path.write_bytes(as_written_by_a_spreadsheet(path.read_text(), separator, decimal))
    with pytest.raises(error, match=message):
        import_results(SPACE, 10, path, "phone")


@pytest.mark.parametrize(("which", "factor"), [(0, 1e-3), (0, 1e3), (-1, 1 / 30), (-1, 30)])
def test_one_time_that_cannot_be_right(kit: Path, tmp_path: Path, which: int, factor: float) -> None:
    """The first model is a segment, the last one a network."""
    model = read_json(kit / "manifest.json")["models"][which]
    path = fill(kit, tmp_path / "filled", {model["file"]: factor * (1e-6 * model["macs"] + 0.01)})
    with pytest.raises(DeviceError, match=f"{model['file']}: .* ms for .* MACs cannot be right, .* measure it again"):
        import_results(SPACE, 10, path, "phone")


def test_times_that_cannot_be_right(kit: Path, tmp_path: Path) -> None:
    models = read_json(kit / "manifest.json")["models"]
    times = {m["file"]: 1e-6 * m["macs"] + 0.01 for m in models}
    for name, factor in (("fast", 1e-7), ("slow", 1e9)):  # of all, as with a wrong unit
        with pytest.raises(DeviceError, match="cannot be right"):
            import_results(SPACE, 10, fill(kit, tmp_path / name, {file: factor * ms for file, ms in times.items()}), "phone")
    whole = [m["file"] for m in models if m["input_shape"][1] == 3 and m["macs"] > 2 * models[0]["macs"]]
    mixed = dict(zip(whole, [3.0 * times[file] if i % 2 else times[file] / 3 for i, file in enumerate(whole)], strict=True))
    with pytest.raises(DeviceError, match=r"these times do not fit the kit's models: the table is off by \d+%"):
        import_results(SPACE, 10, fill(kit, tmp_path / "mixed", mixed), "phone")


def test_models_are_for_one_image(kit: Path) -> None:
    """As their manifest says; tools for devices refuse inputs without a size."""
    for model in read_json(kit / "manifest.json")["models"]:
        graph = onnx.load(kit / model["file"]).graph
        assert [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim] == model["input_shape"]
        assert graph.output[0].type.tensor_type.shape.dim[0].dim_value == 1


def test_an_export_that_was_killed_at_once(tmp_path: Path) -> None:
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / ".manifest.json.1.tmp").write_text("{")
    assert export_kit(SPACE, 10, tmp_path / "kit", TINY)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine").write_text("")
    with pytest.raises(FileError, match="exists and is not a kit"):
        export_kit(SPACE, 10, tmp_path / "other", TINY)
    with pytest.raises(FileError, match=r"mine: .*another folder"):
        export_kit(SPACE, 10, tmp_path / "other" / "mine", TINY)


def test_another_kit(kit: Path, tmp_path: Path) -> None:
    path = fill(kit, tmp_path / "filled")
    other: Space = SPACES[SMALL[1]]
    with pytest.raises(DeviceError, match="another search space or number of classes"):
        import_results(other, 10, path, "phone")
    with pytest.raises(DeviceError, match="an imported device cannot be named"):
        import_results(SPACE, 10, path, "a phone")
    (path.parent / "manifest.json").write_text("{}")
    with pytest.raises(FileError, match="not the manifest of a kit"):
        import_results(SPACE, 10, path, "phone")
