"""Pages of HTML: one file with everything, no scripts, no network, pictures within."""

import base64
import html
from collections.abc import Sequence

from nifbuild.errors import shown
from nifbuild.machine import MAKER, VERSION

_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --faint: #666; --line: #ddd;
  --link: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --paper: #16181c; --faint: #a0a0a0; --line: #383b42; --link: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 64rem; color: var(--ink);
  background: var(--paper); font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; }
p, li { max-width: 46rem; } p, li, h3 { overflow-wrap: anywhere; } h3 { font-size: 1rem; }
a { color: var(--link); }
.faint, figcaption { color: var(--faint); font-size: .875rem; }
.verdicts { padding-left: 1.2rem; font-size: 1.05rem; } .verdicts li { margin: .35rem 0; }
figure { margin: 1rem 0; } figcaption { max-width: 46rem; margin-top: .4rem; }
img { width: 560px; max-width: 100%; height: auto; background: #fff; padding: 8px;
  border: 1px solid var(--line); border-radius: 4px; }
.broad img { width: 100%; }
@media (max-width: 700px) { /* a picture that cannot be read is of no use: it is moved instead */
  .broad { overflow-x: auto; } .broad img { width: 700px; max-width: none; }
  .broad figcaption { position: sticky; left: 0; } }
pre { font-size: .8125rem; line-height: 1.4; margin: 0; }
summary { cursor: pointer; color: var(--link); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .875rem;
  font-variant-numeric: tabular-nums; }
td { white-space: nowrap; vertical-align: top; } th { vertical-align: bottom; }
th.named { overflow-wrap: anywhere; min-width: 6rem; }
th, td { padding: .2rem .7rem .2rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th[colspan] { border: 0; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0;
  background: var(--paper); }
td:first-child { font-family: monospace; } td:first-child, .prose { white-space: normal; }
.prose { text-align: left; min-width: 11rem; }
@media (max-width: 700px) { /* long names leave room for what they name */
  td:first-child { min-width: 8.5rem; overflow-wrap: anywhere; } }
"""

_PROSE = 24
"""Characters beyond which a value is set as prose; figures with their units are shorter."""
_NAME = 14
"""Characters beyond which a heading may be broken anywhere, such as the name of a run."""


def escaped(text: str) -> str:
    """Text as a page may hold it."""
    return html.escape(shown(text))


def page(title: str, facts: str, body: str, footer: str = "") -> str:
    """The page.

    Args:
        title: Its name, as text.
        facts: What it is about, in a line, as text.
        body: Its content, as HTML.
        footer: What else is to be known, as text.
    """
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="{MAKER}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escaped(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>{escaped(title)}</h1>
<p class="faint">{escaped(facts)}</p>
</header>
<main>
{body}
</main>
<footer class="faint"><p>{escaped(f"nifbuild {VERSION}. {footer}".strip())}</p></footer>
</body>
</html>
"""


def section(heading: str, pictures: Sequence[bytes], caption: str, *, broad: bool = False) -> str:
    """PNG files under a heading, with a caption; `broad`: as wide as the page."""
    images = "\n".join(
        f'<img alt="{escaped(heading)}" src="data:image/png;base64,'
        f'{base64.b64encode(picture).decode()}">'
        for picture in pictures
    )
    return f"""<section>
<h2>{escaped(heading)}</h2>
<figure{' class="broad"' if broad else ""}>
{images}
<figcaption>{escaped(caption)}</figcaption>
</figure>
</section>
"""


def headed(heading: str, content: str) -> str:
    """Content, as HTML, under a heading."""
    return f"<section>\n<h2>{escaped(heading)}</h2>\n{content}\n</section>"


def listed(sentences: Sequence[str], kind: str = "") -> str:
    """Sentences as a list of a kind that the page has a look for; Markdown's marks of code go."""
    items = "\n".join(f"<li>{escaped(text.replace('`', ''))}</li>" for text in sentences)
    look = f' class="{kind}"' if kind else ""
    return f"<ul{look}>\n{items}\n</ul>" if sentences else ""


def preformatted(text: str) -> str:
    """Lines as they are; those that are too long are scrolled."""
    lines = "\n".join(escaped(line) for line in text.splitlines())
    return f'<div class="wide"><pre>{lines}</pre></div>'


def folded(summary: str, content: str) -> str:
    """Content, as HTML, that is shown when one clicks on the summary."""
    return f"<details>\n<summary>{escaped(summary)}</summary>\n{content}\n</details>"


def table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    caption: str = "",
    *,
    groups: Sequence[tuple[str, int]] = (),
) -> str:
    """A table of texts, of which the first column is names, which stay where one scrolls.

    Args:
        headings: Of each column.
        rows: A text for each column.
        caption: What stands above it.
        groups: What stands above the headings, each with how many columns it is for.
    """
    columns = ([row[i] for row in rows] for i in range(1, len(headings)))
    looks = ["", *map(_look, headings[1:], columns)]
    above = "".join(f'<th colspan="{span}">{escaped(text)}</th>' for text, span in groups)
    over = f"<tr>{above}</tr>\n" if groups else ""
    body = "\n".join(_row("td", looks, row) for row in rows)
    told = f'<p class="faint">{escaped(caption)}</p>\n' if caption else ""
    return f"""{told}<div class="wide"><table>
<thead>{over}{_row("th", looks, headings)}</thead>
<tbody>
{body}
</tbody>
</table></div>"""


def _look(heading: str, values: Sequence[str]) -> str:
    if any(len(text) > _PROSE for text in values):
        return ' class="prose"'
    return ' class="named"' if len(heading) > _NAME else ""


def _row(tag: str, looks: Sequence[str], texts: Sequence[str]) -> str:
    cells = zip(looks, texts, strict=True)
    return f"<tr>{''.join(f'<{tag}{look}>{escaped(text)}</{tag}>' for look, text in cells)}</tr>"
