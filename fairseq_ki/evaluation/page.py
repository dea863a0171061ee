"""The HTML page of a report: one file, its style and pictures inside, nothing loaded."""

import html
import shlex

from fairseq_ki.evaluation.claims import HOLDS, NOT, judged
from fairseq_ki.evaluation.comparisons import Compared
from fairseq_ki.evaluation.downstream_table import downstream_facts
from fairseq_ki.evaluation.picture import INK, SERIES, Picture
from fairseq_ki.evaluation.results import Results, Run
from fairseq_ki.evaluation.summary import (
    cost_table,
    provenance,
    remarks,
    tables,
    warning,
)

_STYLE = """
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100% }
body { margin: 0 auto; padding: 1rem 1rem 4rem; max-width: 75rem; background: var(--page);
  color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 1rem 0 .25rem }
h2 { font-size: 1.35rem; margin: 2.5rem 0 .5rem; padding-top: 1rem;
  border-top: 1px solid var(--grid) }
a { color: var(--series-0) }
h3 { font-size: 1.05rem; margin: 2rem 0 .5rem }
p { max-width: 48rem; margin: .6rem 0 }
.quiet, .note, figcaption { color: var(--quiet); font-size: .875rem }
.findings { display: grid; gap: 0 1.5rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)) }
.finding { border-left: 4px solid var(--quiet); padding: .1rem 0 .1rem .9rem }
.finding.holds { border-color: var(--series-2) }
.finding.fails { border-color: var(--series-1) }
.warning { border: 2px solid var(--series-4); border-radius: .4rem; padding: .6rem .9rem;
  font-weight: 600 }
.scroll { overflow-x: auto; border: 1px solid var(--grid); border-radius: .4rem;
  background: linear-gradient(to left, var(--page) 40%, transparent) right / 3rem 100% no-repeat
  local, linear-gradient(to left, var(--quiet), transparent) right / .8rem 100% no-repeat scroll }
table { border-collapse: collapse; width: 100%; font-size: .9rem;
  font-variant-numeric: tabular-nums }
th, td { padding: .45rem .7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--grid) }
thead th { vertical-align: bottom; white-space: normal; min-width: 5rem; color: var(--quiet);
  font-weight: 600 }
thead th.text { min-width: 6.5rem }
td.text { white-space: normal; min-width: 9rem }
td small { display: block; color: var(--quiet); font-size: .8em }
tbody th { white-space: normal; min-width: 9rem }
tr.paper > * { color: var(--quiet); font-weight: normal; font-style: italic }
tbody tr:last-child > * { border-bottom: 0 }
th:first-child { text-align: left; background: var(--page); position: sticky; left: 0 }
.pictures { display: grid; gap: 1.5rem; margin-top: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)) }
figure { margin: 0; min-width: 0 }
figure h3 { margin: 0 0 .3rem }
svg { width: 100%; height: auto; display: block }
svg text { font-family: inherit }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .2rem 1rem;
  font-size: .9rem; margin: .5rem 0 }
dt { color: var(--quiet) }
dd { margin: 0; overflow-wrap: anywhere }
details { margin: .5rem 0 }
summary { cursor: pointer }
pre { overflow-x: auto; padding: .7rem; border: 1px solid var(--grid); border-radius: .4rem;
  font-size: .8rem; line-height: 1.45; white-space: pre-wrap; overflow-wrap: anywhere }
@media (max-width: 30rem) {
  body { padding: .5rem .75rem 3rem }
  th:first-child { max-width: 9.5rem; white-space: normal }
  dl { grid-template-columns: 1fr; gap: 0 }
  dd { margin-bottom: .4rem }
}
@media print { details > pre { white-space: pre-wrap } }
"""


_VERDICTS = {HOLDS: "holds", NOT: "fails"}  # the words beside them say the same


def _variables(theme: int) -> str:
    page, quiet = (("#ffffff", "#56606b"), ("#14171a", "#a0a8b2"))[theme]
    names = {name: pair[theme] for name, pair in INK.items()}
    names |= {f"series-{i}": pair[theme] for i, pair in enumerate(SERIES)}
    names |= {"page": page, "quiet": quiet}
    return "".join(f"--{name}:{value};" for name, value in names.items())


def page(sections: list[tuple[Results, list[Compared], list[Picture]]], title: str) -> str:
    """The whole document; one section per experiment, pictures as inline SVG."""
    several = len(sections) > 1
    titles = [html.escape(results.title or results.name) for results, _, _ in sections]
    body = _contents(titles) if several else ""
    for number, (heading, section) in enumerate(zip(titles, sections)):
        body += f'<h2 id="section{number}">{heading}</h2>\n' if several else ""
        body += _section(number, *section) + "\n"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n:root{{{_variables(0)}}}\n"
        f"@media (prefers-color-scheme: dark){{:root{{{_variables(1)}}}}}\n{_STYLE}</style>\n"
        f"</head>\n<body>\n<h1>{html.escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def _contents(titles: list[str]) -> str:
    lines = (f'<li><a href="#section{i}">{title}</a></li>' for i, title in enumerate(titles))
    return f"<nav><ul>{''.join(lines)}</ul></nav>\n"


def _section(
    number: int, results: Results, compared: list[Compared], pictures: list[Picture]
) -> str:
    parts = []
    if results.about:
        parts.append(f'<p class="quiet">{html.escape(results.about)}</p>')
    if warning(results):
        parts.append(f'<p class="warning">{html.escape(warning(results))}</p>')
    parts.append('<div class="findings">')
    parts += [
        f'<p class="finding {_VERDICTS.get(j.verdict, "")}"><b>{html.escape(j.said)}.</b> '
        f"{html.escape(j.reason)}</p>"
        for j in judged(results)
    ]
    parts += [f'<p class="finding">{html.escape(s)}</p>' for s in remarks(results, compared)]
    parts.append("</div>")
    parts.append('<div class="pictures">')
    for picture in pictures:
        parts.append(
            f"<figure><h3>{html.escape(picture.title)}</h3>{picture.svg(number)}"
            f"<figcaption>{html.escape(picture.caption)}</figcaption></figure>"
        )
    parts.append("</div>")
    parts += [table.html() for table in tables(results, compared)]
    parts.append(cost_table(results).html())
    parts.append(f"<h3>Measured with</h3>{_facts(provenance(results))}")
    if results.downstream:
        facts = _facts(downstream_facts(results.downstream))
        parts.append(
            "<details><summary>Checkpoints, data and chosen settings of the downstream tasks"
            f"</summary>{facts}</details>"
        )
    parts.append(_commands(results))
    return "\n".join(parts)


def _facts(facts: list[tuple[str, str]]) -> str:
    lines = (f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in facts)
    return f"<dl>{''.join(lines)}</dl>"


def _commands(results: Results) -> str:
    parts = ["<h3>Commands</h3>"]
    if results.command:
        parts.append(f"<pre>{html.escape(shlex.join(results.command))}</pre>")
    for run in results.runs:
        if run.command:
            parts.append(
                f"<details><summary>{html.escape(run_title(results, run))}</summary>"
                f"<pre>{html.escape(shlex.join(run.command))}</pre></details>"
            )
    return "\n".join(parts) if len(parts) > 1 else ""


def run_title(results: Results, run: Run) -> str:
    """An arm and its seed, where there is one, as a heading."""
    return results.label(run.name) + (f", seed {run.seed}" if run.seed else "")
