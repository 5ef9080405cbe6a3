"""Advice in error messages: commands quoted for the shell, and what a wrong path is instead of what was needed.

Uses `os.path` rather than methods of `Path`, which raise in folders that may not be read.
"""

import os
import shlex
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from subprocess import list2cmdline

# suffixes of image files that onceforall reads; here, because this module imports nothing heavy
PHOTOS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2",
    ".avif", ".mpo",
)  # fmt: skip
MODELS = frozenset({".onnx", ".pt2", ".pte", ".tflite", ".xml", ".safetensors", ".pth", ".pt", ".bin"})
LOOKED_AT = 200  # the most entries of a folder to examine: it may hold a million


def ofa(*words: str | Path) -> str:
    """A command of `ofa` that can be pasted into a shell: `ofa("evaluate", Path("my run"))` is "ofa evaluate 'my run'".

    Strings that begin with -- are options. Anything else that begins with a dash gets ./ before it, so as not to look like one.
    """
    texts = [f"./{word}" if str(word).startswith("-") and not _is_option(word) else str(word) for word in words]
    return (list2cmdline if os.name == "nt" else shlex.join)(["ofa", *texts])


def not_a_run(path: Path) -> str:
    """Why this is not a run directory, what it is, and what to do, in one line."""
    if not os.path.exists(path):
        file, _, name = path.name.partition(":")
        if name and os.path.isfile(own := path.with_name(f"{file}.py")):
            return f"{path}: not a run directory: did you mean {own}:{name}?"
        make = f"make one with {ofa('train', 'DATA', '--out', path)}, or with ofa import"
        return f"{path}: not a run directory (it does not exist): check the path, or {make}"
    above, home = _run_above(path), _export_of(path)
    run = None if above is None else _typed(above, path)
    if home is not None:
        kind = "a bundle of networks" if os.path.isfile(home / "bundle.json") else "an exported network"
        what = kind if home == path else f"a file of {kind}, {home}"
        if run is None:
            use = "onceforall.load_bundle reads it" if "bundle" in kind else f"{ofa('classify', home, 'PHOTO')} uses it"
            return f"{path}: not a run directory, but {what}: {use}; this command needs the run that it was made from"
        uses = f"; {ofa('classify', home, 'PHOTO')} classifies photographs"
        if home.parent.name == "specialised":
            uses += f", {ofa('evaluate', run, '--arch', home.name)} measures this network"
        return f"{path}: not a run directory, but {what}: give the run that it was made from, {run}{uses}"
    if run is not None:
        return f"{path}: not a run directory, but a part of one: give {run}"
    if not os.path.isdir(path):
        return f"{path}: not a run directory, but {_file(path) if os.path.isfile(path) else 'a pipe or device: a folder is needed'}"
    if runs := [folder for folder in _folders(path) if os.path.isfile(folder / "run.json")]:
        more = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
        return f"{path}: not a run directory, but a folder with runs in it: give one of them, such as {runs[0]}{more}"
    if os.path.isfile(path / "schedule.json") or os.path.isfile(path / "supernet.safetensors"):
        return f"{path}: not a run directory yet, because it stopped too early: run the same ofa train or ofa import again"
    if os.path.isfile(path / "manifest.json") and os.path.isdir(path / "models"):
        use = ofa("profile", "RUN", "--import-results", path / "results.csv", "--device", "imported@NAME")
        return f"{path}: not a run directory, but a kit of models to time: {use} reads their times"
    if _photos(path):
        make = ofa("train", path, "--out", "RUN")
        return f"{path}: not a run directory (it has no run.json), but a folder of images: make a run of them with {make}"
    return (
        f"{path}: not a run directory (it has no run.json): make one with {ofa('train', 'DATA', '--out', path)}, or with ofa import"
    )


def not_an_export(path: Path) -> str | None:
    """Why this is not an exported network, what it is, and what to do, in one line; None if it is one, or a damaged one."""
    home = _export_of(path)
    if home is not None and os.path.isfile(home / "bundle.json"):
        what = "a bundle of several networks" if home == path else f"a file of a bundle of several networks, {home}"
        return f"{path}: not an exported network, but {what}: onceforall.load_bundle({str(home)!r}) reads it"
    if home is not None:
        return None if home == path else f"{path}: not an exported network, but a file of one: give its folder, {home}"
    return _no_network(path, "an exported network", "specialise", "specialised", "config.json")


def not_a_bundle(path: Path) -> str | None:
    """Why this is not a bundle of networks, what it is, and what to do, in one line; None if it is one."""
    home = _export_of(path)
    if home is not None and os.path.isfile(home / "bundle.json"):
        return None if home == path else f"{path}: not a bundle, but a file of one: give its folder, {home}"
    if home is not None:
        return f"{path}: not a bundle, but one exported network: onceforall.load({str(home)!r}) reads it"
    return _no_network(path, "a bundle", "bundle", ".", "bundle.json")


def _no_network(path: Path, wanted: str, command: str, place: str, index: str) -> str | None:
    if not os.path.exists(path):
        return f"{path}: no such file or folder: check the path"
    if os.path.isfile(path):
        return f"{path}: not {wanted}, but {_file(path)}"
    if any(os.path.exists(path / name) for name in ("weights.safetensors", "model.py", "model.onnx")):
        return None
    run = path if os.path.isfile(path / "run.json") else _run_above(path)
    if run is None:
        what = ", but a folder of images" if _photos(path) else ""
        return f"{path}: not {wanted}{what}: give a folder made by ofa {command}"
    what = "a run directory" if run == path else "a part of a run directory"
    run = run if run == path else _typed(run, path)
    if made := [folder for folder in _folders(run / place) if os.path.isfile(folder / index)]:
        names = ", ".join(map(str, made[:3])) + (" and others" if len(made) > 3 else "")
        return f"{path}: not {wanted}, but {what}: give one in it: {names}"
    return f"{path}: not {wanted}, but {what}, with none in it: make one with {ofa(command, run, '--macs', 'N')}"


def did_you_mean(path: Path) -> str:
    """For a path that does not exist, a question with similar names for its first missing part; "" if there are none."""
    missing = next((part for part in (path, *path.parents) if os.path.isdir(part.parent)), path)
    near = get_close_matches(missing.name, [entry.name for entry in _some(missing.parent)], 3, 0.7)
    names = [str(missing.with_name(name) / path.relative_to(missing)) for name in near]
    return f"did you mean {' or '.join(names)}?" if names else ""


def found_instead(path: Path) -> str:
    """What kind of folder made by onceforall this is, in words; "" if none."""
    if os.path.isfile(path / "run.json") and os.path.isfile(path / "schedule.json"):
        return "a run directory"
    return "an exported network" if _export_of(path) == path else ""


def _export_of(path: Path) -> Path | None:
    """The folder of the exported network or bundle that the path is, or is a file of; None if there is none."""
    for folder in (path, path.parent) if path.name else (path,):
        if os.path.isfile(folder / "bundle.json") or (
            os.path.isfile(folder / "config.json") and os.path.isfile(folder / "arch.json")
        ):
            return folder
    return None


def _file(path: Path) -> str:
    ending = path.suffix.lower()
    if ending in PHOTOS:
        return f"a photograph: ofa classify takes an exported network and photographs: {ofa('classify', 'EXPORT', path)}"
    if ending == ".onnx":
        return f"an ONNX file: {ofa('measure', path)} times it"
    if ending in (".pth", ".pt"):
        return f"a file of weights: {ofa('import', path, '--name', 'NAME', '--out', 'RUN')} takes the Once-for-All authors'"
    if ending in MODELS:
        return "a model file, without information on its origin: give a folder made by onceforall"
    return "a file: a folder is needed"


def _typed(run: Path, path: Path) -> Path:
    """The run directory as part of the path as typed: relative if the path is."""
    return next((folder for folder in path.parents if folder.absolute() == run), run)


def _run_above(path: Path) -> Path | None:
    """The run directory that contains the path, if any."""
    return next((folder for folder in path.absolute().parents if os.path.isfile(folder / "run.json")), None)


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in _some(path) if os.path.isdir(entry))


def _photos(path: Path) -> bool:
    """Whether the folder or one of its subfolders contains photographs."""
    places = [path, *_folders(path)[:LOOKED_AT]]
    return any(entry.suffix.lower() in (*PHOTOS, ".parquet") for place in places for entry in _some(place))


def _some(path: Path) -> Iterator[Path]:
    try:
        for number, entry in enumerate(path.iterdir()):
            if number == LOOKED_AT:
                return
            yield entry
    except OSError:  # what cannot be read is not described
        return


def _is_option(word: str | Path) -> bool:
    return isinstance(word, str) and word.startswith("--")
