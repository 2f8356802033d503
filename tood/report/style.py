"""The style of the page: quiet, light and dark, and for narrow screens."""

STYLE = """
:root { color-scheme: light dark; --text: #1f2328; --back: #fff; --soft: #59636e; --line: #d1d9e0;
  --panel: #f6f8fa }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --back: #0d1117; --soft: #9198a1;
  --line: #30363d; --panel: #151b23 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere }
main { max-width: 76rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.5rem; margin: .4rem 0 .8rem } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem;
  padding-bottom: .25rem; border-bottom: 1px solid var(--line) } h3 { margin: 1.6rem 0 .5rem }
h2.set { font-size: 1.35rem; margin-top: 3rem }
p { margin: .5rem 0; max-width: 60rem } .lead { font-size: 1.05rem }
.note, figcaption, .missing { color: var(--soft) }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .93rem }
a { color: #0969da } @media (prefers-color-scheme: dark) { a { color: #4493f8 } }
.cards { display: flex; flex-wrap: wrap; gap: .6rem; margin: .8rem 0 }
.card { background: var(--panel); border: 1px solid var(--line); border-radius: 8px;
  padding: .5rem .9rem; min-width: 5.6rem }
.card b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums }
.card.main b { font-size: 1.9rem; line-height: 1.2 } .card span span { color: inherit }
.card > span { color: var(--soft); font-size: .85rem }
.cards { align-items: flex-end }
.scroll { overflow-x: auto; max-width: 100% }
table { border-collapse: collapse; margin: .5rem 0 1rem; font-size: .9rem }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem;
  border-bottom: 1px solid var(--line) }
th { font-weight: 600; white-space: nowrap }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
.classes td { vertical-align: middle; padding-top: .1rem; padding-bottom: .1rem }
td:first-child { min-width: 6rem } .facts thead { display: none }
.facts td:first-child { color: var(--soft); white-space: nowrap; padding-left: 0 }
.errors td:nth-child(3) { width: 12rem; min-width: 5rem; vertical-align: middle }
.errors td:first-child { min-width: 9.5rem }
@media (max-width: 40rem) { .errors td:nth-child(3) { width: 4rem; min-width: 3rem }
  .errors .track { min-width: 3rem } }
.errors small { display: block; color: var(--soft); max-width: 24rem }
.scroll th:first-child, .scroll td:first-child { position: sticky; left: 0;
  background: var(--back) }
.track { display: block; min-width: 4rem }
.bar { display: block; height: .8rem; border-radius: 2px }
.swatch { display: inline-block; width: .8em; height: .8em; margin: 0 .35em 0 .1em;
  border-radius: 2px; vertical-align: -.05em; outline: 1px solid var(--line) }
.grid { display: grid; gap: 1rem 1.6rem; grid-template-columns: repeat(auto-fit, minmax(min(22rem,
  100%), 1fr)); align-items: start }
figure { margin: 0; min-width: 0 } figcaption { font-size: .85rem; margin-top: .3rem }
figcaption b { color: var(--text) }
svg.chart { display: block; width: 100%; max-width: 36rem; height: auto }
svg.spark { display: block; width: 96px; height: 32px }
.spark polyline { stroke-width: 1.5; vector-effect: non-scaling-stroke }
.images { display: grid; gap: 1.2rem; align-items: start; grid-template-columns: repeat(auto-fill,
  minmax(min(20rem, 100%), 1fr)) }
.images img { display: block; max-width: 100%; height: auto; border-radius: 4px }
.missing { border: 1px dashed var(--line); border-radius: 4px; padding: 1.5rem 1rem; margin: 0 }
.key { display: inline-block; margin-right: .5rem }
.legend { font-size: .9rem }
.matrix td { text-align: right; font-variant-numeric: tabular-nums; min-width: 2.4rem;
  border: 1px solid var(--line); padding: .2rem .4rem; vertical-align: middle }
.matrix th { text-align: right; border: 0 }
.matrix th > span { display: block; max-width: 9rem; overflow: hidden; text-overflow: ellipsis }
.matrix tr:first-child th { vertical-align: bottom; text-align: left; padding: .3rem .2rem }
.matrix tr:first-child th > span { writing-mode: vertical-rl; transform: rotate(180deg);
  max-width: none; max-height: 9rem }
.matrix td:first-child { min-width: 2.4rem }
details { margin: .5rem 0 } summary { cursor: pointer }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: .8rem;
  overflow-x: auto; font-size: .82rem; max-height: 40rem }
"""
