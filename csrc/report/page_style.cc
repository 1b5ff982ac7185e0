// SPDX-License-Identifier: Apache-2.0
#include "csrc/report/page.h"

namespace forja {

// Curve colours are those of Okabe and Ito, "Color Universal Design" (2008), which stay apart for
// colour-blind readers; the dark theme lightens them.
std::string_view page_style() {
  return R"css(
:root {
  --page: #f6f7f8; --card: #ffffff; --text: #1b2126; --muted: #5b6670; --rule: #e2e6e9; --axis: #aab3ba;
  --warn: #fff6e5; --warn-rule: #e0b050;
  --k1: #0072b2; --k2: #d55e00; --k3: #00845f; --k4: #a5447e; --k5: #b67a00; --k6: #7cc0e8; --k7: #7a5fb0; --k8: #b8433f; --k9: #a7b0b7;
}
@media screen and (prefers-color-scheme: dark) {
  :root:not([data-theme=light]) {
    --page: #121517; --card: #1a1e21; --text: #e5e9ec; --muted: #9aa5ad; --rule: #2b3135; --axis: #56616a;
    --warn: #2b2413; --warn-rule: #8a6d2a;
    --k1: #5aaee8; --k2: #f58549; --k3: #35c198; --k4: #dd8fbf; --k5: #e8b84a; --k6: #2c6f9f; --k7: #b49ae0; --k8: #ea8b86; --k9: #68737b;
    color-scheme: dark;
  }
}
@media screen {
  :root[data-theme=dark] {
    --page: #121517; --card: #1a1e21; --text: #e5e9ec; --muted: #9aa5ad; --rule: #2b3135; --axis: #56616a;
    --warn: #2b2413; --warn-rule: #8a6d2a;
    --k1: #5aaee8; --k2: #f58549; --k3: #35c198; --k4: #dd8fbf; --k5: #e8b84a; --k6: #2c6f9f; --k7: #b49ae0; --k8: #ea8b86; --k9: #68737b;
    color-scheme: dark;
  }
}
:root[data-theme=light] { color-scheme: light; }
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums; -webkit-text-size-adjust: 100%;
}
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 40px; }
header { position: relative; margin-bottom: 20px; }
.kind { margin: 0; color: var(--muted); font-size: 13px; }
h1 { margin: 0 80px 10px 0; font-size: 30px; line-height: 1.2; font-weight: 650; letter-spacing: -0.01em;
  overflow-wrap: anywhere; }
h2 { margin: 0; font-size: 16px; font-weight: 600; }
small { color: var(--muted); font-size: 13px; font-weight: 400; }
#theme { position: absolute; top: 0; right: 0; padding: 4px 12px; border: 1px solid var(--rule); border-radius: 14px;
  background: var(--card); color: var(--muted); font: inherit; font-size: 13px; cursor: pointer; }
#theme:hover { color: var(--text); border-color: var(--axis); }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: 2px 18px; margin: 0; font-size: 14px; }
.facts dt { color: var(--muted); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
.tiles { display: flex; flex-wrap: wrap; gap: 1px; margin-bottom: 16px; overflow: hidden;
  border: 1px solid var(--rule); border-radius: 8px; background: var(--rule); }
.tile { flex: 1 1 130px; padding: 12px 16px; background: var(--card); }
.tile span { display: block; }
.tile .name, .tile .detail { color: var(--muted); font-size: 12.5px; overflow-wrap: anywhere; }
.tile .value { font-size: 23px; font-weight: 600; line-height: 1.25; letter-spacing: -0.01em; }
.tile .progress { height: 3px; margin-top: 5px; border-radius: 2px; background: var(--rule); }
.progress i { display: block; height: 100%; border-radius: 2px; background: var(--k1); }
.warnings { margin-bottom: 16px; padding: 10px 16px; border: 1px solid var(--warn-rule); border-radius: 8px;
  background: var(--warn); font-size: 14px; }
.warnings ul { margin: 4px 0 0; padding-left: 20px; overflow-wrap: anywhere; }
.charts { display: grid; grid-template-columns: minmax(0, 1fr); gap: 16px; }
.chart, .card { position: relative; margin: 0; padding: 14px 18px 12px; border: 1px solid var(--rule);
  border-radius: 8px; background: var(--card); }
details.card { margin-top: 16px; }
.card h2 { margin-bottom: 8px; }
figcaption { margin-bottom: 6px; }
.legend { display: flex; flex-wrap: wrap; gap: 1px 16px; margin-top: 3px; color: var(--muted); font-size: 13px; }
.legend b, .derived b { display: inline-block; min-width: 2.6em; color: var(--text); font-weight: 600; }
.title { display: flex; justify-content: space-between; align-items: baseline; gap: 12px; }
.switch ~ figcaption .title { margin-right: 108px; }
.at { color: var(--muted); font-size: 13px; white-space: nowrap; }
.at b { color: var(--text); font-weight: 600; }
.derived { margin: 1px 0 0; color: var(--muted); font-size: 13px; }
.note { margin: 4px 0 0; color: var(--muted); font-size: 12.5px; }
.swatch { display: inline-block; width: 16px; height: 0; margin-right: 6px; vertical-align: middle;
  border-top: 2.5px solid var(--c); position: relative; top: -1px; }
.swatch.faint { opacity: 0.4; }
.swatch.area { width: 11px; height: 11px; border: 0; border-radius: 2px; background: var(--c); }
.swatch.marked::after { content: ""; position: absolute; left: 5px; top: -5px; width: 7px; height: 7px;
  border-radius: 50%; background: var(--c); }
.swatch.event { width: 0; height: 12px; margin-left: 6px; border: 0; border-left: 1.5px dashed var(--k2); }
.c1 { --c: var(--k1); } .c2 { --c: var(--k2); } .c3 { --c: var(--k3); } .c4 { --c: var(--k4); }
.c5 { --c: var(--k5); } .c6 { --c: var(--k6); } .c7 { --c: var(--k7); } .c8 { --c: var(--k8); } .c9 { --c: var(--k9); }
.frame { position: relative; display: grid; grid-template: 190px 24px / 44px minmax(0, 1fr); padding-top: 6px; }
.frame.tall { grid-template-rows: 300px 24px; }
.ys, .xs { position: relative; color: var(--muted); font-size: 12px; }
.ys span { position: absolute; right: 8px; transform: translateY(50%); white-space: nowrap; line-height: 1; }
.xs { grid-column: 2; }
.xs span { position: absolute; top: 7px; transform: translateX(-50%); white-space: nowrap; line-height: 1; }
.plot { position: relative; cursor: crosshair; touch-action: pan-y; }
.plot:focus { outline: none; }
.plot:focus-visible { outline: 2px solid var(--k1); outline-offset: 3px; }
.plot svg { display: block; width: 100%; height: 100%; overflow: visible; }
svg path { fill: none; vector-effect: non-scaling-stroke; }
path.grid { stroke: var(--rule); }
path.axis { stroke: var(--axis); }
path.line { stroke: var(--c); stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
path.faint { stroke: var(--c); stroke-width: 1; stroke-linejoin: round; opacity: 0.33; }
path.dots { stroke: var(--c); stroke-width: 7; stroke-linecap: round; }
path.halo { stroke: var(--card); stroke-width: 10; stroke-linecap: round; }
path.area { fill: var(--c); }
path.event { stroke: var(--k2); stroke-width: 1.2; stroke-dasharray: 3 3; }
path.many { stroke-dasharray: none; }
.cross { position: absolute; top: 0; bottom: 0; width: 0; border-left: 1px solid var(--muted); pointer-events: none; }
.dot { position: absolute; width: 9px; height: 9px; margin: 0 0 -4.5px -4.5px; border: 1.5px solid var(--card);
  border-radius: 50%; background: var(--c); pointer-events: none; }
.scale { position: absolute; top: 16px; right: 24px; width: 90px; height: 24px; margin: 0; opacity: 0; }
.switch { position: absolute; z-index: 1; top: 13px; right: 18px; display: flex; padding: 2px; border-radius: 14px;
  background: var(--page); border: 1px solid var(--rule); color: var(--muted); font-size: 12.5px; cursor: pointer;
  user-select: none; }
.switch span { padding: 1px 10px; border-radius: 12px; }
.scale:not(:checked) + .switch span:first-child, .scale:checked + .switch span:last-child {
  background: var(--card); color: var(--text); box-shadow: 0 0 0 1px var(--rule); }
.scale:focus-visible + .switch { outline: 2px solid var(--k1); outline-offset: 2px; }
.scale:checked ~ .linear, .scale:not(:checked) ~ .frame.log { display: none; }
.scale:checked ~ .note { visibility: hidden; }
.scroll { overflow-x: auto; margin-top: 8px; }
table { border-collapse: collapse; font-size: 13.5px; }
th, td { padding: 3px 18px 3px 0; text-align: right; white-space: nowrap; }
thead th { color: var(--muted); font-weight: 400; border-bottom: 1px solid var(--rule); }
tbody th { text-align: left; font-weight: 500; }
tbody .when { color: var(--muted); text-align: left; }
tfoot th, tfoot td { border-top: 1px solid var(--rule); text-align: right; font-weight: 600; }
tfoot th { text-align: left; }
.split { width: 100%; max-width: 520px; }
.split .bar { width: 45%; min-width: 90px; padding: 0; }
.split tbody .bar { background: linear-gradient(var(--rule), var(--rule)) 0 0 / 1px 100% no-repeat,
  linear-gradient(var(--rule), var(--rule)) 100% 0 / 1px 100% no-repeat; }
.split .bar i { display: block; height: 11px; background: var(--c); min-width: 1px; }
svg.heat { display: block; width: 100%; border: 1px solid var(--rule); border-radius: 3px; }
svg.heat path { fill: var(--k2); }
i.heat { --c: var(--k2); margin-left: 10px; }
.heat .l1, i.l1 { opacity: 0.2; } .heat .l2, i.l2 { opacity: 0.4; } .heat .l3, i.l3 { opacity: 0.6; }
.heat .l4, i.l4 { opacity: 0.8; }
summary { cursor: pointer; font-weight: 600; font-size: 16px; }
pre { overflow-x: auto; margin: 10px 0 0; font: 12.5px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
.empty { color: var(--muted); }
footer { margin-top: 20px; color: var(--muted); font-size: 12.5px; }
@media (min-width: 860px) {
  .charts { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); }
  .wide { grid-column: 1 / -1; }
  #time { display: grid; grid-template-columns: minmax(0, 1fr) 470px; column-gap: 24px; }
  #time figcaption, #time > .note { grid-column: 1 / -1; }
  #time .scroll { grid-row: 2; grid-column: 2; align-self: center; margin-bottom: 24px; }
}
@media (max-width: 560px) {
  main { padding: 16px 10px 28px; }
  h1 { font-size: 24px; }
  .chart, .card { padding: 12px 12px 8px; }
  .tile { flex-basis: 40%; padding: 9px 12px; }
  .tile .value { font-size: 19px; }
  .facts { grid-template-columns: minmax(0, 1fr); gap: 0; }
  .facts dd { margin-bottom: 5px; }
  .frame.tall { grid-template-rows: 230px 24px; }
  .xs .minor { display: none; }
  .switch { right: 10px; top: 10px; }
  th, td { padding-right: 12px; }
  thead th, tbody .when { white-space: normal; }
  tbody .when { min-width: 7.5em; }
  table { font-size: 13px; }
  .title small { display: block; }
}
@media print {
  body { background: none; font-size: 12px; }
  main { max-width: none; padding: 0; }
  .chart, .card, .tiles { break-inside: avoid; }
  details.card { break-inside: auto; }
  .charts { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); }
  .wide { grid-column: 1 / -1; }
  .frame.tall { grid-template-rows: 240px 24px; }
  #theme, .switch, .scale, footer { display: none; }
  .switch ~ figcaption .title { margin-right: 0; }
  pre { white-space: pre-wrap; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
)css";
}

}  // namespace forja
