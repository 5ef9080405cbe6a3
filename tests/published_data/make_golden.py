"""Made golden.json and golden.npz: python tests/published_data/make_golden.py FOLDER, the folder of the golden outputs."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from onceforall import Space, published
from onceforall.arch import Arch
from onceforall.ops import Norm
from onceforall.published.names import original_names

EMBEDDED = dict(zip(published.NAMES, (1, 11, 1, 5), strict=True))  # one small architecture per network


def main(source: Path, target: Path) -> None:
    """Copy of each network the facts of all architectures, and for one of them statistics and logits."""
    facts, arrays = {}, {}
    for name, index in EMBEDDED.items():
        shared = json.loads((source / f"{name}.shared.json").read_text(encoding="utf-8"))
        chosen, space = shared["archs"][index], published.published_space(name)
        read = lengths(space, published.arch(space, chosen["arch"], chosen["resolution"]))
        with np.load(source / f"{name}.bn_stats.npz") as statistics:
            arrays[f"{name}.statistics"] = np.concatenate([statistics[key][:length] for key, length in read.items()])
        with np.load(source / f"{name}.shared.npz") as outputs:
            arrays[f"{name}.logits"] = outputs["logits"][index]
        lines = "\n".join(sorted(f"{key} {shape}" for key, shape in shared["state_dict_shapes"].items()))
        digest = hashlib.sha256(lines.encode()).hexdigest()
        facts[name] = {"sha256": digest, "embedded": index, "statistics": read, "archs": shared["archs"]}
    lines = ",\n".join(f'"{name}": {json.dumps(fact)}' for name, fact in facts.items())
    (target / "golden.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    np.savez_compressed(target / "golden.npz", **arrays)


def lengths(space: Space, arch: Arch) -> dict[str, int]:
    """How many of the first entries of each running statistic the architecture reads, by the original's names."""
    segments = space.lower(arch).segments
    norms = {f"{segment.name}.{op.name}": op.shape[0] for segment in segments for op in segment.ops if isinstance(op, Norm)}
    ours = {f"{name}.{leaf}": length for name, length in norms.items() for leaf in ("running_mean", "running_var")}
    theirs = original_names(space.family, space.lower(space.largest()), ours)
    return {theirs[name]: length for name, length in ours.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent)
