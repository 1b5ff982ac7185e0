// SPDX-License-Identifier: Apache-2.0
#include "csrc/report/page.h"

namespace forja {

std::string_view page_script() {
  return R"js('use strict';
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const [low, high] = data.range;

  // The same rules as format_value in numbers.cc.
  function exponent(v) { return v.toExponential(3).replace('e+', 'e'); }
  function format(v) {
    if (v === null || Number.isNaN(v)) return '\u2013';
    if (!Number.isFinite(v)) return v > 0 ? 'inf' : '-inf';
    const size = Math.abs(v);
    if (size === 0) return '0';
    if (size < 1e-3) return exponent(v);
    if (size < 999.95) {
      const decimals = Math.min(6, Math.max(1, 3 - Math.floor(Math.log10(size))));
      return v.toFixed(decimals);
    }
    if (size < 999999.5) return integer(v);
    for (const [scale, suffix] of [[1e12, 'T'], [1e9, 'B'], [1e6, 'M']]) {
      if (size < scale) continue;
      if (size / scale >= 1e6) break;
      return (v / scale).toFixed(Math.max(0, 3 - Math.floor(Math.log10(size / scale)))) + suffix;
    }
    return exponent(v);
  }
  function integer(v) { return String(Math.round(v)).replace(/\B(?=(\d{3})+$)/g, ','); }

  // The index of the point of a rising list that is nearest to x.
  function nearest(xs, x) {
    let a = 0, b = xs.length - 1;
    while (b - a > 1) {
      const middle = (a + b) >> 1;
      if (xs[middle] <= x) a = middle; else b = middle;
    }
    return x - xs[a] <= xs[b] - x ? a : b;
  }

  class Chart {
    constructor(figure, spec) {
      this.spec = spec;
      this.values = [...figure.querySelectorAll('[data-series]')];
      this.step = figure.querySelector('[data-step]');
      this.bits = figure.querySelector('[data-bits]');
      this.perplexity = figure.querySelector('[data-perplexity]');
      this.texts = [...this.values, this.step, this.bits, this.perplexity].filter(Boolean);
      this.first = this.texts.map((text) => text.textContent);
      this.frames = [...figure.querySelectorAll('.frame')].map((frame) => this.prepare(frame));
    }

    prepare(frame) {
      const plot = frame.querySelector('.plot');
      const add = (name) => {
        const element = document.createElement('div');
        element.className = name;
        element.hidden = true;
        return plot.appendChild(element);
      };
      const cross = add('cross');
      const dots = this.spec.series.map((s) => this.spec.stacked || s.faint ? null : add('dot c' + s.color));
      const at = (event) => {
        const box = plot.getBoundingClientRect();
        show(low + (high - low) * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
      };
      plot.addEventListener('pointermove', at);
      plot.addEventListener('pointerdown', at);
      plot.addEventListener('pointerleave', (event) => { if (event.pointerType === 'mouse') hide(); });
      plot.addEventListener('blur', hide);
      plot.addEventListener('keydown', (event) => {
        const direction = {ArrowLeft: -1, ArrowRight: 1}[event.key];
        if (event.key === 'Escape') hide();
        if (!direction) return;
        event.preventDefault();
        const xs = this.guide().x;
        const from = current === null ? xs.length - 1 : nearest(xs, current);
        show(xs[Math.min(xs.length - 1, Math.max(0, from + direction))]);
      });
      const {low: bottom, high: top, log} = frame.dataset;
      return {cross, dots, bottom: +bottom, top: +top, log: log === '1'};
    }

    // The curve whose points the crosshair snaps to.
    guide() { return this.spec.series[this.spec.loss || 0]; }

    show(x) {
      const guide = this.guide();
      const step = guide.x[nearest(guide.x, x)];
      this.step.textContent = integer(step);
      const points = this.spec.series.map((s) => {
        const i = nearest(s.x, x);
        return {x: s.x[i], y: s.y[i]};
      });
      points.forEach((point, i) => { this.values[i].textContent = format(point.y); });
      if (this.bits) {
        const loss = points[this.spec.loss].y;
        this.bits.textContent = format(loss / Math.LN2);
        this.perplexity.textContent = format(Math.exp(loss));
      }
      for (const frame of this.frames) this.move(frame, step, points);
    }

    move(frame, step, points) {
      const place = (v) => 100 * Math.min(1, Math.max(0, (v - low) / (high - low))) + '%';
      frame.cross.hidden = false;
      frame.cross.style.left = place(step);
      const scale = frame.log ? (v) => Math.log(Math.max(v, frame.bottom)) : (v) => v;
      points.forEach((point, i) => {
        const dot = frame.dots[i];
        if (!dot) return;
        const up = (scale(point.y) - scale(frame.bottom)) / (scale(frame.top) - scale(frame.bottom));
        dot.hidden = false;
        dot.style.left = place(point.x);
        dot.style.bottom = 100 * Math.min(1, Math.max(0, up)) + '%';
      });
    }

    hide() {
      this.texts.forEach((text, i) => { text.textContent = this.first[i]; });
      for (const frame of this.frames) {
        frame.cross.hidden = true;
        frame.dots.forEach((dot) => { if (dot) dot.hidden = true; });
      }
    }
  }

  let current = null, charts = [];
  function show(x) { current = x; for (const chart of charts) chart.show(x); }
  function hide() { current = null; for (const chart of charts) chart.hide(); }
  charts = Object.entries(data.charts).map(([id, spec]) => new Chart(document.getElementById(id), spec));

  const root = document.documentElement, button = document.getElementById('theme');
  const isDark = () => root.dataset.theme
    ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  const label = () => { button.textContent = isDark() ? 'light' : 'dark'; };
  button.addEventListener('click', () => { root.dataset.theme = isDark() ? 'light' : 'dark'; label(); });
  button.setAttribute('aria-label', 'switch between light and dark');
  button.hidden = false;
  label();
  addEventListener('beforeprint', () => {
    for (const details of document.querySelectorAll('details')) details.open = true;
  });
})();
)js";
}

}  // namespace forja
