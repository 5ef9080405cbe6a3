"""Names, versions and options of our ONNX files."""

from dataclasses import dataclass

from ..errors import VerificationError

INPUT, OUTPUT, PROBABILITIES = "images", "logits", "probabilities"
OPSET = 13  # of December 2020; nothing newer is needed
OPSETS = range(10, 29)  # tested; before 10, a mean over windows that reach over the edge cannot be written
HARD_SWISH = 14  # the first with this operator, which OpenVINO runs faster than its two parts (10 % for a whole network)
MOST_IMAGES = 1024
ACTIVATIONS = {"softmax": "Softmax", "sigmoid": "Sigmoid"}  # name -> ONNX operator


@dataclass(frozen=True)
class OnnxOptions:
    """Options for files made from an ONNX graph.

    Args:
        opset: ONNX operator set, for the ONNX files themselves; the version of the file format (IR) follows from it.
        batch: images per call; None for any number.
        softmax: end with `activation`, so that the files return probabilities instead of logits.
        activation: "softmax", or "sigmoid" if an image may have several labels.

    Raises:
        VerificationError: a value that is not among those allowed.
    """

    opset: int = OPSET
    batch: int | None = None
    softmax: bool = False
    activation: str = "softmax"

    def __post_init__(self) -> None:
        if self.opset not in OPSETS:
            raise VerificationError(f"opset {self.opset}: choose from {OPSETS[0]} to {OPSETS[-1]}; the default is {OPSET}")
        if self.activation not in ACTIVATIONS:
            raise VerificationError(f"activation {self.activation!r}: choose from {', '.join(ACTIVATIONS)}")
        if self.batch is not None and not 1 <= self.batch <= MOST_IMAGES:
            raise VerificationError(
                f"batch {self.batch}: choose from 1 to {MOST_IMAGES} images per call, or leave it out for any number"
            )
