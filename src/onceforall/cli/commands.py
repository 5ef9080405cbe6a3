"""The commands of the main path: train, evaluate, predict, specialise, report, demo."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ..advice import ofa
from ..errors import ValueTextError
from ..readable import milliseconds, percent
from .completion import one_of, run_folders, several_of
from .options import (
    CPU,
    CacheGB,
    Data,
    Devices,
    Finalists,
    Flash,
    Holdout,
    Json,
    Latency,
    Limit,
    Macs,
    MaxPixels,
    Memory,
    Params,
    Ram,
    Ray,
    Resolutions,
    RunFolder,
    Seed,
    TorchDevice,
    Weights,
    budgets_of,
    run_record,
    stderr,
    stopping,
    tell,
    tell_prediction,
)
from .values import amount, duration_s, recipe_values, with_resolutions
from .views import Counter, TrainView

__all__ = ["demo", "evaluate", "predict", "report", "specialise", "train"]


def train(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A folder, torchvision:NAME:FOLDER, or digits.")],
    out: Annotated[Path, typer.Option(metavar="RUN", help="Run directory to make.")],
    from_run: Annotated[
        str | None,
        typer.Option("--from", metavar="NET", help="Start from a RUN, timm:NAME, FILE.py:FUNCTION.", autocompletion=run_folders),
    ] = None,
    weights: Weights = None,
    resolutions: Resolutions = None,
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="such as imagenette-60m; see docs/training.md.", autocompletion=one_of("preset")),
    ] = None,
    space: Annotated[str | None, typer.Option(metavar="ARGS", help="Changes the preset's: width=0.5,resolutions=96/112.")] = None,
    scheme: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="How, such as sandwich; see docs/training.md.", autocompletion=one_of("scheme")),
    ] = None,
    teacher: Annotated[str | None, typer.Option(metavar="NET", help="To learn from, such as timm:MODEL:FILE.")] = None,
    epochs: Annotated[float | None, typer.Option(metavar="N", help="Of the whole schedule; 0: only a classifier.", min=0)] = None,
    budget: Annotated[str | None, typer.Option(metavar="TIME", help="For the whole schedule, e.g. 30m.")] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="Images per step.", min=1)] = None,
    rate: Annotated[float | None, typer.Option(metavar="X", help="Peak learning rate.")] = None,
    recipe: Annotated[str | None, typer.Option(metavar="VALUES", help="Such as mixup=0.2,ema=0.99: docs/training.md.")] = None,
    holdout: Holdout = 0.1,
    limit: Limit = None,
    max_pixels: MaxPixels = None,
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    sync_norm: Annotated[bool, typer.Option("--sync-norm", help="Under torchrun: batch norm over all processes.")] = False,
    same_networks: Annotated[
        bool, typer.Option("--same-networks", help="Under torchrun: all train the same sub-networks.")
    ] = False,
    device: TorchDevice = "auto",
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="float32 or bfloat16; left out: what suits the device.",
            autocompletion=one_of("precision"),
        ),
    ] = None,
    cache_gb: CacheGB = None,
    as_json: Json = False,
) -> None:
    """Train an elastic network.

    For --from see docs/own-networks.md; FILE.py:FUNCTION runs its code.
    """
    from ..pipeline.train import train as call

    with TrainView(stderr()) as view, stopping(view) as should_stop:
        run = call(
            data,
            out=out,
            from_run=from_run,
            weights=weights,
            preset=preset,
            space=with_resolutions(space, resolutions),
            scheme=scheme,
            teacher=teacher,
            epochs=epochs,
            budget_s=None if budget is None else duration_s(budget),
            batch_size=batch_size,
            rate=rate,
            recipe=None if recipe is None else recipe_values(recipe),
            seed=seed,
            holdout=holdout,
            limit=limit,
            max_pixels=None if max_pixels is None else int(amount(max_pixels)),
            resume=resume,
            sync_norm=sync_norm,
            same_networks=same_networks,
            device=device,
            precision=precision,
            cache_gb=cache_gb,
            on_event=view,
            should_stop=should_stop,
        )
    if as_json:
        print(json.dumps(run_record(run)))
        return
    print(f"trained: {run.folder}; next: {', '.join(ofa(name, run.folder) for name in ('evaluate', 'profile', 'predict'))}")


def evaluate(
    run: RunFolder,
    arch: Annotated[
        str,
        typer.Option(metavar="ARCH", help="largest, smallest, random:N, a name, a file.", autocompletion=one_of("arch")),
    ] = "largest",
    split: Annotated[
        str, typer.Option(metavar="SPLIT", help="held-out, or test for a final report.", autocompletion=one_of("split"))
    ] = "held-out",
    device: TorchDevice = "auto",
    data: Data = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Measure the accuracy of sub-networks."""
    from ..pipeline import Run
    from ..pipeline.evaluate import evaluate as call

    results = call(
        run, arch=arch, split=split, seed=seed, device=device, data=data, on_result=lambda r: tell(f"{r.name} done"), on_note=tell
    )
    if as_json:
        print(
            json.dumps(
                [{"name": r.name, "split": split, **asdict(r.accuracy), "arch": json.loads(r.arch.to_json())} for r in results]
            )
        )
        return
    many = Run.open(run).num_classes > 5  # else top-5 says nothing
    for r in results:
        top5 = f", top-5 {percent(r.accuracy.top5, 2)}" if many else ""
        top = f"top-1 {percent(r.accuracy.top1, 2)}{top5}, loss {r.accuracy.loss:.3f}"
        print(f"{r.name}: {r.arch.resolution} px, depths {r.arch.depths}: {top} ({r.accuracy.images} {split} images)")


def predict(
    run: RunFolder,
    subnets: Annotated[int, typer.Option(metavar="N", help="To measure; a quarter checks the predictor.")] = 80,
    ray: Ray = None,
    device: TorchDevice = "auto",
    data: Data = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Measure some sub-networks, to predict accuracies of all.

    This is about networks, not photographs: ofa classify tells what those show.
    """
    from ..pipeline.predict import predict as call

    with Counter(stderr(), "measuring") as counter:
        found = call(run, subnets=subnets, seed=seed, device=device, ray=ray, data=data, on_progress=counter)
    tell_prediction(found, as_json)


def specialise(
    run: RunFolder,
    latency: Latency = None,
    macs: Macs = None,
    params: Params = None,
    memory: Memory = None,
    flash: Flash = None,
    ram: Ram = None,
    devices: Devices = CPU,
    export: Annotated[
        str,
        typer.Option(metavar="FORMATS", help="Such as onnx,onnx-int8: docs/export.md.", autocompletion=several_of("format")),
    ] = "onnx",
    max_drop: Annotated[float, typer.Option(metavar="POINTS", min=0, max=100, help="Most top-1 that int8 may lose.")] = 2.0,
    opset: Annotated[int | None, typer.Option(metavar="N", help="Of ONNX files: version of its operators, 10 to 28; 13.")] = None,
    batch: Annotated[int | None, typer.Option(metavar="N", help="Of ONNX and OpenVINO files: images of a call.")] = None,
    softmax: Annotated[bool, typer.Option("--softmax", help="End these files with a softmax, for probabilities.")] = False,
    readers: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Run ONNX files there too, e.g. opencv,ncnn; none."),
    ] = None,
    finetune: Annotated[int, typer.Option(metavar="EPOCHS", min=0, help="Train each on its own before export.")] = 0,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Instead of RUN/specialised.")] = None,
    push_to_hub: Annotated[str | None, typer.Option(metavar="REPO", help="Upload what is proven to the Hugging Face Hub.")] = None,
    license: Annotated[str | None, typer.Option(metavar="NAME", help="Of the weights, for the card: apache-2.0.")] = None,
    no_limit: Annotated[bool, typer.Option("--no-limit", help="The most accurate network, whatever it costs.")] = False,
    finalists: Finalists = 5,
    data: Data = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Export the best network for each budget, with proof."""
    from ..errors import VerificationError
    from ..pipeline.limits import suggested_limits
    from ..pipeline.specialise import specialise as call

    limited = any(limit is not None for limit in (latency, macs, params, memory, flash, ram))
    if limited and no_limit:
        raise ValueTextError("--no-limit and limits exclude each other: leave one out")
    if not (limited or no_limit):
        raise ValueTextError(
            "without a limit this would export the most accurate network, whatever it costs: give one, such as "
            f"{suggested_limits(run, devices[0])}, or --no-limit if that is what you want"
        )

    def told(result: Any) -> None:
        if not as_json:
            print(_line(result), flush=True)
        for reading in result.readings:
            if reading.warning is not None:
                tell(f"warning: {reading.warning}")

    budgets = budgets_of(latency, macs, params, memory, flash, ram)
    with TrainView(stderr()) as view, stopping(view) as should_stop:
        results = call(
            run,
            budgets,
            device=devices,
            export=[name.strip() for name in export.split(",")],
            out=out,
            finalists=finalists,
            seed=seed,
            max_drop=max_drop,
            finetune=finetune,
            onnx=_onnx_options(opset, batch, softmax),
            readers=None if readers is None else [name.strip() for name in readers.split(",") if name.strip() != "none"],
            license=license,
            push_to_hub=push_to_hub,
            data=data,
            on_step=view.step,
            on_result=told,
            on_event=view,
            should_stop=should_stop,
        )
    if as_json:
        print(json.dumps([_record(r) for r in results]))
    if lost := [f"{r.folder} is without {format}: {why}" for r in results for format, why in r.left_out.items()]:
        raise VerificationError("; ".join(lost))


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Run directory; several are compared.", autocompletion=run_folders)
    ],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Instead of report.html in RUN.")] = None,
    as_json: Json = False,
) -> None:
    """Write a self-contained HTML page about runs."""
    from ..report import report as call

    page = call(*runs, out=out)
    print(json.dumps({"page": str(page)}) if as_json else page)


def demo(
    out: Annotated[Path, typer.Option(metavar="RUN", help="Run directory to make or go on with.")] = Path("demo-run"),
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Do all of the above on handwritten digits, in minutes."""
    from ..pipeline.demo import demo as call
    from .demo_view import demo_lines

    with TrainView(stderr()) as view, stopping(view) as should_stop:
        done = call(out, seed=seed, on_event=view, on_step=view.step, on_progress=view.count, should_stop=should_stop)
    if as_json:
        ends = [{"name": end.name, **asdict(end.accuracy)} for end in done.ends]
        networks, gains = [_record(r) for r in done.networks], [asdict(gain) for gain in done.gains]
        print(json.dumps({"ends": ends, "networks": networks, "gains": gains, "page": str(done.page)}))
        return
    for line in demo_lines(done):
        print(line)


def _record(r: Any) -> dict[str, Any]:
    return {
        "folder": str(r.folder),
        "test": asdict(r.test),
        "latency": asdict(r.timing),
        "files": [asdict(file) for file in r.files],
        "left_out": dict(r.left_out),
        "readers": [asdict(reading) for reading in r.readings],
        "finetuned": None if r.finetuned is None else asdict(r.finetuned),
        "pushed": r.pushed,
    }


def _onnx_options(opset: int | None, batch: int | None, softmax: bool) -> Any:
    """What was asked for; None if nothing was."""
    from ..export import OnnxOptions
    from ..onnx_options import OPSET

    if opset is None and batch is None and not softmax:
        return None
    return OnnxOptions(OPSET if opset is None else opset, batch, softmax)


def _line(r: Any) -> str:
    share = "" if r.budget.latency_ms is None else f" = {percent(r.timing.ms / r.budget.latency_ms, 0)} of the budget"
    if r.budget.latency_ms is not None and r.timing.ms > r.budget.latency_ms:
        share += " (over it: if that matters, allow less, or try again when the machine is quiet)"
    tuned = "" if r.finetuned is None else f"; {r.finetuned}"
    return f"{r.folder}: test top-1 {percent(r.test.top1)} ({r.test.images} images), {milliseconds(r.timing.ms)}{share}{tuned}"
