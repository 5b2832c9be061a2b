"""How a report looks: light and dark as the reader's system is, on a phone, and on paper."""

STYLE = """
:root {
  --paper: #fbfaf7; --card: #ffffff; --ink: #1d2126; --soft: #5c6570; --line: #dcd9d1; --strong: #a8430f;
  --train: #b9c3cd; --running: #1f6fb2; --val: #c4570f; --best: #157a4b; --mark: #7a4fb5; --grid: #e8e5de;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15181c; --card: #1c2026; --ink: #e6e4df; --soft: #9aa3ad; --line: #333a42; --strong: #f0a06a;
    --train: #66727d; --running: #6db3ee; --val: #f2944b; --best: #54c98d; --mark: #b99af0; --grid: #2a3037;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 64rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 .4rem; }
h3 { font-size: .95rem; margin: 0 0 .3rem; }
p { margin: .3rem 0 .6rem; }
section { margin-top: 2.4rem; }
.intro, .soft, figcaption { color: var(--soft); }
.tag {
  display: inline-block; border: 1px solid var(--line); border-radius: 1rem; padding: 0 .6rem; margin-right: .4rem;
}
.banner { border-left: 4px solid var(--strong); padding: .3rem .8rem; background: var(--card); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .7rem; margin: 1.2rem 0 0; }
.tiles div, .card {
  background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem;
}
.card { margin: .6rem 0; }
.tiles dt { color: var(--soft); font-size: .82rem; }
.tiles dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.columns {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: 1.2rem; align-items: start;
}
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .7rem .25rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td strong { color: var(--strong); }
code, pre { font: .88rem/1.45 ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace; }
td code { overflow-wrap: anywhere; }
td:first-child code { white-space: nowrap; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .2rem 0; }
pre .said { color: var(--running); }
figure {
  margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .5rem;
  overflow-x: auto;
}
figure svg { display: block; width: 100%; height: auto; }
figcaption { font-size: .85rem; padding: .2rem .4rem; }
.good { color: var(--best); }
.bad { color: var(--strong); }
footer { margin-top: 3rem; color: var(--soft); font-size: .85rem; }
@media screen and (max-width: 34rem) {
  main { padding: 1.2rem .8rem 3rem; }
  .tiles dd { font-size: 1.05rem; }
  figure svg { min-width: 34rem; }
}
@media print {
  :root {
    --paper: #ffffff; --card: #ffffff; --ink: #000000; --soft: #444444; --line: #bbbbbb; --strong: #8a3208;
    --train: #b9c3cd; --running: #1f6fb2; --val: #c4570f; --best: #157a4b; --mark: #7a4fb5; --grid: #e4e4e4;
  }
  body { font-size: 11pt; }
  main { max-width: none; padding: 0; }
  section { margin-top: 1.4rem; }
  h2 { break-after: avoid; }
  figure, .card, tr { break-inside: avoid; }
}
"""
