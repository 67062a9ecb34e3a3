// Draws the plots, says whether the page is live, and helps the forms. Everything else is HTML from the broker.
'use strict';

const plots = new Map(); // element -> uPlot

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function short(n) {
  for (const [size, unit] of [[1e9, ' G'], [1e6, ' M'], [1e3, ' k']]) {
    if (n >= size) return +(n / size).toFixed(1) + unit;
  }
  return String(+n.toFixed(1));
}

const lines = {
  rates: [['in', 'In', '--first'], ['out', 'Out', '--second']],
  out: [['out', 'Out', '--second']],
  backlog: [['backlog', 'Backlog', '--first']],
  latency: [['acked', 'Answer', '--first'], ['sent', 'Sent', '--second']],
};

// clock writes Unix seconds in UTC, as every time on the page.
function clock(seconds) {
  return seconds == null ? '–' : new Date(seconds * 1000).toISOString().slice(11, 19);
}

function newPlot(element, kind) {
  const axis = { stroke: colour('--soft'), grid: { stroke: colour('--line'), width: 1 }, ticks: { show: false } };
  const series = lines[kind].map(([, label, name]) => ({
    label, stroke: colour(name), width: 1.5, points: { show: false }, value: (_, v) => (v == null ? '–' : short(v)),
  }));
  return new uPlot({
    width: element.clientWidth, height: element.clientHeight - 30,
    series: [{ label: 'UTC', value: (_, t) => clock(t) }, ...series],
    axes: [{ ...axis, space: 80, size: 26, values: (_, all) => all.map(clock) }, { ...axis, size: 56, values: (_, all) => all.map(short) }],
    scales: { y: { range: (_, low, high) => [0, Math.max(1, high * 1.1)] } },
    cursor: { drag: { x: false, y: false } },
  }, null, element);
}

let newest = null;

function draw(data) {
  newest = data;
  for (const element of plots.keys()) if (!element.isConnected) plots.delete(element);
  for (const element of document.querySelectorAll('.plot')) {
    const kind = element.dataset.plot;
    if (!plots.has(element)) plots.set(element, newPlot(element, kind));
    plots.get(element).setData([data.times, ...lines[kind].map(([key]) => data[key])]);
    element.title = data.missing ? 'More topics and groups were busy than are remembered, and this is one of those.' : '';
  }
}

function redraw() {
  for (const plot of plots.values()) plot.destroy();
  plots.clear();
  if (newest) draw(newest);
}

document.addEventListener('plots', (event) => draw(JSON.parse(event.detail.data)));
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
addEventListener('resize', redraw);

function live(yes) {
  const pill = document.getElementById('liveness');
  if (!pill) return;
  pill.textContent = yes ? 'live' : 'not live';
  pill.className = yes ? 'pill ok' : 'pill dim';
}

document.addEventListener('htmx:sse:after:message', () => live(true));
document.addEventListener('htmx:sse:error', () => live(false));
document.addEventListener('htmx:sse:close', () => live(false));

// The operator's name is asked for once a browser.
function recall(root) {
  for (const input of root.querySelectorAll('[data-remember]')) {
    if (!input.value) input.value = localStorage.getItem(input.dataset.remember) || '';
  }
}

document.addEventListener('change', (event) => {
  const { remember } = event.target.dataset;
  if (remember) localStorage.setItem(remember, event.target.value);
  if (event.target.matches('[data-submit]')) event.target.form.requestSubmit();
});

document.addEventListener('click', (event) => {
  const button = event.target.closest('[data-confirm]');
  if (button && !confirm(button.dataset.confirm)) event.preventDefault();
});

recall(document);
