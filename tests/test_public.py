"""The public names, that they are cheap to import, and that no order of imports changes what they mean."""

import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

import onceforall

NAMES = {"Arch", "Plan", "Space", "Supernet", "__version__", "load", "space"}


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_names() -> None:
    assert set(onceforall.__all__) >= NAMES
    for name in onceforall.__all__:
        assert name in dir(onceforall)
        assert getattr(onceforall, name) is not None


def test_star_import_gives_all_names() -> None:
    assert run("from onceforall import *; names = dir(); print({'Arch', 'Supernet', 'space'} <= set(names))") == "True"


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'onceforall' has no attribute 'supernett'"):
        onceforall.supernett  # noqa: B018


def test_version_is_a_release_number() -> None:
    assert onceforall.__version__.replace(".", "").isdigit()
    assert version("onceforall")


def test_lazy_names_do_not_collide_with_modules() -> None:
    """In the package itself, where both would be public."""
    folder = Path(onceforall.__file__).parent
    for name, (module, own) in vars(onceforall)["_lazy_names"].items():
        if own is not None:
            assert not (folder / f"{name}.py").exists(), f"onceforall.{name} is also a module"
            assert not (folder / name).exists(), f"onceforall.{name} is also a package"
            assert name in onceforall.__all__
            assert name in vars(import_module(module, "onceforall"))


@pytest.mark.parametrize(
    "first",
    [
        "import onceforall",
        "from onceforall import space",
        "import onceforall.space",
        "from onceforall.space import Space",
        "import onceforall.spaces",
        "from onceforall.spaces import space",
        "import onceforall.costs",
        "import onceforall.genes, onceforall.space, onceforall.spaces",
        "import importlib; importlib.import_module('onceforall.space')",
    ],
)
def test_space_is_the_function_after_any_import_and_torch_stays_out(first: str) -> None:
    run(f"""
{first}
import sys
import onceforall
made = onceforall.space("mobilenet_v3", resolutions=(160, 176, 192))
import onceforall.space
from onceforall.space import Space
from onceforall import Space as Same
assert type(made) is Space is Same is sys.modules["onceforall.space"].Space
assert onceforall.space("mobilenet_v3", resolutions=[160, 176, 192]) == made
arch = made.sample(__import__("numpy").random.default_rng(0))
assert made.lower(arch).macs > 0 and onceforall.Arch.from_json(arch.to_json()) == arch
assert "torch" not in sys.modules
""")


def test_supernet_is_loaded_at_first_use() -> None:
    run("""
import sys, onceforall
assert "Supernet" in dir(onceforall) and "torch" not in sys.modules
from onceforall import Supernet
assert "torch" in sys.modules and Supernet is onceforall.Supernet
import onceforall.supernets.supernet
assert onceforall.supernets.supernet.Supernet is Supernet
""")


def test_import_loads_only_numpy_and_the_standard_library() -> None:
    """Keeps `import onceforall` under 0.3 s without a timing assertion."""
    loaded = run("import sys, onceforall; print(*{name.split('.')[0] for name in sys.modules})").split()
    heavy = {"torch", "torchvision", "sklearn", "scipy", "pandas", "PIL", "pyarrow", "rich", "typer", "safetensors", "onnx"}
    assert not heavy & set(loaded)


def test_parts_load_when_named() -> None:
    assert run("import onceforall; print(onceforall.search.maximise.__name__, onceforall.latency.LatencyTable.__name__)") == (
        "maximise LatencyTable"
    )
