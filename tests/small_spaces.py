"""Spaces that the tests run over: full size, narrow, for small images, and one without choices."""

import onceforall
from onceforall import Space

SPACES: dict[str, Space] = {
    "default": onceforall.space("mobilenet_v3"),
    "half": onceforall.space("mobilenet_v3", width=0.5, resolutions=(64, 80, 100), kernels=(3, 5)),
    "strided": onceforall.space(
        "mobilenet_v3", width=0.35, resolutions=(28, 32, 45), depths=(1, 2), expand_ratios=(2, 3.5), strides=(1, 1, 2, 2, 1, 1, 2)
    ),
    "single": onceforall.space("mobilenet_v3", width=0.25, resolutions=(33,), depths=(2,), kernels=(5,), expand_ratios=(3,)),
}
SMALL = [name for name in SPACES if name != "default"]
