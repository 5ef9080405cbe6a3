"""Made specialized.json.gz and predictor_resnet50d.npz: python tests/published_data/make_copies.py FOLDER (the published files)."""

import csv
import gzip
import json
import sys
from pathlib import Path

import numpy as np

import onceforall
from onceforall.accuracy.published import LAYOUTS, PublishedModel


def main(source: Path, target: Path) -> None:
    """Copy what the tests need."""
    networks = {}
    for row in csv.DictReader((source / "specialized.csv").read_text(encoding="utf-8").splitlines()):
        files = {name: source / "specialized" / row["id"] / name for name in ("net.config", "run.config")}
        configs = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in files.items()}
        networks[row["id"]] = {**configs, "macs": int(row["macs"]), "params": int(row["params"])}
    text = json.dumps(networks, separators=(",", ":"))
    (target / "specialized.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))

    layout = LAYOUTS["resnet50d"]()
    perceptron = PublishedModel.from_file(source / "ofa_resnet50_acc_predictor.pth", onceforall.space("resnet50d")).perceptron
    arrays = {name: weight.T for name, weight in zip(layout.weights, perceptron.weights, strict=True)}
    arrays |= dict(zip(layout.biases, perceptron.biases, strict=True))
    np.savez_compressed(target / "predictor_resnet50d.npz", **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent)
