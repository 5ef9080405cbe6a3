"""`ofa report`: one self-contained HTML page about a run, or several side by side, without scripts or external resources; works in
print, dark mode and on phones. It shows what the commands of `onceforall.pipeline` left in the run directory."""

from typing import TYPE_CHECKING

from ..common.lazy import load_on_use

if TYPE_CHECKING:
    from .page import report

__all__ = ["report"]

load_on_use(__name__)
