"""Published latency tables against a plain sum over keys, by the rules of the original."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from phone_tables import DATA, MOBILE, NOTE10, ONE, PIXEL1, PROXYLESS, RESOLUTIONS, content, note10_ms, pixel1_ms

import onceforall
from onceforall import Space
from onceforall.errors import ArchError, DeviceError, FileError
from onceforall.latency import LatencyTable
from onceforall.latency.published import segment_keys
from onceforall.search import maximise

DOCS = Path(__file__).parents[2] / "docs" / "published.md"


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
        with pytest.raises(DeviceError, match=rf"160: no entry '{key}', .*: leave out networks with this block"):
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
    with pytest.raises(DeviceError, match=r"segment 'stages.\d.\d' is not in the published tables, .*: measure this space"):
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
        with pytest.raises(DeviceError, match="pixel1_proxyless_224 is a published table, not a device measured here"):
            read()


def test_squeeze_excite_and_h_swish_have_no_older_keys() -> None:
    """Older keys do not tell them, so these blocks would take the time of plain ones."""
    with pytest.raises(DeviceError, match=r"'stages\.1\.0' has squeeze-excite, which keys of this older table do not show"):
        LatencyTable.from_published(PIXEL1, onceforall.space("mobilenet_v3", width=1.2, resolutions=(224,)))
    blocks = {segment.name: segment for segment in MOBILE.lower(MOBILE.largest()).segments if segment.name.startswith("stages.")}
    refused = set()
    for name, block in blocks.items():
        try:
            segment_keys(block, older=True)
        except DeviceError as error:
            refused.add((name.split(".")[1], str(error).split(" has ")[1].split(",")[0]))
    assert refused == {("1", "squeeze-excite"), ("2", "h-swish"), ("3", "squeeze-excite"), ("4", "squeeze-excite")}


def test_rows_of_another_space_are_refused() -> None:
    """Rather than estimated as 0 ms, or as some other network."""
    table = LatencyTable.from_published(NOTE10, onceforall.space("mobilenet_v3", width=1.2))
    space = table.costs.segments.space
    genes = space.genes([space.smallest(160), space.largest(224)])
    for wrong in (np.full_like(genes, -1), np.where(genes == 2, 3, genes), genes[:, :-1], genes * 1.0):
        with pytest.raises(ArchError, match=r"outside|has shape|whole numbers"):
            table.estimate(wrong)
    for dtype in (np.int8, np.int64):
        assert np.array_equal(table.estimate(genes.astype(dtype)), table.estimate(genes))
        with pytest.raises(DeviceError, match="no entry 'Conv-input:164x164"):
            table.estimate(space.genes([space.smallest(164)]).astype(dtype))


def test_the_example_of_the_documents_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DATA)
    section = DOCS.read_text(encoding="utf-8").split("## Latency tables\n")[1].split("\n## ")[0]
    examples = re.findall(r"```py\n(.*?)```", section, re.DOTALL)
    assert examples
    for code in examples:
        exec(compile(code, DOCS.name, "exec"), {})
