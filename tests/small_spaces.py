"""Spaces that the tests run over: full size, narrow, for small images, and one without choices."""

import onceforall
from onceforall import Space

SPACES: dict[str, Space] = {
    "default": onceforall.space("mobilenet_v3"),
    "half": onceforall.space("mobilenet_v3", width=0.5, resolutions=(64, 80, 100), kernels=(3, 5)),
    "strided": onceforall.space(
        "mobilenet_v3", width=0.35, resolutions=(28, 32, 45), depths=(1, 2), expand_ratios=(2, 3.5), strides=(1, 1, 2, 2, 1, 1, 2)
    ),
    "proxyless": onceforall.space(
        "proxyless", width=0.3, resolutions=(48, 57), kernels=(3, 7), depths=(1, 2), expand_ratios=(3, 6)
    ),
    "resnet": onceforall.space("resnet50d", width=0.25, resolutions=(49, 64), depths=(0, 1), expand_ratios=(0.2, 0.35)),
    "resnet-small-images": onceforall.space(
        "resnet50d", width=0.125, resolutions=(17,), width_multipliers=(0.5, 1), depths=(0, 1), strides=(1, 1, 1, 2, 2, 2)
    ),
    "single": onceforall.space("mobilenet_v3", width=0.25, resolutions=(33,), depths=(2,), kernels=(5,), expand_ratios=(3,)),
}
SMALL = [name for name in SPACES if name != "default"]
