"""What ONNX files are like here: names, versions and options."""

from dataclasses import dataclass

from ..errors import VerificationError

INPUT, OUTPUT, PROBABILITIES = "images", "logits", "probabilities"
OPSET = 13  # of December 2020; nothing newer is needed
OPSETS = range(10, 29)  # tested; before 10, a mean over windows that reach over the edge cannot be written
HARD_SWISH = 14  # the first with this operator, which OpenVINO runs faster than the two it is made of (a network by a tenth)
MOST_IMAGES = 1024
ACTIVATIONS = {"softmax": "Softmax", "sigmoid": "Sigmoid"}  # the operator of each


@dataclass(frozen=True)
class OnnxOptions:
    """How files that are made from an ONNX graph are written.

    Args:
        opset: version of ONNX's operators, of the ONNX files themselves; the version of the file format (IR) follows from it.
        batch: images a call; None for any number.
        softmax: end with a softmax, or what else makes probabilities of the logits, so that the files give these.
        activation: what that is: "softmax", or "sigmoid" where an image may have several labels.

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
                f"batch {self.batch}: choose from 1 to {MOST_IMAGES} images a call, or leave it out for any number"
            )
