"""The report as a page: report.md, and a self-contained index.html: figures inside, no network, light and dark, any width."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.studies.claims import Verdict
from lrjax.storage.files import write_atomically

RULE = (  # of every interval of the reports, for their readers
    "Intervals are Student's t over models (of the differences by seed for a contrast), and Wilson's for a share of models. That "
    "of an accuracy is printed and drawn cut at 0 and 1, and judged as it is."
)
CSS = """
:root {
  color-scheme: light dark;
  --ink: #1a1a1a; --paper: #fdfdfb; --quiet: #666; --line: #ddd; --card: #fff;
  --agrees: #0a6e4f; --differs: #b3450a; --undecided: #7a5c00; --not-tested: #777;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e8e6e1; --paper: #16181b; --quiet: #a0a0a0; --line: #3a3d42; --card: #f4f4f2;
    --agrees: #5fd3a8; --differs: #ff9e62; --undecided: #e3c15a; --not-tested: #9a9a9a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem;
  background: var(--paper); color: var(--ink); font: 1rem/1.55 system-ui, sans-serif;
}
h1 { font-size: 1.6rem; line-height: 1.25; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
code { font-size: .88em; overflow-wrap: anywhere; }
.quiet { color: var(--quiet); }
.answer { border-left: 4px solid var(--agrees); padding: .1rem 0 .1rem 1rem; margin: 1rem 0; }
article { border-top: 1px solid var(--line); padding: .9rem 0; }
article h3 { font-size: 1rem; margin: 0 0 .25rem; }
article p { margin: .25rem 0; }
.verdict { font-weight: 600; white-space: nowrap; }
.agrees { color: var(--agrees); }
.differs { color: var(--differs); }
.undecided { color: var(--undecided); }
.not-tested { color: var(--not-tested); }
figure { margin: 1.2rem 0; overflow-x: auto; }
figure img { width: 100%; min-width: 34rem; background: var(--card); padding: .4rem; border-radius: 6px; }
figcaption { color: var(--quiet); font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; }
td, th { padding: .25rem .6rem; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
td:last-child { white-space: normal; min-width: 14rem; }
"""


class Page:
    """Blocks of a report, written as Markdown and as HTML side by side. Text may hold `code` and **bold**."""

    def __init__(self, title: str):
        self.title, self.md, self.html = title, [f"# {title}"], [f"<h1>{html.escape(title)}</h1>"]

    def heading(self, text: str) -> None:
        self.md.append(f"## {text}")
        self.html.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str, kind: str = "") -> None:
        self.md.append(text)
        self.html.append(f'<p class="{kind}">{_inline(text)}</p>')

    def answer(self, question: str, text: str) -> None:
        self.md.append(f"**{question}** {text}")
        self.html.append(f'<div class="answer"><p><strong>{html.escape(question)}</strong><br>{_inline(text)}</p></div>')

    def claim(self, verdicts: Sequence[Verdict]) -> None:
        """One claim, with its verdict in every sweep that it was asked of."""
        claim = verdicts[0].claim
        said = [f"paper: {claim.paper}" if claim.paper else "ours: the paper has no such figure", f"contrast: {claim.contrast}"]
        said += [f"expected: {_range(claim.low, claim.high)}"] if claim.values else []
        self.md.append(f"### {claim.finding}\n\n" + "; ".join(said) + ".\n")
        rows = [f"<h3>{_inline(claim.finding)}</h3>", f'<p class="quiet">{_inline("; ".join(said))}.</p>']
        for verdict in verdicts:
            self.md.append(f"- {verdict.part}: {measured(verdict)} **{verdict.verdict}**")
            mark = verdict.verdict.replace(" ", "-")
            rows.append(f'<p>{verdict.part}: {measured(verdict)} <span class="verdict {mark}">{verdict.verdict}</span></p>')
        if claim.note:
            self.md.append(f"\n{claim.note}")
            rows.append(f"<p>{_inline(claim.note)}</p>")
        self.html.append(f'<article id="{claim.key}">{"".join(rows)}</article>')

    def figure(self, path: Path, caption: str) -> None:
        """A PNG beside the page, embedded in the HTML."""
        data = base64.b64encode(path.read_bytes()).decode()
        self.md.append(f"![{caption}](figures/{path.name})\n\n*{caption}*")
        image = f'<img alt="{html.escape(caption)}" src="data:image/png;base64,{data}">'
        self.html.append(f"<figure>{image}<figcaption>{_inline(caption)}</figcaption></figure>")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.md.append("\n".join(["| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *rows]]))
        line = lambda cells, tag: "<tr>" + "".join(f"<{tag}>{_inline(cell)}</{tag}>" for cell in cells) + "</tr>"
        body = "".join(line(cells, "td") for cells in rows)
        self.html.append(f'<div class="scroll"><table>{line(header, "th")}{body}</table></div>')

    def write(self, folder: Path, markdown: str = "report.md", page: str = "index.html") -> list[Path]:
        """The page as Markdown and as HTML."""
        head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        head += f"<title>{html.escape(self.title)}</title><style>{CSS}</style>"
        body = "\n".join(self.html)
        pages = {
            markdown: "\n\n".join(self.md) + "\n",
            page: f'<!doctype html><html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n',
        }
        for name, content in pages.items():
            write_atomically(folder / name, content)
        return [folder / name for name in pages]


def measured(verdict: Verdict) -> str:
    """`0.87 [0.86, 0.89], 16 models`."""
    if verdict.n == 0:
        return "nothing was measured;"
    interval = "" if np.isnan(verdict.low) else " [{:.3f}, {:.3f}]".format(*verdict.shown)
    return f"{verdict.mean:.3f}{interval}, {verdict.n} model{'s' if verdict.n > 1 else ''};"


def _range(low: float, high: float) -> str:
    if np.isinf(high):
        return f"at least {low:g}"
    if np.isinf(low):
        return f"at most {high:g}"
    return f"{low:g} to {high:g}"


def _inline(text: str) -> str:
    """Escaped, with `code` and **bold**."""
    parts = html.escape(text, quote=False).split("`")
    parts = [f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts)]
    bold = "".join(parts).split("**")
    return "".join(f"<strong>{part}</strong>" if i % 2 else part for i, part in enumerate(bold))
