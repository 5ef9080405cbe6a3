"""Data sets on the Hugging Face Hub, `hf:NAME[@REVISION][:CONFIGURATION]`: their Parquet files, read in place in the Hub's cache.

The `datasets` library says which files belong to which split. Its answer is kept for each commit, so that neither the library nor
the Hub is needed again. Apart from that, only the Hub's own files are written.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...common.fetch import ANSWER_S, Tell, from_hub, out_of_reach
from ...common.files import make_folder
from ...common.packages import import_package, no_stderr, one_line, quiet_packages
from ...common.places import cache_folder
from ...common.readable import plural
from ...common.records import read_record, write_record
from ...errors import DataError, FileError
from ..originals import Source, digest
from ..reading import HUB, Reading
from .parquet import open_splits
from .parquet_names import Place, choose_splits, parquet_place
from .scan import LeftOut, listed, printable
from .split_names import mentions_role

EXTRA = "datasets"
CONVERTED = "refs/convert/parquet"  # the branch of files that the Hub has converted
FORMAT = "onceforall.hub-data/1"
FORM = re.compile(r"hf:([\w.-]+(?:/[\w.-]+)?)(?:@([\w./-]+))?(?::(.+))?")
INSIDE = re.compile(r"hf://datasets/(.+?)@([0-9a-f]{40})/(.+)")  # a file
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class _Files:
    """The Parquet files of a data set in one commit, by split."""

    repository: str
    commit: str
    configuration: str
    splits: dict[str, tuple[str, ...]]
    features: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The lasting name of exactly these files."""
        return f"{HUB}{self.repository}@{self.commit}" + (f":{self.configuration}" if self.configuration else "")


def pinned(text: str, on_note: Callable[[str], None] = lambda text: None) -> str:
    """The data set's name with its current commit and configuration.

    Raises:
        DataError: there is no such data set, it has no Parquet files, or there are several configurations.
        FileError: the Hub cannot be reached.
        MissingExtraError: the `datasets` library is not installed.
    """
    return _files(text, on_note).text


def is_pinned_by(text: str, known: str) -> bool:
    """Whether the text names the same data set as `known`, which has a commit, and contradicts no part of it."""
    (name, revision, configuration), own = _parts(text), _parts(known)
    return name == own[0] and revision in ("", own[1]) and configuration in ("", own[2])


def name_and_commit(text: str) -> tuple[str, str]:
    """The name with the configuration, for people, and the revision, "" if not given."""
    name, revision, configuration = _parts(text)
    return f"{name}:{configuration}" if configuration else name, revision


def fetched(text: str, *, on_note: Callable[[str], None] = lambda text: None, tell: Tell = lambda event: None) -> str:
    """As `pinned`, but also downloads the files into the Hub's cache; for `tell` see `onceforall.common.fetch.fetch`."""
    files = _files(text, on_note)
    _in_cache(text, files, LeftOut(), on_note, tell)
    return files.text


def open_hub_data(text: str, reading: Reading, *, on_note: Callable[[str], None] = lambda text: None) -> Source:
    """A data set on the Hub. Files of used splits that are not in the Hub's cache are downloaded.

    Raises:
        DataError: see `pinned` and `parquet.open_splits`.
        FileError: a file cannot be downloaded or written.
        MissingExtraError: as for `pinned`.
    """
    files, left_out = _files(text, on_note), LeftOut()
    splits = _in_cache(text, files, left_out, on_note, lambda event: None)
    known = json.dumps({"info": {"features": files.features}}).encode()
    found = open_splits(files.text, splits, reading, left_out, known, by_path=False)
    partial = dict.fromkeys(place.word for split in splits for place in split if place.word.startswith("partial"))
    remark = f"{listed(partial)}: the Hub has converted only the first 5 GB of the images, the others are missing"
    return replace(found, files=(), remarks=(*found.remarks, *([remark] if partial else [])))


def _in_cache(text: str, files: _Files, left_out: LeftOut, on_note: Callable[[str], None], tell: Tell) -> list[list[Place]]:
    """The files of the used splits, with their places in the cache."""
    places = [Place(Path(name), name, "", word, mentions_role(word)) for word, names in files.splits.items() for name in names]
    splits = choose_splits(Path(files.text), places, left_out)
    notes = iter([f"{files.text}: downloading its {plural(sum(map(len, splits)), 'file')} into the cache of the Hub's library"])

    def downloading(event: dict[str, Any]) -> None:
        for note in notes:  # before the first event
            on_note(note)
        tell(event)

    otherwise = f"get them with hf download {files.repository} --repo-type dataset --local-dir FOLDER and give FOLDER"

    def placed(place: Place) -> Place:
        whole = f"{files.repository}@{files.commit}"
        found = from_hub(text, whole, (place.name,), downloading, otherwise=otherwise, extra=EXTRA, data=True)
        if found is None:
            raise DataError(f"{text}: {printable(place.name)} no longer exists: give another revision")
        return replace(place, path=found.path)

    return [[placed(place) for place in split] for split in splits]


def _parts(text: str) -> tuple[str, str, str]:
    """Name, revision and configuration, "" if not given."""
    found = FORM.fullmatch(text)
    if found is None:
        raise DataError(f"{text}: write {HUB}NAME, {HUB}USER/NAME, {HUB}NAME@REVISION or {HUB}NAME:CONFIGURATION")
    return found[1], found[2] or "", found[3] or ""


def _files(text: str, on_note: Callable[[str], None]) -> _Files:
    """The files by the Hub's answer, or by its stored answer if the revision is a commit or the Hub cannot be reached."""
    name, revision, configuration = _parts(text)

    def kept(text: str) -> Path:
        return make_folder(cache_folder()) / f"hub-{digest([text])}.json"

    known = None
    if kept(text).is_file():
        known = read_record(kept(text), _Files, FORMAT, otherwise="delete it")
        if COMMIT.fullmatch(revision):
            return known
    try:
        found = _ask_hub(text, name, revision, configuration)
    except FileError as error:
        if known is None:
            raise
        on_note(f"{error}; using commit {known.commit}, which was downloaded earlier")
        return known
    for key in {text, found.text}:
        write_record(kept(key), found, FORMAT)
    return found


def _ask_hub(text: str, name: str, revision: str, configuration: str) -> _Files:
    """Ask the Hub and the library: the data set's own Parquet files, else those that the Hub has converted."""
    library, hub = import_package("datasets", EXTRA), import_package("huggingface_hub", EXTRA)
    try:
        with quiet_packages(), no_stderr():  # it draws progress bars
            hub.HfApi().dataset_info(name, revision=revision or None, timeout=ANSWER_S)  # the library tries for half a minute
            builder = library.load_dataset_builder(name, configuration or None, revision=revision or None)
    except ValueError as error:  # a configuration must be named, or there is none of that name
        if "onfig" not in str(error):
            raise _refused(text, name, error) from None
        try:
            with quiet_packages(), no_stderr():
                there = library.get_dataset_config_names(name, revision=revision or None)
        except Exception as another:
            raise _refused(text, name, another) from None
        if there != ["default"]:
            raise _which(text, configuration, there) from None
        kind = one_line(error)
    except RuntimeError as error:  # scripts
        kind = one_line(error)
    except Exception as error:
        raise _refused(text, name, error) from None
    else:
        kind = f"its files are of the kind {type(builder).__module__.rpartition('.')[2]}"
        found = [
            (str(split), INSIDE.fullmatch(str(file)))
            for split, files in (builder.config.data_files or {}).items()
            for file in files
        ]
        inside = [(split, *match.groups()) for split, match in found if match and match[3].endswith(".parquet")]
        if found and len(inside) == len(found) and len({(repository, commit) for _, repository, commit, _ in inside}) == 1:
            splits = {split: tuple(path for word, _, _, path in inside if word == split) for split, *_ in inside}
            features = {} if builder.info.features is None else builder.info.features.to_dict()
            named = builder.config.name if builder.config.name != "default" else ""
            return _Files(inside[0][1], inside[0][2], named, splits, features)
    return _by_names(text, name, revision, configuration, kind)


def _by_names(text: str, name: str, revision: str, configuration: str, kind: str) -> _Files:
    """Parquet files by name, in the revision or among those that the Hub has converted."""
    hub = import_package("huggingface_hub", EXTRA)
    for place in (revision or "main", *([CONVERTED] if revision in ("", "main") else [])):
        try:
            with quiet_packages():
                info = hub.HfApi().dataset_info(name, revision=place)
        except Exception as error:
            if place == CONVERTED and "RevisionNotFound" in type(error).__name__:
                continue
            raise _refused(text, name, error) from None
        if found := _by_layout(text, [file.rfilename for file in info.siblings or []], configuration):
            words = dict.fromkeys(file.word for file in found)
            splits = {word: tuple(file.name for file in found if file.word == word) for word in words}
            return _Files(name, str(info.sha), found[0].configuration, splits)
    raise DataError(
        f"{text}: no Parquet files ({kind}), and the Hub has not converted it: run hf download {name} --repo-type dataset "
        "--local-dir FOLDER and give FOLDER"
    )


def _by_layout(text: str, names: Sequence[str], configuration: str) -> list[Place]:
    """Parquet files by name, CONFIGURATION/SPLIT/0000.parquet; [] if there are none."""
    root = Path("/")
    places = [parquet_place(root / name, root) for name in names if name.endswith(".parquet")]
    there = sorted({place.configuration for place in places})
    if configuration not in there and (configuration or len(there) > 1) and there:
        raise _which(text, configuration, there)
    return [place for place in places if not configuration or place.configuration == configuration]


def _which(text: str, configuration: str, there: Sequence[str]) -> DataError:
    """The error that asks for a configuration."""
    names = listed(filter(None, there), 6)
    if configuration:
        return DataError(f"{text}: no such configuration: choose from {names}")
    return DataError(f"{text}: which configuration, {names}? Write {text}:{next(filter(None, there))}")


def _refused(text: str, name: str, error: Exception) -> DataError | FileError:
    """The error as one line; a `FileError` if the Hub cannot be reached."""
    chain: list[BaseException] = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    kinds, message = {kind.__name__ for cause in chain for kind in type(cause).__mro__}, one_line(error)
    if "GatedRepoError" in kinds or "is a gated dataset" in message:
        return DataError(f"{text}: requires accepting its terms on the Hub's page of {name}: do so, then hf auth login")
    if "RevisionNotFoundError" in kinds or message.startswith("Revision"):
        return DataError(f"{text}: the Hub has no such revision of {name}: check it")
    if kinds & {"DatasetNotFoundError", "RepositoryNotFoundError"}:
        return DataError(f"{text}: the Hub has no data set {name}, or hides it: check the name, or give a token (hf auth login)")
    if kinds & {"EmptyDatasetError", "DataFilesNotFoundError"}:
        return DataError(f"{text}: it has no data files ({message}): give another data set")
    if not out_of_reach(error):
        otherwise = f"fix this, or give a folder (hf download {name} --repo-type dataset --local-dir FOLDER)"
        return DataError(f"{text}: the Hub's library cannot open it ({one_line(chain[-1])}): {otherwise}")
    why = "HF_HUB_OFFLINE is set" if "OfflineModeIsEnabled" in kinds else one_line(chain[-1])
    return FileError(f"{text}: not in the cache, and the Hub is out of reach ({why}): connect, or give a folder")
