"""Published latency tables of two phones, and latencies by the original's rules: a plain sum over keys."""

from functools import cache
from pathlib import Path

import yaml

import onceforall
from onceforall import Arch

DATA = Path(__file__).parents[1] / "published_data"
NOTE10, PIXEL1 = DATA / "note10", DATA / "pixel1_proxyless_224.yaml"
RESOLUTIONS = (160, 176, 192, 208, 224)
MOBILE = onceforall.space("mobilenet_v3", width=1.2, resolutions=RESOLUTIONS)
PROXYLESS = onceforall.space("proxyless", width=1.0, resolutions=(224,), expand_ratios=(3, 6))
ONE = MOBILE.restrict(resolutions=(160,), depths=(2,))


@cache
def content(path: Path) -> dict[str, dict[str, float]]:
    read = yaml.safe_load(path.read_text())
    assert isinstance(read, dict)
    return read


def note10_ms(arch: Arch) -> float:
    """The sum of the entries, from facts about the w1.2 network."""
    times = content(NOTE10 / f"{arch.resolution}_lookup_table.yaml")
    size, channels = (arch.resolution + 1) // 2, 24
    keys = [
        f"Conv-input:{arch.resolution}x{arch.resolution}x3-output:{size}x{size}x24",
        f"expanded_conv-input:{size}x{size}x24-output:{size}x{size}x24-expand:24-kernel:3-stride:1-idskip:1-se:0-hs:0",
    ]
    facts = zip(arch.stages, (32, 48, 96, 136, 192), (2, 2, 2, 1, 2), (0, 1, 0, 1, 1), (0, 0, 1, 1, 1), strict=True)
    for stage, width, first_stride, se, hs in facts:
        for i, block in enumerate(stage.blocks):
            stride = 1 if i else first_stride
            after, middle = int((size - 1) / stride + 1), round(channels * block.expand_ratio)
            keys.append(
                f"expanded_conv-input:{size}x{size}x{channels}-output:{after}x{after}x{width}-expand:{middle}"
                f"-kernel:{block.kernel}-stride:{stride}-idskip:{int(i > 0)}-se:{se}-hs:{hs}"
            )
            size, channels = after, width
    keys += [
        f"Conv_1-input:{size}x{size}x192-output:{size}x{size}x1152",
        f"AvgPool2D-input:{size}x{size}x1152-output:1x1x1152",
        "Conv_2-input:1x1x1152-output:1x1x1536",
        "Logits-input:1x1x1536-output:1000",
    ]
    return sum(times[key]["mean"] for key in keys)


def pixel1_ms(arch: Arch) -> float:
    """The sum of the entries, from facts about the ProxylessNAS network at 224 pixels."""
    times = content(PIXEL1)
    size, channels = 112, 16
    keys = [
        "Conv-input:224x224x3-output:112x112x32",
        "expanded_conv-input:112x112x32-output:112x112x16-expand:1-kernel:3-stride:1-idskip:0",
    ]
    for stage, width, first_stride in zip(arch.stages, (24, 40, 80, 96, 192, 320), (2, 2, 2, 1, 2, 1), strict=True):
        for i, block in enumerate(stage.blocks):
            stride = 1 if i else first_stride
            after = int((size - 1) / stride + 1)
            keys.append(
                f"expanded_conv-input:{size}x{size}x{channels}-output:{after}x{after}x{width}-expand:{int(block.expand_ratio)}"
                f"-kernel:{block.kernel}-stride:{stride}-idskip:{int(i > 0)}"
            )
            size, channels = after, width
    keys += ["Conv_1-input:7x7x320-output:7x7x1280", "Logits-input:7x7x1280-output:1000"]
    return sum(times[key]["mean"] for key in keys)
