"""The API reference is built without a warning and has what people look for."""

import importlib.util
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent.parent / "docs" / "build_api.py"


def test_the_reference_is_built(tmp_path: Path) -> None:
    pytest.importorskip("pdoc")
    spec = importlib.util.spec_from_file_location("build_api", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    pages = program.build(tmp_path)  # warnings are errors in all tests
    assert pages == len(list(tmp_path.rglob("*.html"))) - 1
    for page, names in {
        "onceforall": ["Supernet", "load", "space"],
        "onceforall/pipeline": ["train", "specialise", "Budget"],
        "onceforall/backends/common": ["Runtime.tolerance", "Runtime.load"],
    }.items():
        text = (tmp_path / f"{page}.html").read_text(encoding="utf-8")
        for name in names:
            assert f'id="{name}"' in text, f"{page} lacks {name}"
    assert "Raises" in (tmp_path / "onceforall/pipeline.html").read_text(encoding="utf-8")
    assert "specialise" in (tmp_path / "search.js").read_text(encoding="utf-8")
