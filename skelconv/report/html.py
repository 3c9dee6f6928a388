"""Pages that are one file: a look that all share, everything in the page, nothing asked of a server."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from skelconv.extras import need


def render_page(package: str, template: str, **values: Any) -> str:
    """Fill in a template of a package, which may extend ``base.html.j2`` of this one.

    Values are escaped unless the template says ``safe``.

    Raises
    ------
    MissingExtraError
        jinja2 is not installed.
    """
    need("jinja2", "view")
    import jinja2

    loaders = [jinja2.PackageLoader(name, "templates") for name in dict.fromkeys((package, __package__))]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def write_page(out: Path, page: str) -> None:
    """Write a page under a name that only ever holds all of it; folders are made."""
    write_whole(out, page.encode("utf-8"))


def write_whole(out: Path, content: bytes) -> None:
    """Write a file under a name that only ever holds all of it; folders are made."""
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(out.name + ".partial")
    aside.write_bytes(content)
    aside.replace(out)


def data_url(png: bytes) -> str:
    """Return a PNG as what an ``img`` of a page can hold."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
