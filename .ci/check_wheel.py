"""Check a built wheel: what is in it, and that it works where the repository is not.

    python .ci/check_wheel.py dist

The wheel is installed into an environment that has nothing of ours; its dependencies, which are large, are seen from the one that
runs this script. There `ofa --version` and `ofa demo --help` answer, and a network is made, extracted and run.
"""

import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

NEEDED = (
    "onceforall/__init__.py", "onceforall/py.typed", "onceforall/app/static/app.js", "onceforall/preprocess.py",
    "onceforall/report/templates/page.html", "onceforall/export/templates/card.md",
)  # fmt: skip
PROGRAM = """
import onceforall, torch
from pathlib import Path
assert Path(onceforall.__file__).is_relative_to({home!r}), onceforall.__file__
space = onceforall.space("mobilenet_v3", width=0.1, resolutions=(32,))
supernet = onceforall.Supernet(space, num_classes=3).eval()
x = torch.randn(2, 3, 32, 32)
network = supernet.extract(space.smallest())
torch.testing.assert_close(network(x), supernet(x, space.smallest()))
print("onceforall", onceforall.__version__, "works from its wheel")
"""


def main() -> None:
    """Look into the wheel, install it, use it."""
    (wheel,) = Path(sys.argv[1]).resolve().glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    if missing := [name for name in NEEDED if name not in names]:
        sys.exit(f"{wheel.name} lacks {', '.join(missing)}")
    if odd := [name for name in names if not name.startswith(("onceforall/", "onceforall-"))]:
        sys.exit(f"{wheel.name} holds what is not the package: {', '.join(odd[:5])}")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "venv")
        venv.create(home, with_pip=True)
        python = home / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", wheel], check=True)
        ask = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        own = Path(subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip())
        (own / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
        asked = (["-c", PROGRAM.format(home=str(home))], ["-m", "onceforall", "--version"], ["-m", "onceforall", "demo", "--help"])
        for command in asked:
            subprocess.run([python, *command], check=True, cwd=folder, stdout=subprocess.DEVNULL if "--help" in command else None)


if __name__ == "__main__":
    main()
