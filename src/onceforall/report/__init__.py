"""`ofa report`: one self-contained HTML page about a run, or several side by side, from the files in the run directories.

The page has no scripts or external resources, and works in print, in dark mode and on phones.
"""

from typing import TYPE_CHECKING

from ..common.lazy import load_on_use

if TYPE_CHECKING:
    from .page import report

__all__ = ["report"]

load_on_use(__name__)
