"""Published latency tables against a plain sum over keys, by the rules of the original; and files that are no such tables."""

import json
import os
import re
import string
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import onceforall
from onceforall import Arch, Space
from onceforall.errors import DeviceError, FileError, OnceForAllError
from onceforall.latency import LatencyTable, lookup_file
from onceforall.latency.lookup_file import LOADER
from onceforall.search import maximise

DATA = Path(__file__).parents[1] / "published_data"
NOTE10, PIXEL1 = DATA / "note10", DATA / "pixel1_proxyless_224.yaml"
DOCS = Path(__file__).parents[2] / "docs" / "published.md"
RESOLUTIONS = (160, 176, 192, 208, 224)
MOBILE = onceforall.space("mobilenet_v3", width=1.2, resolutions=RESOLUTIONS)
PROXYLESS = onceforall.space("proxyless", width=1.0, resolutions=(224,), expand_ratios=(3, 6))
ONE = MOBILE.restrict(resolutions=(160,), depths=(2,))


@cache
def content(path: Path) -> dict[str, dict[str, float]]:
    read = yaml.safe_load(path.read_text())
    assert isinstance(read, dict)
    return read


def note10_ms(arch: Arch) -> float:
    """The sum of the entries, from facts about the w1.2 network."""
    times = content(NOTE10 / f"{arch.resolution}_lookup_table.yaml")
    size, channels = (arch.resolution + 1) // 2, 24
    keys = [
        f"Conv-input:{arch.resolution}x{arch.resolution}x3-output:{size}x{size}x24",
        f"expanded_conv-input:{size}x{size}x24-output:{size}x{size}x24-expand:24-kernel:3-stride:1-idskip:1-se:0-hs:0",
    ]
    facts = zip(arch.stages, (32, 48, 96, 136, 192), (2, 2, 2, 1, 2), (0, 1, 0, 1, 1), (0, 0, 1, 1, 1), strict=True)
    for stage, width, first_stride, se, hs in facts:
        for i, block in enumerate(stage.blocks):
            stride = 1 if i else first_stride
            after, middle = int((size - 1) / stride + 1), round(channels * block.expand_ratio)
            keys.append(
                f"expanded_conv-input:{size}x{size}x{channels}-output:{after}x{after}x{width}-expand:{middle}"
                f"-kernel:{block.kernel}-stride:{stride}-idskip:{int(i > 0)}-se:{se}-hs:{hs}"
            )
            size, channels = after, width
    keys += [
        f"Conv_1-input:{size}x{size}x192-output:{size}x{size}x1152",
        f"AvgPool2D-input:{size}x{size}x1152-output:1x1x1152",
        "Conv_2-input:1x1x1152-output:1x1x1536",
        "Logits-input:1x1x1536-output:1000",
    ]
    return sum(times[key]["mean"] for key in keys)


def pixel1_ms(arch: Arch) -> float:
    """The sum of the entries, from facts about the ProxylessNAS network at 224 pixels."""
    times = content(PIXEL1)
    size, channels = 112, 16
    keys = [
        "Conv-input:224x224x3-output:112x112x32",
        "expanded_conv-input:112x112x32-output:112x112x16-expand:1-kernel:3-stride:1-idskip:0",
    ]
    for stage, width, first_stride in zip(arch.stages, (24, 40, 80, 96, 192, 320), (2, 2, 2, 1, 2, 1), strict=True):
        for i, block in enumerate(stage.blocks):
            stride = 1 if i else first_stride
            after = int((size - 1) / stride + 1)
            keys.append(
                f"expanded_conv-input:{size}x{size}x{channels}-output:{after}x{after}x{width}-expand:{int(block.expand_ratio)}"
                f"-kernel:{block.kernel}-stride:{stride}-idskip:{int(i > 0)}"
            )
            size, channels = after, width
    keys += ["Conv_1-input:7x7x320-output:7x7x1280", "Logits-input:7x7x1280-output:1000"]
    return sum(times[key]["mean"] for key in keys)


@pytest.mark.parametrize("name", ["note10", "pixel1"])
def test_estimates_are_those_of_the_rules(name: str) -> None:
    path, space, expected = (NOTE10, MOBILE, note10_ms) if name == "note10" else (PIXEL1, PROXYLESS, pixel1_ms)
    table = LatencyTable.from_published(path, space)
    genes = space.sample_genes(np.random.default_rng(0), 1000)
    archs = space.archs(genes)
    archs += [space.smallest(), space.largest()]
    assert {arch.resolution for arch in archs} == set(space.resolutions)
    estimates = table.estimate(archs)
    assert estimates == pytest.approx([expected(arch) for arch in archs], rel=1e-12)
    assert estimates.dtype == np.float64
    assert table.estimate(genes).tolist() == estimates[:1000].tolist()
    assert not table.missing


def test_facts_about_the_note10() -> None:
    """The fastest and the slowest network, added up by hand from the files."""
    table = LatencyTable.from_published(str(NOTE10), MOBILE)
    assert table.processor == "note10"
    assert table.estimate([MOBILE.smallest(), MOBILE.largest()]) == pytest.approx([9.890346513, 92.398037986], abs=1e-8)
    assert LatencyTable.from_published(f"{NOTE10}/", MOBILE).processor == "note10"
    assert LatencyTable.from_published(PIXEL1, PROXYLESS).processor == "pixel1_proxyless_224"


def test_a_larger_space_loads_and_what_was_not_measured_is_refused() -> None:
    space = onceforall.space("mobilenet_v3", width=1.2)
    table = LatencyTable.from_published(NOTE10, space)
    genes = space.sample_genes(np.random.default_rng(1), 4000)
    archs = space.archs(genes)
    measured = np.array([arch.resolution in RESOLUTIONS for arch in archs])
    kept = table.estimate(genes[measured])
    assert kept == pytest.approx([note10_ms(arch) for arch, m in zip(archs, measured, strict=True) if m], rel=1e-12)
    with pytest.raises(
        DeviceError,
        match=re.escape(
            "note10: no entry 'Conv-input:164x164x3-output:82x82x24', and a latency is never guessed: "
            "space.restrict(resolutions=[160, 176, 192, 208, 224]) keeps what was measured"
        ),
    ):
        table.estimate([archs[int(measured.argmax())], space.restrict(resolutions=(164,)).largest()])
    for row, known in zip(genes[:40], measured[:40], strict=True):
        if known:
            table.estimate(row[None])
        else:
            with pytest.raises(DeviceError, match="no entry 'Conv-input:"):
                table.estimate(row[None])
    assert table.estimate(genes[:0]).shape == (0,)
    restricted = space.restrict(resolutions=RESOLUTIONS)
    assert not LatencyTable.from_published(NOTE10, restricted).missing


def test_ratio_4_was_not_measured_on_the_pixel1() -> None:
    space = onceforall.space("proxyless", width=1.0)
    table = LatencyTable.from_published(PIXEL1, space)
    assert table.estimate([space.largest()]) == pytest.approx([pixel1_ms(space.largest())])
    at_four = space.restrict(resolutions=(224,), expand_ratios=(4,)).largest()
    with pytest.raises(
        DeviceError,
        match=re.escape(
            "no entry 'expanded_conv-input:112x112x16-output:56x56x24-expand:4-kernel:7-stride:2-idskip:0', and a latency is never "
            "guessed: space.restrict(resolutions=[224], expand_ratios=[3, 6]) keeps what was measured"
        ),
    ):
        table.estimate([at_four])


def test_one_missing_entry(tmp_path: Path) -> None:
    """Of a block that some networks have: others can be estimated."""
    key = "expanded_conv-input:20x20x48-output:20x20x48-expand:144-kernel:5-stride:1-idskip:1-se:1-hs:0"
    entries = content(NOTE10 / "160_lookup_table.yaml")
    (tmp_path / "160.yaml").write_text(yaml.safe_dump({k: v for k, v in entries.items() if k != key}))
    table = LatencyTable.from_published(tmp_path / "160.yaml", MOBILE.restrict(resolutions=(160,)))
    needs, spares = [], []
    for arch in table.costs.segments.space.archs(table.costs.segments.space.sample_genes(np.random.default_rng(2), 200)):
        inner = arch.stages[1].blocks[1:]
        (needs if any(b.kernel == 5 and b.expand_ratio == 3 for b in inner) else spares).append(arch)
    assert table.estimate(spares) == pytest.approx([note10_ms(arch) for arch in spares])
    for arch in needs:
        with pytest.raises(DeviceError, match=rf"160: no entry '{key}', .*: leave networks with this block out"):
            table.estimate([*spares, arch])


@pytest.mark.parametrize("start", ["Conv-", "Conv_1-", "AvgPool2D-", "Conv_2-", "Logits-"])
def test_an_entry_that_all_need(start: str, tmp_path: Path) -> None:
    for resolution in (160, 176):
        entries = content(NOTE10 / f"{resolution}_lookup_table.yaml")
        dropped = [key for key in entries if key.startswith(start) and start != "Conv-"]
        kept = {key: value for key, value in entries.items() if key not in dropped}
        if start == "Conv-":  # the file's resolution is read from it, so a width that the space has not
            dropped = [key for key in entries if key.startswith(start)]
            kept[dropped[0].removesuffix("24") + "32"] = kept.pop(dropped[0])
        (tmp_path / f"{resolution}.yaml").write_text(yaml.safe_dump(kept))
    with pytest.raises(DeviceError, match=rf"no entry '{dropped[0]}', so no network .* \(at 160, 176 pixels\)"):
        LatencyTable.from_published(tmp_path, MOBILE)
    (tmp_path / "160.yaml").write_bytes((NOTE10 / "160_lookup_table.yaml").read_bytes())
    table = LatencyTable.from_published(tmp_path, MOBILE)
    assert table.estimate([ONE.largest()]) == pytest.approx([note10_ms(ONE.largest())])
    with pytest.raises(DeviceError, match=rf"no entry '{dropped[0]}'"):
        table.estimate([MOBILE.restrict(resolutions=(176,)).largest()])


@pytest.mark.parametrize(
    ("space", "num_classes", "key"),
    [
        (MOBILE, 10, "Logits-input:1x1x1536-output:10"),
        (onceforall.space("mobilenet_v3", width=1.0), 1000, "Conv-input:224x224x3-output:112x112x16"),
        (onceforall.space("mobilenet_v3", width=1.2, resolutions=(164,)), 1000, "Conv-input:164x164x3-output:82x82x24"),
        (PROXYLESS, 1000, "Conv-input:224x224x3-output:112x112x32"),
    ],
)
def test_another_space_is_refused(space: Space, num_classes: int, key: str) -> None:
    with pytest.raises(DeviceError, match=rf"note10: no entry '{key}', so no network of this space can be estimated: choose the"):
        LatencyTable.from_published(NOTE10, space, num_classes)


def test_a_family_that_the_tables_do_not_describe() -> None:
    with pytest.raises(DeviceError, match=r"segment 'stages.\d.\d' has no place in the published tables, .*: measure this space"):
        LatencyTable.from_published(NOTE10, onceforall.space("resnet50d", resolutions=(224,)))


def test_the_search_takes_a_published_table() -> None:
    table = LatencyTable.from_published(NOTE10, MOBILE)
    found = maximise(MOBILE, lambda genes: genes.sum(1).astype(float), {"latency_ms": (table.estimate, 20.0)}, seed=0)
    assert note10_ms(found.best) <= 20


@pytest.mark.parametrize("resolutions", [(160,), (160, 161, 164)])
def test_round_trip(tmp_path: Path, resolutions: tuple[int, ...]) -> None:
    space = onceforall.space("mobilenet_v3", width=1.2, resolutions=resolutions)
    table = LatencyTable.from_published(NOTE10, space)
    table.save(tmp_path / "table.json")
    assert "NaN" not in (tmp_path / "table.json").read_text()
    again = LatencyTable.load(tmp_path / "table.json", space, 1000)
    assert (again.processor, again.measured, again.missing, again.num_classes) == ("note10", None, table.missing, 1000)
    for mine, theirs in zip(again.costs.values, table.costs.values, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    if table.missing:
        with pytest.raises(DeviceError, match=r"no entry 'Conv-input:161x161x3-output:81x81x24'.*resolutions=\[160\]"):
            again.estimate([space.restrict(resolutions=(161,)).smallest()])
    data = json.loads((tmp_path / "table.json").read_text())
    data["slots"][0]["ms"][1] = None
    (tmp_path / "table.json").write_text(json.dumps(data))
    with pytest.raises(FileError, match="damaged latency table"):
        LatencyTable.load(tmp_path / "table.json", space, 1000)


def test_a_published_table_is_of_no_device_here() -> None:
    table = LatencyTable.from_published(PIXEL1, PROXYLESS)
    for read in (lambda: table.device, lambda: table.errors, lambda: table.baseline_ms, lambda: table.version):
        with pytest.raises(DeviceError, match="pixel1_proxyless_224 is a published table, not of a device of this machine"):
            read()


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
        ("{}", "this has none"),
        ("'': {mean: {}}", "'': line 1: lists, aliases"),
        (f"{FIRST}: 1.0", f"'{FIRST}' must have a mapping with a mean"),
        (f"{FIRST}: [1.0]", f"'{FIRST}': line 1: lists, aliases and further mappings do not belong here"),
        (f"{FIRST}: {{count: 3}}", f"'{FIRST}' has no mean"),
        (f"{FIRST}: {{mean: {{mean: 1.0}}}}", "line 1: lists, aliases and further mappings do not belong here"),
        (f"{FIRST}: {{mean: [1.0]}}", "lists, aliases"),
        (f"{FIRST}: {{mean: 1.0, mean: 2.0}}", f"'{FIRST}': line 1: 'mean' is there twice"),
        (f"{FIRST}:\n  mean: 1.0\n{FIRST}:\n  mean: 2.0", f"'{FIRST}': line 3: '{FIRST}' is there twice"),
        (f"{FIRST}: {{mean: 1.0}}\nConv-input:176x176x3-output:88x88x24: {{mean: 1.0}}", "this has those of 160 and 176"),
        ("Logits-input:1x1x1536-output:1000: {mean: 1.0}", "this has none"),
        ("Conv-input:160x176x3-output:80x88x24: {mean: 1.0}", "this has none"),
        ("Conv-input:0x0x3-output:0x0x24: {mean: 1.0}", "this has none"),
        (f"{FIRST}: &x {{mean: 1.0}}", "tags and anchors"),
        (f"{FIRST}: &x {{mean: 1.0}}\nother: *x", "tags and anchors"),
        (f"{FIRST}: !!python/object/apply:os.system ['touch executed']", "lists, aliases"),
        (f"{FIRST}: {{mean: !!python/object/apply:os.system ['touch executed']}}", "lists, aliases"),
        (f"{FIRST}: {{mean: !!python/name:os.system ''}}", "tags and anchors"),
        (f"!!python/object/new:os.system {{{FIRST}: {{mean: 1.0}}}}", "must be a mapping from keys"),
        (f"{FIRST}: {{<<: {{mean: 1.0}}}}", "lists, aliases"),
        (f"? {{a: b}}\n: {{mean: 1.0}}\n{FIRST}: {{mean: 1.0}}", "lists, aliases"),
        (BOMB, "lists, aliases"),
        ("[" * 100_000, "must be a mapping from keys"),
        ("{a: " * 100_000, "lists, aliases"),
        ("- " * 50_000, "must be a mapping from keys"),
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
    with pytest.raises(FileError, match=r"b\.yaml: is for 160 pixels, as is a\.yaml: keep one of them"):
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


def test_the_example_of_the_documents_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DATA)
    section = DOCS.read_text(encoding="utf-8").split("## Latency tables\n")[1].split("\n## ")[0]
    examples = re.findall(r"```py\n(.*?)```", section, re.DOTALL)
    assert examples
    for code in examples:
        exec(compile(code, DOCS.name, "exec"), {})
