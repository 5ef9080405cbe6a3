"""Files that are no latency tables: wrong, damaged or hostile YAML gives one clear line."""

import os
import re
import string
from functools import cache
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from phone_tables import NOTE10, ONE, content, note10_ms

from onceforall.errors import FileError, OnceForAllError
from onceforall.latency import LatencyTable, lookup_file
from onceforall.latency.lookup_file import LOADER

FIRST = "Conv-input:160x160x3-output:80x80x24"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefghijkl", "bcdefghijklm", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a mapping from keys"),
        ("# nothing\n", "must be a mapping from keys"),
        ("--- \n...\n", "must be a mapping from keys"),
        ("12.5", "must be a mapping from keys"),
        ("[1, 2]", "must be a mapping from keys"),
        ("{}", "this one has none"),
        ("'': {mean: {}}", "'': line 1: lists, aliases"),
        (f"{FIRST}: 1.0", f"'{FIRST}' must have a mapping with a mean"),
        (f"{FIRST}: [1.0]", f"'{FIRST}': line 1: lists, aliases and further mappings do not belong here"),
        (f"{FIRST}: {{count: 3}}", f"'{FIRST}' has no mean"),
        (f"{FIRST}: {{mean: {{mean: 1.0}}}}", "line 1: lists, aliases and further mappings do not belong here"),
        (f"{FIRST}: {{mean: [1.0]}}", "lists, aliases"),
        (f"{FIRST}: {{mean: 1.0, mean: 2.0}}", f"'{FIRST}': line 1: 'mean' occurs twice"),
        (f"{FIRST}:\n  mean: 1.0\n{FIRST}:\n  mean: 2.0", f"'{FIRST}': line 3: '{FIRST}' occurs twice"),
        (f"{FIRST}: {{mean: 1.0}}\nConv-input:176x176x3-output:88x88x24: {{mean: 1.0}}", "this one has 160 and 176"),
        ("Logits-input:1x1x1536-output:1000: {mean: 1.0}", "this one has none"),
        ("Conv-input:160x176x3-output:80x88x24: {mean: 1.0}", "this one has none"),
        ("Conv-input:0x0x3-output:0x0x24: {mean: 1.0}", "this one has none"),
        (f"{FIRST}: &x {{mean: 1.0}}", "tags and anchors"),
        (f"{FIRST}: &x {{mean: 1.0}}\nother: *x", "tags and anchors"),
        (f"{FIRST}: !!python/object/apply:os.system ['touch executed']", "lists, aliases"),
        (f"{FIRST}: {{mean: !!python/object/apply:os.system ['touch executed']}}", "lists, aliases"),
        (f"{FIRST}: {{mean: !!python/name:os.system ''}}", "tags and anchors"),
        (f"!!python/object/new:os.system {{{FIRST}: {{mean: 1.0}}}}", "must be a mapping from keys"),
        (f"{FIRST}: {{<<: {{mean: 1.0}}}}", "lists, aliases"),
        (f"? {{a: b}}\n: {{mean: 1.0}}\n{FIRST}: {{mean: 1.0}}", "lists, aliases"),
        (BOMB, "lists, aliases"),
        ("[" * 100_000, "must be a mapping from keys|not YAML"),
        ("{a: " * 100_000, "lists, aliases"),
        ("- " * 50_000, "must be a mapping from keys|not YAML"),
        (f"{FIRST}: {{mean: 1.0}}\n---\n{FIRST}: {{mean: 2.0}}", "one YAML document"),
        (f"{FIRST}: {{mean: 1.0", "not YAML"),
        ("\t@`", "not YAML"),
        ('"\\U00110000": 1', "not YAML"),
        ("%YAML " + "9" * 5000 + ".1\n---\n{}", "not YAML"),
        ("a\x00b", "not YAML"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("loader", [yaml.SafeLoader, LOADER], ids=["python", "fastest"])
def test_files_that_are_no_tables(
    text: str, message: str, loader: type[yaml.SafeLoader], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup_file, "LOADER", loader)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "table.yaml"
    path.write_text(text)
    with pytest.raises(FileError, match=message) as caught:
        LatencyTable.from_published(path, ONE)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600 + len(str(path))
    assert os.listdir(tmp_path) == ["table.yaml"]


@pytest.mark.parametrize(
    "mean",
    [
        "0",
        "-1.5",
        "0.0",
        ".nan",
        ".inf",
        "nan",
        "inf",
        "1e999",
        "'1.5'",
        "null",
        "true",
        "010",
        "1:30",
        "1_0",
        "0x1F",
        "x",
        "",
        ".",
    ],
)
def test_times_that_are_none(mean: str, tmp_path: Path) -> None:
    path = tmp_path / "table.yaml"
    path.write_text(f"{FIRST}:\n  count: 1\n  mean: {mean}\n")
    value = re.escape(repr(mean.strip("'")))
    with pytest.raises(FileError, match=rf"'{FIRST}': the mean is {value}: it must be a number of milliseconds above 0"):
        LatencyTable.from_published(path, ONE)


def test_files_and_folders_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file or folder"):
        LatencyTable.from_published(tmp_path / "none", ONE)
    with pytest.raises(FileError, match=r"no \.yaml file in this folder"):
        LatencyTable.from_published(tmp_path, ONE)
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    with pytest.raises(FileError, match="not a text file"):
        LatencyTable.from_published(tmp_path, ONE)
    with open(tmp_path / "binary.yaml", "wb") as file:
        file.truncate(10_000_001)
    with pytest.raises(FileError, match=r"binary\.yaml: has 10\.0 MB, and a file of this kind at most 10 MB"):
        LatencyTable.from_published(tmp_path, ONE)
    (tmp_path / "binary.yaml").unlink()
    os.mkfifo(tmp_path / "pipe.yml")
    with pytest.raises(FileError, match=r"pipe\.yml: this is a pipe or device"):
        LatencyTable.from_published(tmp_path, ONE)
    (tmp_path / "pipe.yml").unlink()
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_bytes((NOTE10 / "160_lookup_table.yaml").read_bytes())
    with pytest.raises(FileError, match=r"b\.yaml: for 160 pixels, like a\.yaml: keep one of them"):
        LatencyTable.from_published(tmp_path, ONE)


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(string.printable, max_size=8), st.dates())
KEYS = st.one_of(st.sampled_from(sorted(content(NOTE10 / "160_lookup_table.yaml"))), st.text(max_size=12), st.integers())
VALUES = st.recursive(SCALARS, lambda v: st.one_of(st.lists(v, max_size=3), st.dictionaries(st.just("mean") | KEYS, v, max_size=3)))


@given(st.dictionaries(KEYS, VALUES, max_size=6), st.booleans())
def test_any_yaml_gives_a_table_or_one_clear_line(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[object, object], whole: bool
) -> None:
    """Whatever replaces entries of a true table: either it is refused, or the values that were replaced are used."""
    given = {**content(NOTE10 / "160_lookup_table.yaml"), **tree} if whole else tree
    _judge(tmp_path_factory.mktemp("t") / "table.yaml", yaml.safe_dump(given, allow_unicode=True).encode())


@given(st.data())
def test_any_damage_gives_a_table_or_one_clear_line(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Bytes of a true file replaced, cut out or put in."""
    original = (NOTE10 / "160_lookup_table.yaml").read_bytes()
    start = data.draw(st.integers(0, len(original)))
    end = data.draw(st.integers(start, min(len(original), start + 40)))
    put = data.draw(st.one_of(st.binary(max_size=20), st.text("\n :{}[]&*!|>-?,#'\"%@`\t0x", max_size=20).map(str.encode)))
    _judge(tmp_path_factory.mktemp("t") / "table.yaml", original[:start] + put + original[end:])


def _judge(path: Path, damaged: bytes) -> None:
    """The table is refused in one line, or estimates what yaml.safe_load reads, or misses a key that is truly missing."""
    path.write_bytes(damaged)
    try:
        (ms,) = LatencyTable.from_published(path, ONE).estimate([ONE.largest()])
        refused = ""
    except OnceForAllError as error:
        ms, refused = 0.0, str(error)
    assert "\n" not in refused
    if refused and "no entry" not in refused:
        return
    read = yaml.load(damaged, Loader=LOADER)
    if found := re.search("no entry '(.*?)'", refused):
        assert found[1] not in read
        return
    changes = sum(
        float(entry["mean"]) - content(NOTE10 / "160_lookup_table.yaml")[key]["mean"]
        for key, entry in read.items()
        if key in content(NOTE10 / "160_lookup_table.yaml") and key in _keys_of_largest()
    )
    assert ms == pytest.approx(note10_ms(ONE.largest()) + changes)


@cache
def _keys_of_largest() -> set[str]:
    """Keys that the largest network of `ONE` needs: those without which it cannot be estimated. Each is needed once."""
    entries = content(NOTE10 / "160_lookup_table.yaml")
    blocks = [k for k in entries if "expanded" in k and "kernel:7" in k]
    most = {
        k.split("-expand")[0]: max(int(b.split("expand:")[1].split("-")[0]) for b in blocks if b.startswith(k.split("-expand")[0]))
        for k in blocks
    }
    wanted = {k for k in blocks if f"expand:{most[k.split('-expand')[0]]}-" in k}
    return wanted | {k for k in entries if "expanded" not in k or "expand:24-" in k}
