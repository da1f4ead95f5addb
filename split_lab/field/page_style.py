"""The style sheet of the report's page."""

STYLE = """
:root { color-scheme: light dark; --ink: #1f2937; --soft: #586174; --paper: #f6f7f9; --card: #fff;
  --line: #d9dde3; --best: #dcefe3; --best-ink: #14532d; --mark: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e5e7eb; --soft: #a3adbb; --paper: #14181f; --card: #1d232c; --line: #353d49;
    --best: #1d4430; --best-ink: #c9f2d8; --mark: #56b4e9; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .75rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.25rem 0 .6rem; }
h3 { font-size: 1rem; margin: 0 0 .4rem; }
p, li { max-width: 46rem; overflow-wrap: anywhere; }
p { margin: .5rem 0; }
code { font-size: .9em; }
.verdict { font-size: 1.2rem; line-height: 1.45; border-left: 4px solid var(--mark);
  padding-left: .8rem; margin: 0 0 1rem; }
.key, figcaption { color: var(--soft); font-size: .875rem; }
.key .item { display: inline-block; margin-right: .9rem; }
/* A shadow on the right for as long as there is more there: a lid that scrolls along covers it. */
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px;
  background: linear-gradient(to left, var(--card) 40%, transparent) right / 2.5rem 100% no-repeat
    local, linear-gradient(to left, rgba(128, 128, 128, .5), transparent) right / .9rem 100%
    no-repeat scroll, var(--card); }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: .9rem; }
th, td { padding: .45rem .7rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
tbody tr:last-child > * { border-bottom: 0; }
thead th { color: var(--soft); font-weight: 600; font-size: .8rem; vertical-align: bottom; }
th[scope=row] { font-weight: 600; overflow-wrap: anywhere; min-width: 7.6rem; max-width: 12rem; }
.arms th:first-child, .arms tbody th { position: sticky; left: 0; background: var(--card);
  border-right: 1px solid var(--line); }
.n { font-variant-numeric: tabular-nums; white-space: nowrap; }
.best { background: var(--best); color: var(--best-ink); border-radius: 4px; padding: .1rem .35rem;
  margin: -.1rem -.35rem; }
.key .best { margin: 0; }
.list td { min-width: 4.5rem; }
.list td:nth-child(2) { min-width: 9rem; overflow-wrap: anywhere; }
.list td:nth-child(3) { min-width: 12rem; overflow-wrap: anywhere; }
.swatch { display: inline-block; width: .75rem; height: .75rem; border-radius: 2px;
  margin-right: .45rem; border: 1px solid rgba(128, 128, 128, .6); vertical-align: -.05rem; }
.bar { display: flex; width: 9rem; height: .9rem; margin-top: .25rem; border-radius: 3px;
  overflow: hidden; border: 1px solid rgba(128, 128, 128, .6); }
.bar span { flex: none; height: 100%; }
.settings { display: grid; grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr));
  gap: .5rem 1.5rem; margin: 0; }
.settings dt { color: var(--soft); font-size: .8rem; }
.settings dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.figures { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1.75rem 1.25rem; }
figure { margin: 0; min-width: 0; }
figure.wide { grid-column: 1 / -1; }
figure.tall { grid-row: span 2; }
figcaption { margin-top: .4rem; max-width: 46rem; }
/* Figures are drawn for white. */
.card { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: .5rem;
  overflow-x: auto; }
.card svg { display: block; width: 100%; height: auto; }
.faults .at { font-variant-numeric: tabular-nums; color: var(--soft); margin-right: .4rem; }
:focus-visible { outline: 2px solid var(--mark); outline-offset: 2px; }
@media (max-width: 760px) {
  .figures { grid-template-columns: minmax(0, 1fr); }
  /* Its letters would be too small to read; it moves in its box. */
  .wide .card svg { width: 42rem; }
  .verdict { font-size: 1.08rem; }
}
@page { margin: 14mm; }
@media print {
  :root { --ink: #000; --soft: #444; --paper: #fff; --card: #fff; --line: #bbb; --best: #dcefe3;
    --best-ink: #14532d; color-scheme: light; }
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  .scroll, .card { overflow: visible; }
  .wide .card svg { width: 100%; }
  table { font-size: 8pt; }
  th, td { padding: .2rem .35rem; }
  .bar { width: 5rem; }
  figure, tr, li { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .bar span, .swatch, .best { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
"""
