"""Published networks to compare with: the Once-for-All authors' specialized ones, block by block, and well-known ones.

`OFA_NETWORKS` are half of the authors' published networks, read from their net.config (MIT license): MACs are counted from it,
top-1 on ImageNet is as published, after 25 or 75 epochs of fine-tuning. `KNOWN_NETWORKS` have MACs and top-1 from their papers.
"""

from dataclasses import dataclass

from ..arch import Arch, Block, Stage
from ..resolutions import Resolution, side_of
from ..space import Space

RESOLUTIONS = (128, 224)  # the ends of the original's spaces


@dataclass(frozen=True)
class PublishedNetwork:
    """One of the original's specialized networks.

    Args:
        name: its target device and latency, or its MACs.
        macs: multiply-accumulates for one image.
        top1: top-1 on ImageNet, as published.
        blocks: stages separated by spaces; two digits per block, its kernel and its expand ratio.
    """

    name: str
    family: str
    width: float
    resolution: int
    macs: int
    top1: float
    blocks: str

    def arch(self, space: Space) -> Arch | None:
        """The same kernels, ratios and depths in another space of the family; None if the space lacks any of them.

        Widths are the space's. If the space lacks the network's resolution, it is mapped linearly from 128 to 224 pixels to the
        space's range, rounded to the nearest choice.
        """
        stages = [[Block(int(k), int(e)) for k, e in zip(s[::2], s[1::2], strict=True)] for s in self.blocks.split()]
        if space.family != self.family or len(stages) != len(space.stages):
            return None
        widths = [choices.widths[-1] for choices in space.stages]
        made = Arch(self._resolution(space), tuple(Stage(w, tuple(blocks)) for w, blocks in zip(widths, stages, strict=True)))
        return made if made in space else None

    def _resolution(self, space: Space) -> Resolution:
        if self.resolution in space.resolutions:
            return self.resolution
        (low, high), ends = RESOLUTIONS, (side_of(space.resolutions[0]), side_of(space.resolutions[-1]))
        share = min(1.0, max(0.0, (self.resolution - low) / (high - low)))
        wanted = ends[0] + share * (ends[1] - ends[0])
        return min(space.resolutions, key=lambda r: abs(side_of(r) - wanted))


@dataclass(frozen=True)
class KnownNetwork:
    """A network with the MACs and top-1 on ImageNet from its paper."""

    name: str
    macs: int
    top1: float
    source: str


OFA_NETWORKS = (
    PublishedNetwork("1080ti@12ms", "proxyless", 1.3, 128, 164_964_352, 0.726, "3333 365454 565373 34733634 76547353 36"),
    PublishedNetwork("1080ti@22ms", "proxyless", 1.3, 188, 312_808_424, 0.753, "3333 5336 345436 343674 365454 34"),
    PublishedNetwork("LG-G8@11ms", "mobilenet_v3", 1.0, 156, 103_373_272, 0.730, "3333 533474 5433 543453 567654"),
    PublishedNetwork("LG-G8@24ms", "mobilenet_v3", 1.0, 220, 229_846_296, 0.764, "3333 745333 565453 347453 56763634"),
    PublishedNetwork("cpu@10ms", "proxyless", 1.3, 144, 143_192_752, 0.711, "5433 3333 733373 5354 5334 34"),
    PublishedNetwork("cpu@15ms", "proxyless", 1.3, 188, 300_991_560, 0.746, "3333 3436 7634 543636 5633 76"),
    PublishedNetwork("flops@389M", "mobilenet_v3", 1.2, 224, 389_487_856, 0.791, "3333 535633 545433 56543434 36367633"),
    PublishedNetwork("flops@595M", "mobilenet_v3", 1.2, 236, 595_189_032, 0.800, "335433 54543653 76563354 36567634 36365633"),
    PublishedNetwork("note10@16ms", "mobilenet_v3", 1.0, 192, 162_464_384, 0.755, "3333 53543433 545433 545433 36745433"),
    PublishedNetwork("note10@30ms", "mobilenet_v3", 1.2, 224, 339_352_816, 0.784, "3333 543334 545433 363434 36363433"),
    PublishedNetwork("note10@50ms", "mobilenet_v3", 1.2, 220, 554_390_264, 0.797, "533636 54363653 76763454 76563636 363636"),
    PublishedNetwork("note10@8ms", "mobilenet_v3", 1.0, 160, 75_802_880, 0.714, "3333 3334 343333 3334 3454"),
    PublishedNetwork("note8@31ms", "mobilenet_v3", 1.0, 152, 100_520_248, 0.728, "5333 5453 343454 345374 36335353"),
    PublishedNetwork("note8@65ms", "mobilenet_v3", 1.0, 204, 219_899_816, 0.761, "7333 345433 763634 563634 56545433"),
    PublishedNetwork("pixel1@143ms", "mobilenet_v3", 1.2, 240, 641_756_192, 0.801, "533633 56563653 76563634 56365634 36365633"),
    PublishedNetwork("pixel1@28ms", "mobilenet_v3", 1.0, 160, 108_572_320, 0.733, "3334 733634 7336 3654 36343336"),
    PublishedNetwork("pixel1@58ms", "mobilenet_v3", 1.0, 220, 229_846_296, 0.769, "3333 745333 565453 347453 56763634"),
    PublishedNetwork("pixel2@25ms", "mobilenet_v3", 1.0, 144, 79_266_240, 0.715, "3333 5654 7433 747334 5634"),
    PublishedNetwork("pixel2@50ms", "mobilenet_v3", 1.0, 208, 165_999_448, 0.747, "3334 3333 3356 5674 36537453"),
    PublishedNetwork("s7edge@29ms", "mobilenet_v3", 1.0, 144, 66_444_032, 0.705, "3333 5334 5434 5454 3653"),
    PublishedNetwork("s7edge@58ms", "mobilenet_v3", 1.0, 192, 144_701_952, 0.747, "3333 5334 74533433 343433 365454"),
    PublishedNetwork("tx2@35ms", "proxyless", 1.3, 128, 121_204_736, 0.703, "3433 3676 5653 5334 5634 54"),
    PublishedNetwork("tx2@80ms", "proxyless", 1.3, 188, 312_808_424, 0.754, "3333 5336 345436 343674 365454 34"),
    PublishedNetwork("v100@11ms", "proxyless", 1.3, 192, 351_764_864, 0.761, "3333 5653 733374 74543374 36565436 34"),
    PublishedNetwork("v100@6ms", "proxyless", 1.3, 144, 179_272_800, 0.730, "3334 5334 367333 535436 365433 34"),
)

KNOWN_NETWORKS = (
    KnownNetwork("MobileNetV2", 300_000_000, 0.720, "Sandler et al., CVPR 2018"),
    KnownNetwork("MnasNet-A1", 312_000_000, 0.752, "Tan et al., CVPR 2019"),
    KnownNetwork("FBNet-C", 375_000_000, 0.749, "Wu et al., CVPR 2019"),
    KnownNetwork("ProxylessNAS (mobile)", 320_000_000, 0.746, "Cai et al., ICLR 2019"),
    KnownNetwork("MobileNetV3-Large", 219_000_000, 0.752, "Howard et al., ICCV 2019"),
    KnownNetwork("EfficientNet-B0", 390_000_000, 0.771, "Tan and Le, arXiv 1905.11946"),
)
