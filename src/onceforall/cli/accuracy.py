"""The command that measures accuracy data."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ..arch import Arch
from ..errors import ArchError, ValueTextError
from ..files import read_text
from ..readable import percent
from .options import Data, Json, Ray, RunFolder, Seed, TorchDevice, stderr
from .views import Counter

__all__ = ["measure_accuracy"]


def measure_accuracy(
    run: RunFolder,
    subnets: Annotated[int, typer.Option(metavar="N", help="To measure, drawn to share what they begin with.")] = 300,
    archs: Annotated[Path | None, typer.Option(metavar="FILE", help="Measure these: one architecture (JSON) a line.")] = None,
    every: Annotated[int | None, typer.Option(metavar="PX", help="Interpolate between resolutions so far apart.", min=1)] = None,
    ray: Ray = None,
    device: TorchDevice = "auto",
    data: Data = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Measure many sub-networks at the price of few."""
    from ..pipeline.measure_accuracy import measure_accuracy as call

    given = None if archs is None else _read(archs)
    with Counter(stderr(), "measuring") as counter:
        rows = call(
            run, subnets=subnets, archs=given, every=every, seed=seed, device=device, ray=ray, data=data, on_progress=counter
        )
    if as_json:
        print(json.dumps([{**asdict(row), "arch": json.loads(row.arch.to_json())} for row in rows]))
        return
    measured = [row for row in rows if not row.interpolated]
    top1 = [row.top1 for row in measured]
    between = f", {len(rows) - len(measured)} interpolated between them" if every is not None else ""
    print(f"{len(measured)} sub-networks on {measured[0].images} held-out images{between}: {run / 'accuracy'}")
    print(f"top-1 {percent(min(top1))} to {percent(max(top1))}, {sum(row.seconds for row in measured):.0f} s of computing in all")


def _read(path: Path) -> list[Arch]:
    lines = [(number, line) for number, line in enumerate(read_text(path).splitlines(), 1) if line.strip()]
    archs = []
    for number, line in lines:
        try:
            archs.append(Arch.from_json(line))
        except ArchError as error:
            raise ValueTextError(f"--archs {path}, line {number}: {error}") from None
    if not archs:
        raise ValueTextError(f"--archs {path}: no architecture in it: give one a line, as Arch.to_json writes it")
    return archs
