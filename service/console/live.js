// How the service is, by its own metrics: what happened in the last half a minute, every two seconds.
import { useEffect, useState } from 'preact/hooks';
import { call } from './api.js';
import { Chart } from './chart.js';
import { html } from './html.js';
import { between, read } from './metrics.js';

const EVERY_S = 2;
const WINDOW_S = 30;
const KEPT = 150;

export function Live({ apiKey, adminPort }) {
  const [points, setPoints] = useState([]);
  const [fault, setFault] = useState(null);
  useEffect(() => {
    if (adminPort !== null) return undefined;
    const looks = [];
    const asked = new AbortController();
    let timer;
    const look = async () => {
      if (!document.hidden) {
        try {
          const now = read(await call('metrics', { key: apiKey, text: true, signal: asked.signal }), Date.now() / 1000);
          looks.push(now);
          while (looks[0].at < now.at - WINDOW_S - EVERY_S) looks.shift();
          if (looks.length > 1) {
            const point = { at: now.at, ...between(looks[0], now) };
            setPoints((before) => [...before, point].slice(-KEPT));
          }
          setFault(null);
        } catch (error) {
          if (error.name === 'AbortError') return;
          setFault(error);
        }
      }
      timer = setTimeout(look, 1000 * EVERY_S);
    };
    look();
    return () => {
      asked.abort();
      clearTimeout(timer);
    };
  }, [apiKey, adminPort]);
  return html`<section class="card" aria-labelledby="live">
    <h2 id="live">The service</h2>
    ${adminPort !== null ? html`<p>Its metrics are on the admin port, ${adminPort}, which this page does not ask.</p>`
      : html`<${Figures} points=${points} fault=${fault} />`}
  </section>`;
}

function Figures({ points, fault }) {
  const last = points.at(-1) ?? {};
  const told = (value, digits, unit = '') => (value === null || value === undefined ? 'n/a' : value.toFixed(digits) + unit);
  const rows = [
    ['Requests a second', told(last.rate, 1)],
    ['p50', told(last.p50, 1, ' ms')],
    ['p99', told(last.p99, 1, ' ms')],
    ['Entropy before', told(last.entropyBefore, 2, ' nats')],
    ['Entropy after', told(last.entropyAfter, 2, ' nats')],
    ['Fallbacks', told((last.fallbacks ?? null) === null ? null : 100 * last.fallbacks, 1, ' %')],
  ];
  const data = [
    points.map((point) => point.at),
    points.map((point) => point.rate),
    points.map((point) => point.p50),
    points.map((point) => point.p99),
  ];
  return html`
    ${fault && html`<p class="fault">Its metrics: ${fault.message}</p>`}
    <dl class="figures">${rows.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    <${Chart} label="Requests a second, p50 and p99 over time; the figures are above" height=${180} data=${data}
      shape="live" options=${liveChart} />
    <p class="note">Reranks of the last ${WINDOW_S} s, this page's own and everybody's.</p>`;
}

function liveChart(colour, axis) {
  const short = (_, values) => values.map((value) => (value === null ? '' : String(value)));
  return {
    legend: { live: false },
    scales: { rate: { range: (_, __, high) => [0, high || 1] }, y: { range: (_, __, high) => [0, high || 1] } },
    axes: [{ ...axis, incrs: [1, 2, 5, 10, 30, 60, 300] }, { ...axis, label: 'ms', labelSize: 20, size: 45, values: short }, { ...axis, scale: 'rate', side: 1, grid: { show: false }, label: 'requests a second', labelSize: 20, size: 45, values: short }],
    series: [
      {},
      { label: 'rate', scale: 'rate', stroke: colour('muted'), width: 1, dash: [4, 4] },
      { label: 'p50', stroke: colour('accent'), width: 2 },
      { label: 'p99', stroke: colour('down'), width: 2 },
    ],
  };
}
