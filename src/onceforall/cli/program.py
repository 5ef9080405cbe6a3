"""`ofa` itself: its commands in the order of use, each with an example."""

import inspect
from importlib import metadata
from typing import Annotated, Any, cast

import typer
from typer.main import get_command

from ..options import choosing, measuring, training
from .accuracy import compare_predictors_command, fit_command, measure_accuracy_command, next_command, predict_command, show_command
from .command import Command, command_of
from .commands import (
    bundle_command,
    classify_command,
    demo_command,
    report_command,
    search_command,
    specialise_command,
    status_command,
    train_command,
)
from .commands import compare_command as compare_networks
from .devices import devices_command, measure_command, profile_command
from .evaluate import evaluate_command
from .explore import explore_command
from .published import elastic_command, export_original_command, import_command

Row = tuple[type | None, Command, str]  # the declaration of the arguments, the function that runs the command, and an example

ACCURACY: dict[str, Row] = {
    "measure": (measuring.MeasureAccuracyOptions, measure_accuracy_command, "ofa accuracy measure run --subnets 2000"),
    "fit": (measuring.FitPredictorOptions, fit_command, "ofa accuracy fit run"),
    "compare": (measuring.ComparePredictorsOptions, compare_predictors_command, "ofa accuracy compare run --samples 100,300,1000"),
    "show": (None, show_command, "ofa accuracy show run"),
    "next": (measuring.NextSubnetsOptions, next_command, "ofa accuracy next run --out next.jsonl"),
}
COMMANDS: dict[str, Row | dict[str, Row]] = {
    "train": (training.TrainOptions, train_command, "ofa train photos/ --out run --budget 60m"),
    "import": (training.ImportOptions, import_command, "ofa import ofa_net.pth --name ofa_resnet50 --out run --data photos/"),
    "elastic": (training.ElasticOptions, elastic_command, "ofa elastic timm:resnet50 --resolutions 160,192,224"),
    "evaluate": (measuring.EvaluateOptions, evaluate_command, "ofa evaluate run --arch random:16"),
    "profile": (measuring.ProfileOptions, profile_command, "ofa profile run --device onnxruntime:threads=2"),
    "predict": (measuring.PredictOptions, predict_command, "ofa predict run --subnets 200"),
    "accuracy": ACCURACY,
    "search": (choosing.SearchOptions, search_command, "ofa search run --latency 5ms --macs 100M"),
    "specialise": (
        choosing.SpecialiseOptions, specialise_command, "ofa specialise run --device cpu --latency 2ms,5ms --export onnx",
    ),
    "bundle": (choosing.BundleOptions, bundle_command, "ofa bundle run --macs 5M,20M"),
    "classify": (choosing.ClassifyOptions, classify_command, "ofa classify run/specialised/onnxruntime-5ms photo.jpg"),
    "compare": (
        choosing.CompareOptions, compare_networks, "ofa compare run --with timm:resnet18.a1_in1k@96,net.py:Net --budget 10m",
    ),
    "report": (None, report_command, "ofa report run && open run/report.html"),
    "explore": (None, explore_command, "ofa explore run"),
    "status": (None, status_command, "ofa status run"),
    "demo": (None, demo_command, "ofa demo --out demo-run"),
    "devices": (None, devices_command, "ofa devices"),
    "measure": (measuring.MeasureOptions, measure_command, "ofa measure model.onnx --device onnxruntime:threads=2"),
    "export-original": (None, export_original_command, "ofa export-original run --out ofa_net.pth"),
}  # fmt: skip
GROUPS = {"accuracy": "Measure accuracies; fit, show and use their predictor."}
# aliases, which work but are not listed
ALIASES: dict[str, Row | dict[str, Row]] = {
    "measure-accuracy": ACCURACY["measure"],
    "predictor": ACCURACY,
    "specialize": COMMANDS["specialise"],
}

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_help_option=False)


def _help(context: typer.Context, wanted: bool) -> None:
    """Print the list of commands; typer's own page would take more than one screen."""
    if not wanted or context.resilient_parsing:
        return
    lines = [f"  {name:16} {_what(name)}" for name in COMMANDS]
    print("Usage: ofa COMMAND [OPTIONS]: train once, for any device. Example: ofa demo")
    print("Commands, in the order of use; ofa COMMAND --help has options and an example:")
    print("\n".join(lines))
    print("Options: --help, --version, --install-completion, --show-completion")
    raise typer.Exit


def _version(context: typer.Context, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        print(metadata.version("onceforall"))
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    help_: Annotated[
        bool, typer.Option("--help", callback=_help, is_eager=True, help="Show the commands in the order of use and exit.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        _help(context, True)


def _what(name: str) -> str:
    """What a command does, in one sentence."""
    row = COMMANDS[name]
    return GROUPS[name] if isinstance(row, dict) else (inspect.getdoc(row[1]) or "").partition("\n")[0]


def _made() -> Command:
    for name, row in {**COMMANDS, **ALIASES}.items():
        hidden = name in ALIASES
        if not isinstance(row, dict):
            app.command(name, epilog=f"Example: {row[-1]}", hidden=hidden)(command_of(*row[:2]))
            continue
        group = typer.Typer(rich_markup_mode=None, help=GROUPS["accuracy"])
        for below, inner in row.items():
            group.command(below, epilog=f"Example: {inner[-1]}")(command_of(*inner[:2]))
        app.add_typer(group, name=name, epilog=f"Example: {next(iter(row.values()))[-1]}", hidden=hidden)
    made: Any = get_command(app)
    made.commands = {name: made.commands[name] for name in {**COMMANDS, **ALIASES}}  # typer lists groups after all others
    return cast(Command, made)


ofa = _made()
