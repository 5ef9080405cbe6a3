"""The page's HTML templates. Their macros escape every text that is not HTML already."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

PAGES = Environment(
    loader=PackageLoader("onceforall.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
)
html: Any = PAGES.get_template("macros.html").module
