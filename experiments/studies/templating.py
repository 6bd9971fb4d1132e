"""The template layer of the pages: a Markdown template is filled in with values by name, and made into a page of HTML.

The prose of a page stands in one template of `templates/`, to be read from top to bottom; Python computes the values. The Markdown
that comes out is a page itself, and the only source of the HTML. In a template

    {{ value.few }}                  a value that is not there is an error that names the template, the line and the value
    {{ deviation | number(3) }}      a number with a fraction needs its format; without one it is an error
    {{ rows | table }}               a table with its column heads
    {{ name | code }}                text that is printed as it is, as a name in code
    {{ caption | markdown }}         text of our own that is Markdown already
"""

import base64
import dataclasses
import itertools
import re
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

VERDICTS = ("agrees", "differs", "undecided", "not tested")  # these words, in bold, have a colour on a page
FOLDER = Path(__file__).with_name("templates")


@dataclasses.dataclass(frozen=True)
class Grid:
    """A table of a page: column heads, and rows of cells."""

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]


def escaped(value: Any) -> Any:
    """What a template prints of a value: text in which nothing is Markdown or HTML by accident. `Markup` stays as it is.

    Raises:
      TypeError: the value is a number with a fraction, which has no format yet.
    """
    if isinstance(value, jinja2.Undefined) or hasattr(value, "__html__"):
        return value
    if isinstance(value, float):
        raise TypeError(f"{value!r} has no format; expected `| number`")
    text = str(value).replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;")
    return Markup(re.sub(r"([*`])", r"\\\1", text))


def number(value: float, digits: int = 2) -> str:
    """A number with so many digits after the point, and commas between thousands: `0.87`, `44,000`."""
    return f"{value:,.{digits}f}"


def code(text: Any) -> Markup:
    """Text as a name in code."""
    return Markup(f"`{text}`")


def table(grid: Grid) -> Markup:
    """A table in Markdown."""
    lines = [grid.header, ["---"] * len(grid.header), *grid.rows]
    return Markup("\n".join("| " + " | ".join(map(_cell, cells)) + " |" for cells in lines))


def _cell(value: Any) -> str:
    return str(escaped(value)).replace("|", "\\|").replace("\n", " ")


_OPTIONS: dict[str, Any] = {"undefined": jinja2.StrictUndefined, "autoescape": True, "trim_blocks": True, "lstrip_blocks": True}
_MARKDOWN = jinja2.Environment(loader=jinja2.FileSystemLoader(FOLDER), finalize=escaped, **_OPTIONS)
_MARKDOWN.filters |= {"number": number, "code": code, "table": table, "markdown": Markup}
_HTML = jinja2.Environment(loader=jinja2.FileSystemLoader(FOLDER), **_OPTIONS)


def render(name: str, values: Mapping[str, Any], block: str = "", environment: jinja2.Environment = _MARKDOWN) -> str:
    """The text of a template, or of one block of it.

    Raises:
      ValueError: the template asks for a value that is not there.
    """
    template = environment.get_template(name)
    try:
        text = "".join(template.blocks[block](template.new_context(dict(values)))) if block else template.render(values)
    except jinja2.UndefinedError as error:
        at = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.endswith(".py")][-1]
        where = name if at.filename == "<template>" else Path(at.filename).name
        raise ValueError(f"template {where}, line {at.lineno}: {error}; expected a value of this name") from None
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def to_html(markdown: str, folder: Path) -> str:
    """A page of HTML that needs nothing but itself: its figures, PNG files that the Markdown names relative to `folder`, inside."""
    tokens = _PARSER.parse(markdown)
    for token, inline in itertools.pairwise(tokens):
        if token.type == "heading_open":
            token.attrSet("id", _slug(inline.content))
        if token.type == "paragraph_open" and (inline.children or [Token("", "", 0)])[0].type == "image":
            _make_figure(token, inline, tokens[tokens.index(inline) + 1], folder)
        for child, text in itertools.pairwise(inline.children or []):
            if child.type == "strong_open" and text.content in VERDICTS:
                child.attrSet("class", f"verdict {text.content.replace(' ', '-')}")
    title = next(inline.content for token, inline in itertools.pairwise(tokens) if token.tag == "h1")
    body = Markup(_PARSER.renderer.render(tokens, _PARSER.options, {}))
    return render("page.html", {"title": title, "body": body}, environment=_HTML)


def _make_figure(opening: Token, inline: Token, closing: Token, folder: Path) -> None:
    """A paragraph of an image and, in italics, its caption becomes a figure."""
    opening.tag = closing.tag = "figure"
    for child in inline.children or []:
        if child.type == "image":
            data = (folder / str(child.attrGet("src"))).read_bytes()
            child.attrSet("src", f"data:image/png;base64,{base64.b64encode(data).decode()}")
        if child.type in ("em_open", "em_close"):
            child.tag = "figcaption"


def _slug(heading: str) -> str:
    """The name of a heading in links, as GitHub and MkDocs make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _scrolled(self, tokens, index, options, env) -> str:
    """A wide table scrolls on its own."""
    return '<div class="scroll"><table>\n' if tokens[index].nesting == 1 else "</table></div>\n"


_PARSER = MarkdownIt("commonmark", {"html": True}).enable("table")
_PARSER.add_render_rule("table_open", _scrolled)
_PARSER.add_render_rule("table_close", _scrolled)
