// How the model came to its list: by position the entropies and tokens, and token by token the leading candidates.
import { useEffect, useId, useMemo, useState } from 'preact/hooks';
import uPlot from 'uplot';
import { Chart } from './chart.js';
import { html } from './html.js';

const STOPPED = {
  entropy: 'At every position it ended at or below the threshold.',
  budget: 'At some position it spent its whole budget and was still above the threshold.',
  deadline: 'There was no time for more.',
};
const LEVELS = 7;

export function Trace({ reasoning, threshold, gate, budget, title, idAt }) {
  const [chosen, choose] = useState(0);
  const { trace } = reasoning;
  const position = trace[Math.min(chosen, trace.length - 1)];
  const data = useMemo(() => [
    trace.map((at) => at.position + 1),
    trace.map((at) => at.reasoning_tokens),
    trace.map((at) => at.entropy_before),
    trace.map((at) => at.entropy_after),
  ], [trace]);
  const stops = (at) => {
    if (at.uncertainty <= threshold || !budget) return at.reasoning_tokens ? 'below the threshold now' : 'below the threshold';
    return at.reasoning_tokens < budget ? 'out of time' : 'budget spent';
  };
  const judged = reasoning.judged ? ` Lookahead compared ${reasoning.judged} other lists.` : '';
  return html`<section class="card" aria-labelledby="why">
    <h2 id="why">Why this list</h2>
    <p>${reasoning.tokens} reasoning tokens. ${STOPPED[reasoning.stop]}${judged}</p>
    <${Chart} label="Entropy before and after reasoning, and reasoning tokens, by position; the table has the figures"
      height=${200} data=${data} shape="trace" options=${entropyChart} />
    <div class="wide" role="region" aria-label="Positions" tabindex="0"><table>
      <caption>By position. Uncertainty is ${gate.kind}; above ${fine(threshold)} the model reasons.</caption>
      <thead><tr><th scope="col">Position</th><th scope="col">Item</th><th scope="col">Tokens</th>
        <th scope="col">Entropy, nats</th><th scope="col">Uncertainty</th><th scope="col">Stopped</th></tr></thead>
      <tbody>${trace.map((at) => html`<tr key=${at.position} class=${at === position ? 'chosen' : ''}>
        <td><button type="button" aria-pressed=${at === position} onClick=${() => choose(at.position)}>${at.position + 1}</button></td>
        <th scope="row" class="item">${title(at.id)}</th><td>${at.reasoning_tokens}</td>
        <td>${nats(at.entropy_before)}${at.reasoning_tokens > 0 && ` → ${nats(at.entropy_after)}`}</td>
        <td>${fine(at.uncertainty)}</td><td>${stops(at)}</td></tr>`)}</tbody>
    </table></div>
    ${position?.steps && html`<${Steps} position=${position} title=${title} idAt=${idAt} />`}
  </section>`;
}

const nats = (entropy) => entropy.toFixed(2);

// Uncertainties are compared with the threshold, and may differ from it in the third figure.
const fine = (uncertainty) => uncertainty.toFixed(4);

function entropyChart(colour, axis) {
  const whole = (_, values) => values.map((value) => (Number.isInteger(value) ? String(value) : ''));
  const bars = uPlot.paths.bars({ size: [0.5, 24] });
  return {
    legend: { live: false },
    scales: { x: { time: false, range: (_, low, high) => [low - 0.5, high + 0.5] }, tokens: { range: (_, __, high) => [0, Math.max(3, high * 3)] } },
    axes: [{ ...axis, values: whole }, { ...axis, label: 'nats', labelSize: 20, size: 40 }, { ...axis, scale: 'tokens', side: 1, values: whole, grid: { show: false }, label: 'tokens', labelSize: 20, size: 40 }],
    series: [
      { label: 'position' },
      { label: 'tokens', scale: 'tokens', paths: bars, fill: colour('bar'), points: { show: false } },
      { label: 'before', stroke: colour('muted'), width: 2, dash: [4, 4] },
      { label: 'after', stroke: colour('accent'), width: 2 },
    ],
  };
}

// The heatmap: a column before each token, a row for each candidate that ever led.
function Steps({ position, title, idAt }) {
  const { steps } = position;
  const [step, setStep] = useState(steps.length - 1);
  const sliderId = useId();
  useEffect(() => setStep(steps.length - 1), [position]);
  const at = Math.min(step, steps.length - 1);
  const shares = steps.map((one) => new Map(one.candidates.map((index, i) => [index, one.probabilities[i]])));
  const share = (index, of) => shares[of].get(index);
  const rows = [...new Set(steps.flatMap((one) => one.candidates))];
  rows.sort((a, b) => (share(b, at) ?? 0) - (share(a, at) ?? 0));
  const name = (of) => (of === 0 ? 'before' : `token ${of}`);
  const here = steps[at];
  return html`<div class="steps">
    <h3>Position ${position.position + 1}, ${at ? `after token ${at}` : 'before any token'}: ${nats(here.entropy)} nats,
      uncertainty ${fine(here.uncertainty)}</h3>
    ${steps.length > 1 && html`<p class="stepper"><label for=${sliderId}>Step through the tokens</label>
      <input id=${sliderId} type="range" min="0" max=${steps.length - 1} step="1" value=${at} aria-valuetext=${name(at)}
        onInput=${(event) => setStep(Number(event.target.value))} /></p>`}
    <div class="wide" role="region" aria-label="Leading candidates" tabindex="0"><table class="heat">
      <caption>Probability of the leading candidates, in percent; · is below all that lead. The one chosen is bold.</caption>
      <thead><tr><th scope="col">Item</th>${steps.map((_, of) => html`<th scope="col" class=${of === at ? 'now' : ''}>${name(of)}</th>`)}</tr></thead>
      <tbody>${rows.map((index) => html`<tr key=${index} class=${idAt(index) === position.id ? 'picked' : ''}>
        <th scope="row" class="item">${title(idAt(index))}</th>
        ${steps.map((_, of) => html`<td class=${`level${level(share(index, of))} ${of === at ? 'now' : ''}`}>${percent(share(index, of))}</td>`)}
      </tr>`)}</tbody>
    </table></div>
  </div>`;
}

const percent = (share) => (share === undefined ? '·' : (100 * share).toFixed(share < 0.0995 ? 1 : 0));

// Square roots, so that small probabilities differ, too.
const level = (share) => (share === undefined ? 0 : Math.min(LEVELS - 1, Math.floor(Math.sqrt(share) * LEVELS)));
