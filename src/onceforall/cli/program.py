"""`ofa` itself: its commands in the order of use, each with an example."""

from collections.abc import Callable
from importlib import metadata
from typing import Annotated, Any, cast

import typer
from typer.main import get_command

from .accuracy import measure_accuracy
from .commands import demo, evaluate, predict, report, specialise, train
from .devices import devices, measure
from .explore import explore
from .predictor import compare, fit, following, show
from .profile import profile
from .published import export_original, import_original
from .search import search
from .status import status

__all__ = ["COMMANDS", "PREDICTOR", "ofa"]

Command = Callable[..., Any]

PREDICTOR: dict[str, tuple[Command, str]] = {
    "fit": (fit, "ofa predictor fit run"),
    "compare": (compare, "ofa predictor compare run --samples 100,300,1000"),
    "show": (show, "ofa predictor show run"),
    "next": (following, "ofa predictor next run --out next.jsonl"),
}
COMMANDS: dict[str, tuple[Command | dict[str, tuple[Command, str]], str]] = {
    "train": (train, "ofa train photos/ --out run --budget 60m"),
    "import": (import_original, "ofa import ofa_net.pth --name ofa_resnet50 --out run --data photos/"),
    "evaluate": (evaluate, "ofa evaluate run --arch random:16"),
    "profile": (profile, "ofa profile run --device onnxruntime:threads=2"),
    "predict": (predict, "ofa predict run --subnets 200"),
    "measure-accuracy": (measure_accuracy, "ofa measure-accuracy run --subnets 2000"),
    "predictor": (PREDICTOR, "ofa predictor fit run"),
    "search": (search, "ofa search run --latency 5ms --macs 100M"),
    "specialise": (specialise, "ofa specialise run --device cpu --latency 2ms,5ms --export onnx"),
    "report": (report, "ofa report run && open run/report.html"),
    "explore": (explore, "ofa explore run"),
    "status": (status, "ofa status run"),
    "demo": (demo, "ofa demo --out demo-run"),
    "devices": (devices, "ofa devices"),
    "measure": (measure, "ofa measure model.onnx --device onnxruntime:threads=2"),
    "export-original": (export_original, "ofa export-original run --out ofa_net.pth"),
}

app = typer.Typer(
    help="Train one elastic network, then get one for any device.",
    epilog="Example: ofa demo",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False
) -> None:
    if version:
        print(metadata.version("onceforall"))
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def _made() -> Command:
    for name, (command, example) in COMMANDS.items():
        if not isinstance(command, dict):
            app.command(name, epilog=f"Example: {example}")(command)
            continue
        group = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Fit, compare, show or ask the accuracy predictor.")
        for below, (function, example_below) in command.items():
            group.command(below, epilog=f"Example: {example_below}")(function)
        app.add_typer(group, name=name, epilog=f"Example: {example}")
    made: Any = get_command(app)
    made.commands = {name: made.commands[name] for name in COMMANDS}  # typer lists groups after all others
    return cast(Command, made)


ofa = _made()
