"""The template layer of the pages: values by name, what is escaped, formats of numbers, and the HTML that Markdown becomes."""

import base64

import jinja2
import pytest
from markupsafe import Markup

from experiments.studies import templating
from experiments.studies.templating import Grid, escaped, number, render, to_html

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


def filled(text, block="", **values):
    """A template of this text, called page.md, filled in."""
    environment = templating._MARKDOWN.overlay(loader=jinja2.DictLoader({"page.md": text}))
    return render("page.md", values, block, environment)


def test_a_value_that_is_not_there_is_an_error_that_names_the_template_the_line_and_the_value():
    with pytest.raises(ValueError, match=r"template page.md, line 3: 'many' is undefined; expected a value of this name"):
        filled("# A page\n\nTop-1 is {{ many }}.")
    with pytest.raises(ValueError, match="has no attribute 'many_m2'"):
        filled("{{ value.many_m2 }}", value={"many_m1": "0.87"})


def test_an_error_in_a_template_of_the_pages_names_its_file():
    with pytest.raises(ValueError, match=r"template readme.md, line \d+: 'verdict' is undefined"):
        render("readme.md", {}, "label_diversity")


def test_a_block_of_a_template_is_filled_in_alone():
    text = "{% block one %}one {{ x }}{% endblock %}\n{% block two %}two {{ y }}{% endblock %}"
    assert filled(text, "two", y=2) == "two 2\n"


@pytest.mark.parametrize(
    ("text", "in_markdown", "in_html"),
    [
        ("a < b & c", "a &lt; b &amp; c", "<p>a &lt; b &amp; c</p>"),
        ("<script>x</script>", "&lt;script>x&lt;/script>", "<p>&lt;script&gt;x&lt;/script&gt;</p>"),
        ("*not* `code`", r"\*not\* \`code\`", "<p>*not* `code`</p>"),
        ("E_cls - P_0 of paper_like", "E_cls - P_0 of paper_like", "<p>E_cls - P_0 of paper_like</p>"),
        ("0.87 [-0.86, 0.89]", "0.87 [-0.86, 0.89]", "<p>0.87 [-0.86, 0.89]</p>"),
    ],
)
def test_a_value_is_text_and_never_markdown_or_html(text, in_markdown, in_html, tmp_path):
    assert filled("{{ x }}", x=text) == f"{in_markdown}\n"
    assert in_html in to_html("# Title\n\n" + filled("{{ x }}", x=text), tmp_path)


def test_text_of_our_own_may_be_markdown(tmp_path):
    assert "<em>yes</em>" in to_html("# Title\n\n" + filled("{{ x | markdown }}", x="*yes*"), tmp_path)
    assert escaped(Markup("**agrees**")) == "**agrees**"


@pytest.mark.parametrize(
    ("value", "digits", "shown"), [(0.874, 2, "0.87"), (-0.03, 2, "-0.03"), (44_000, 0, "44,000"), (1.0, 3, "1.000")]
)
def test_a_numbers_format(value, digits, shown):
    assert number(value, digits) == shown == filled("{{ x | number(digits) }}", x=value, digits=digits).strip()


def test_a_number_with_a_fraction_and_no_format_is_an_error():
    with pytest.raises(TypeError, match=r"0.30000000000000004 has no format; expected `\| number`"):
        filled("{{ x }}", x=0.1 + 0.2)
    assert filled("{{ x }}", x=16) == "16\n"


def test_a_table_has_column_heads_and_its_bars_divide_no_cell(tmp_path):
    table = filled("{{ rows | table }}", rows=Grid(["head", "|x|"], [["a | b", Markup("**agrees**")], [1, "<"]]))
    assert table == "| head | \\|x\\| |\n| --- | --- |\n| a \\| b | **agrees** |\n| 1 | &lt; |\n"
    html = to_html("# Title\n\n" + table, tmp_path)
    assert '<div class="scroll"><table>' in html and "<th>|x|</th>" in html and "<td>a | b</td>" in html
    assert '<strong class="verdict agrees">agrees</strong>' in html


def test_a_figure_is_inside_the_page_with_its_caption(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "a.png").write_bytes(PIXEL)
    html = to_html("# Title\n\n![What it is](figures/a.png)\n*What it is. `make sweep`*\n\ntext", tmp_path)
    data = base64.b64encode(PIXEL).decode()
    assert f'<figure><img src="data:image/png;base64,{data}" alt="What it is"' in html
    assert "<figcaption>What it is. <code>make sweep</code></figcaption></figure>" in html and "<p>text</p>" in html


def test_the_page_of_html_has_its_title_and_names_of_headings(tmp_path):
    html = to_html("# What & why?\n\n## Is it `EP`?\n", tmp_path)
    assert "<title>What &amp; why?</title>" in html and '<h2 id="is-it-ep">' in html
    assert "prefers-color-scheme: dark" in html and "width=device-width" in html
