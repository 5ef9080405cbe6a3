"""Which networks become elastic, how exactly, and in which dimensions: one row for each of a list of timm's and torchvision's.

    python benchmarks/coverage.py [NAME …] [--out coverage.jsonl] [--markdown coverage.md] [--stage-widths 0.5] [--proofs]

Weights and BatchNorm statistics are random, none of them at its initial value: layer scales of 1e-6 and norms that begin at zero
would hide what a branch does. `equal` is the largest difference between the output of the model and of the largest sub-network in
float64, over the standard deviation of the output; `active` the same between `supernet(x, arch)` and the extracted one, the worst
of the largest, the smallest and three random sub-networks. MACs are the plan's; where torch's FlopCounterMode counts others, with
attention computed by matrix products, which it does not count on CPUs otherwise, its number follows. A network that is in the file
already, with streams if these are asked for, is not measured again. One image at the size that the model was made for. Needs timm.
The list has the smallest network of each of timm's families. With `--stage-widths` each network is read once more, with such shares
of its stages' residual streams (`streams`: in how many stages they are elastic, how exact that is, and the MACs of the smallest).

`--proofs` says more about networks that are in the file (`proofs`), of the largest, the smallest and three random sub-networks:
`single`, how many times as far the largest is off in float32 as the model itself is, both compared with the model in float64;
`at`, how far `supernet.at(arch)` is off the extracted network in float64; `gradients`, the largest difference of a parameter's
gradients in the supernet and in the extracted network over the norm of all gradients, of the smallest and a random one; `onnx`, how
far ONNX Runtime is off the extracted network in float64 over the standard deviation of its output, and `torch`, how far torch in
float32 is; `writer`, who wrote the ONNX file: onceforall, or torch's exporter.
"""

import argparse
import copy
import json
import math
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import onceforall
from onceforall.nn.onnx import to_onnx
from onceforall.nn.torch_onnx import names_of
from onceforall.ops import leaves
from onceforall.spaces.graph import graph_of

TIMM = [
    "test_convnext", "test_efficientnet", "test_vit", "test_nfnet", "test_mambaout", "test_byobnet", "test_resnet",
    "starnet_s050", "test_coatnet", "test_vit_relpos", "dla46x_c", "mobilenetv3_small_050", "mobilevit_xxs",
    "edgenext_xx_small", "ese_vovnet19b_slim_dw", "repghostnet_050", "efficientvit_m0", "ghostnet_050", "regnetx_002",
    "cspnext_tiny", "iformer_t", "xcit_nano_12_p8_224", "efficientvit_b0", "swiftformer_xs", "efficientformerv2_s0",
    "pvt_v2_b0", "fasternet_t0", "lcnetv2_small", "inception_next_atto", "cs3darknet_focus_s", "rexnet_100", "pit_ti_224",
    "hardcorenas_b", "fastvit_t8", "repvit_m1", "coat_tiny", "convit_tiny", "deit_tiny_patch16_224", "gmlp_ti16_224",
    "hgnetv2_b0", "shvit_s1", "vit_tiny_r_s16_p8_224", "cpubone_nano", "efficientvim_m1", "vit_tiny_patch16_dinov3_qkvb",
    "levit_128s", "densenet121", "crossvit_tiny_240", "dpn48b", "visformer_tiny", "halonet_h1", "resnest14d", "resnetv2_18",
    "legacy_seresnet18", "poolformerv2_s12", "cait_xxs24_224", "skresnet18", "gcvit_xxtiny", "tiny_vit_5m_224",
    "efficientformer_l1", "hrnet_w18_small", "lowformer_b0", "nest_tiny", "convmixer_768_32", "vitamin_small_224",
    "tnt_s_legacy_patch16_224", "rdnet_tiny", "twins_svt_small", "mvitv2_tiny", "res2next50", "volo_d1_224", "sequencer2d_s",
    "hiera_tiny_224", "swin_tiny_patch4_window7_224", "swinv2_cr_tiny_224", "davit_tiny", "focalnet_tiny_srf", "selecsls42",
    "tresnet_m", "nextvit_small", "swinv2_tiny_window8_256", "legacy_xception", "inception_v3", "xception41p", "csatv2",
    "inception_v4", "samvit_base_patch16_224", "beit_base_patch16_224", "inception_resnet_v2", "mobilenetv5_base", "vgg11",
    "pnasnet5large", "nasnetalarge", "naflexvit_base_patch16_parfac_gap", "sam2_hiera_tiny", "qwen3_vit_88m",
    "gemma4_vit_167m", "deepseek_vit_412m",
]  # fmt: skip
TORCHVISION = [
    "alexnet", "vgg11_bn", "resnet18", "resnext50_32x4d", "wide_resnet50_2", "mobilenet_v2", "mobilenet_v3_small",
    "mobilenet_v3_large", "mnasnet0_5", "mnasnet1_0", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "squeezenet1_1",
    "densenet121", "googlenet", "inception_v3", "efficientnet_b0", "efficientnet_v2_s", "regnet_y_400mf", "regnet_x_400mf",
    "convnext_tiny", "vit_b_16", "swin_t", "swin_v2_t", "maxvit_t",
]  # fmt: skip
OTHERS = ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", "ssdlite_backbone"]


def model_of(name: str) -> tuple[nn.Module, int]:
    """A model with random weights, and the size of its images in pixels."""
    kind, _, name = name.partition(":")
    if kind == "timm":
        import timm

        model = timm.create_model(name)
        return model, model.default_cfg["input_size"][1]
    import torchvision

    if name == "ssdlite_backbone":
        return torchvision.models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None).backbone, 320
    if name in OTHERS:
        return torchvision.models.get_model(name, weights=None, weights_backbone=None), 224
    more = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(name, weights=None, **more), 299 if name == "inception_v3" else 224


def stir(model: nn.Module) -> None:
    """Give every number another value than the one it begins with."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        scale = max(0.02, 0.3 * float(parameter.detach().std())) if parameter.numel() > 1 else 0.02
        parameter.data += scale * torch.randn(parameter.shape, generator=generator)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1, generator=generator)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5, generator=generator)


def difference(first: Any, second: Any) -> float:
    """The largest difference over the standard deviation, the worst of all tensors."""
    pairs = list(zip(tensors(first), tensors(second), strict=True))
    return max(float((a - b).abs().max() / a.std().clamp_min(1e-30)) for a, b in pairs)


def tensors(output: Any) -> list[Tensor]:
    return [leaf for leaf in leaves(output) if isinstance(leaf, Tensor)]


def row(name: str, stage_widths: tuple[float, ...] = ()) -> dict[str, Any]:
    """All columns of one network."""
    torch.manual_seed(0)
    model, pixels = model_of(name)
    stir(model)
    model.eval()
    started = time.perf_counter()
    supernet = onceforall.elastic(model, (pixels,))
    seconds = time.perf_counter() - started
    space = supernet.space
    images = torch.randn(1, 3, pixels, pixels, dtype=torch.float64)
    with torch.no_grad():
        expected = copy.deepcopy(model).double()(images)
        equal, active = exactness(supernet.double(), images, expected)
        counter = FlopCounterMode(display=False)
        with counter, sdpa_kernel(SDPBackend.MATH):
            supernet.extract(space.largest())(images)
    plans = [space.lower(arch) for arch in (space.largest(), space.smallest())]
    kinds = Counter(
        kind for stage in space.stages for kind, values in stage.of_block if len(values) > 1 for _ in range(stage.depths[-1])
    )
    summary = space.summary().splitlines()
    return {
        "name": name,
        "pixels": pixels,
        "params": sum(p.numel() for p in model.parameters()),
        "seconds": round(seconds, 2),
        "equal": equal,
        "active": active,
        "stages": len(space.stages),
        "skippable": sum(stage.depths[-1] - stage.depths[0] for stage in space.stages),
        "blocks": sum(stage.depths[-1] for stage in space.stages),
        "widths": kinds["expand_ratio"],
        "heads": kinds["heads"],
        "kernels": kinds["kernel"],
        "groups": sum(group.kind == "width" for group in graph_of(space).groups),
        "networks": f"1e{math.log10(space.count()):.0f}",
        "largest_macs": plans[0].macs,
        "smallest_macs": plans[1].macs,
        "smallest_params": plans[1].params,
        "macs": 2 * plans[0].macs == counter.get_total_flops(),
        "counted_macs": counter.get_total_flops() // 2,
        "fixed": summary[-8:],
    } | ({"streams": with_streams(model, pixels, stage_widths, images, expected)} if stage_widths else {})


def exactness(supernet: onceforall.Supernet, images: Tensor, expected: Any) -> tuple[float, float]:
    """Of the largest sub-network and the model's output, and of the active and the extracted sub-networks."""
    space, rng = supernet.space, np.random.default_rng(0)
    archs = (space.largest(), space.smallest(), *(space.sample(rng) for _ in range(3)))
    outputs = [supernet(images, arch) for arch in archs]
    active = max(difference(supernet.extract(arch)(images), output) for arch, output in zip(archs, outputs, strict=True))
    return difference(expected, outputs[0]), active


def with_streams(model: nn.Module, pixels: int, shares: tuple[float, ...], images: Tensor, expected: Any) -> dict[str, Any]:
    """What becomes of a network that is read with elastic streams."""
    try:
        supernet = onceforall.elastic(model, (pixels,), stage_widths=shares)
        space = supernet.space
        with torch.no_grad():
            equal, active = exactness(supernet.double(), images, expected)
    except Exception as error:
        return {"shares": shares, "error": one_line(error)}
    return {
        "shares": shares,
        "stages": sum(len(stage.widths) > 1 for stage in space.stages),
        "equal": equal,
        "active": active,
        "smallest_macs": space.lower(space.smallest()).macs,
        "smallest_params": space.lower(space.smallest()).params,
    }


PROVEN_AT = {"timm:gemma4_vit_167m": 192, "timm:deepseek_vit_412m": 140}  # pixels; at their own it would take hours


def proofs(name: str) -> dict[str, Any]:
    """Single precision, `at`, gradients and ONNX files of one network."""
    torch.manual_seed(0)
    model, pixels = model_of(name)
    pixels = PROVEN_AT.get(name, pixels)
    stir(model)
    supernet = onceforall.elastic(model.eval(), (pixels,))
    space, rng = supernet.space, np.random.default_rng(0)
    images = torch.randn(1, 3, pixels, pixels)
    archs = (space.largest(), space.smallest(), *(space.sample(rng) for _ in range(3)))
    found: dict[str, Any] = {"at": 0.0, "onnx": 0.0, "torch": 0.0, "writer": set()}
    with torch.no_grad():
        own, largest = model(images), supernet(images, archs[0])
        exact = model.double()(images.double())
        found["single"] = max(
            float((mine - true).abs().max()) / (float((theirs - true).abs().max()) + 1e-7 * float(true.abs().max()))
            for true, mine, theirs in zip(*map(tensors, (exact, largest, own)), strict=True)
        )
        del model, own, largest, exact
        for arch in archs:
            network = supernet.extract(arch)
            written, content = onnx_outputs(to_onnx(space.lower(arch), network), images)
            single = network(images)
            exact = network.double()(images.double())
            named = {"logits": exact} if isinstance(exact, Tensor) else names_of(exact)
            found["onnx"] = max(found["onnx"], difference(list(named.values()), [content[name] for name in named]))
            found["torch"] = max(found["torch"], difference(exact, single))
            found["writer"].add(written)
            found["at"] = max(found["at"], difference(exact, supernet.double().at(arch)(images.double())))
            supernet.float()
    found["gradients"] = max(gradients(supernet.double(), arch, images.double()) for arch in (archs[1], archs[-1]))
    return found | {"writer": sorted(found["writer"])}


def onnx_outputs(content: bytes, images: Tensor) -> tuple[str, dict[str, Tensor]]:
    """Who wrote a model, and what it gives, by name."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    outputs = map(torch.from_numpy, session.run(names, {"images": images.numpy()}))
    return onnx.load_model_from_string(content).producer_name, dict(zip(names, outputs, strict=True))


def gradients(supernet: onceforall.Supernet, arch: onceforall.Arch, images: Tensor) -> float:
    """The worst difference of a parameter's gradient, or of its norm where the supernet's parameter is the larger one."""
    network, own = supernet.extract(arch), dict(supernet.named_parameters())
    supernet.zero_grad()
    for output in (supernet(images, arch), network(images)):
        torch.stack([t.square().mean() for t in tensors(output)]).sum().backward()  # type: ignore[no-untyped-call]
    pairs = [(own[name].grad, p.grad) for name, p in network.named_parameters() if p.grad is not None]
    whole = float(torch.stack([theirs.norm() for _, theirs in pairs]).norm())
    worst = 0.0
    for mine, theirs in pairs:
        assert mine is not None
        apart = (mine - theirs).norm() if mine.shape == theirs.shape else mine.norm() - theirs.norm()
        worst = max(worst, abs(float(apart)) / whole)
    return worst


def one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def main() -> None:
    """Measure what is not in the file yet, then print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="timm:NAME or torchvision:NAME; by default the whole list")
    parser.add_argument("--out", type=Path, default=Path("coverage.jsonl"))
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--stage-widths", type=float, nargs="+", default=[], metavar="SHARE")
    parser.add_argument("--proofs", action="store_true", help="of networks in the file, smallest first")
    given = parser.parse_args()
    names = given.names or [*(f"timm:{n}" for n in TIMM), *(f"torchvision:{n}" for n in (*TORCHVISION, *OTHERS))]
    rows = {r["name"]: r for r in map(json.loads, given.out.read_text().splitlines())} if given.out.exists() else {}
    for name in sorted(rows.keys() & set(names), key=lambda name: rows[name].get("largest_macs", 0)) if given.proofs else []:
        if "proofs" not in rows[name] and "error" not in rows[name]:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    rows[name]["proofs"] = proofs(name)
            except Exception as error:
                rows[name]["proofs"] = {"error": one_line(error)}
            print(name, rows[name]["proofs"], flush=True)
            given.out.write_text("".join(json.dumps(r) + "\n" for r in rows.values()))
    for name in names if not given.proofs else []:
        if name in rows and "error" not in rows[name] and ("streams" in rows[name] or not given.stage_widths):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                rows[name] = row(name, tuple(given.stage_widths))
        except Exception as error:  # a row that says so, and the next one
            rows[name] = {"name": name, "error": one_line(error)}
        given.out.write_text("".join(json.dumps(r) + "\n" for r in rows.values()))
        print(line(rows[name]), flush=True)
    if given.markdown:
        given.markdown.write_text("\n".join([HEAD, *(line(rows[n]) for n in names if n in rows)]) + "\n")


COLUMNS = (
    "network", "px", "s", "equal", "active", "blocks (skippable)", "widths", "heads", "kernels", "networks", "largest", "smallest",
    "smallest with streams (stages)",
)  # fmt: skip
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


def line(r: dict[str, Any]) -> str:
    """A row of the table."""
    if "error" in r:
        return f"| {r['name']} | {r['error']} |"
    share = r["smallest_macs"] / max(1, r["largest_macs"])
    counted = "" if r["macs"] else f" (torch counts {r['counted_macs'] / 1e6:.1f})"
    macs = f"{r['largest_macs'] / 1e6:.1f} M{counted}"
    streams = r.get("streams", {})
    if "stages" in streams:
        streams = f"{streams['smallest_macs'] / max(1, r['largest_macs']):.2f} ({streams['stages']} of {r['stages']})"
    else:
        streams = streams.get("error", "")
    exact = f"{r['equal']:.0e} | {r['active']:.0e}"
    kinds = f"{r['blocks']} ({r['skippable']}) | {r['widths']} | {r['heads']} | {r['kernels']}"
    return (
        f"| {r['name']} | {r['pixels']} | {r['seconds']} | {exact} | {kinds} | {r['networks']} | {macs} | {share:.2f} | {streams} |"
    )


if __name__ == "__main__":
    main()
