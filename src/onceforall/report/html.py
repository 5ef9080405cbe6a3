"""The page's HTML templates; their macros escape every text that is not already HTML."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

PAGES = Environment(
    loader=PackageLoader("onceforall.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
)
html: Any = PAGES.get_template("macros.html").module
