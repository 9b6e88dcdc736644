// What can be set: the key, the list and its candidates, the user, and how the model reasons.
import { useId, useState } from 'preact/hooks';
import { html } from './html.js';

export const DEFAULTS = {
  threshold: null,
  budget: null,
  reasoningTemperature: null,
  lookahead: null,
  topN: null,
  deadlineMs: null,
  sampled: false,
  selectionTemperature: null,
  seed: 1,
};

const MOST_THRESHOLD = { normalised: 1, margin: 1, raw: 6 };

export function KeyForm({ wanted, onKey }) {
  const id = useId();
  const submit = (event) => {
    event.preventDefault();
    onKey(new FormData(event.target).get('key').trim());
  };
  return html`<form class="key card" onSubmit=${submit}>
    <label for=${id}>API key</label>
    <input id=${id} name="key" type="password" autocomplete="off" spellcheck="false" required />
    <button>Use it</button>
    <p>${wanted} It is kept in this tab until it is closed, and sent to this service only.</p>
  </form>`;
}

// A range with its value, and a way back to the model's default, which null stands for.
function Slider({ label, value, usual, min, max, step, show = String, onInput, disabled = false }) {
  const id = useId();
  const shown = value ?? usual;
  return html`<div class="slider">
    <label for=${id}>${label}</label>
    <output for=${id}>${show(shown)}</output>
    <input id=${id} type="range" min=${min} max=${max} step=${step} value=${shown} disabled=${disabled}
      aria-valuetext=${show(shown)} onInput=${(event) => onInput(Number(event.target.value))} />
    <button class="plain" type="button" disabled=${value === null} onClick=${() => onInput(null)}
      aria-label=${`${label}: back to the default`}>default</button>
  </div>`;
}

// Between two numbers as their logarithms: 0 to 100 on the slider.
function LogSlider({ value, usual, min, max, onInput, ...rest }) {
  const place = (number) => (100 * Math.log(number / min)) / Math.log(max / min);
  const number = (at) => Number((min * (max / min) ** (at / 100)).toPrecision(2));
  const show = (at) => rest.show(number(at));
  return html`<${Slider} ...${rest} show=${show} min="0" max="100" step="0.5"
    value=${value === null ? null : place(value)} usual=${place(usual)}
    onInput=${(at) => onInput(at === null ? null : number(at))} />`;
}

const milliseconds = (ms) => (ms >= 1000 ? `${ms / 1000} s` : `${ms} ms`);

export function Controls({ model, limits, controls, change }) {
  const set = (name) => (value) => change({ ...controls, [name]: value });
  const { defaults, gate } = model;
  const thinks = defaults.reasoning_budget > 0;
  const seedId = useId();
  return html`<fieldset class="card sliders">
    <legend>Reasoning</legend>
    <${Slider} label="Threshold" value=${controls.threshold} usual=${gate.threshold} min="0"
      max=${MOST_THRESHOLD[gate.kind]} step="0.01" show=${(x) => x.toFixed(4)} disabled=${!thinks}
      onInput=${set('threshold')} />
    <${Slider} label="Budget" value=${controls.budget} usual=${defaults.reasoning_budget} min="0"
      max=${limits.reasoning_tokens} step="1" show=${(n) => `${n} a position`} disabled=${!thinks}
      onInput=${set('budget')} />
    <${LogSlider} label="Reasoning temperature" value=${controls.reasoningTemperature} min=${0.1} max=${10}
      usual=${defaults.reasoning_temperature} show=${String} disabled=${!thinks}
      onInput=${set('reasoningTemperature')} />
    ${model.evaluator && html`<${Slider} label="Lookahead" value=${controls.lookahead} usual=${defaults.lookahead}
      min="0" max=${limits.lookahead} step="1" disabled=${controls.sampled} onInput=${set('lookahead')} />`}
    <${LogSlider} label="Deadline" value=${controls.deadlineMs} usual=${limits.default_deadline_ms} min=${0.1}
      max=${limits.deadline_ms} show=${milliseconds} onInput=${set('deadlineMs')} />
    <${Slider} label="List length" value=${controls.topN} usual=${defaults.slate_length} min="1" max="30" step="1"
      onInput=${set('topN')} />
    <div class="sampling">
      <label><input type="checkbox" checked=${controls.sampled}
        onChange=${(event) => change({ ...controls, sampled: event.target.checked, lookahead: null })} /> Sample</label>
      <label for=${seedId}>Seed</label>
      <input id=${seedId} type="number" min="0" step="1" value=${controls.seed} disabled=${!controls.sampled}
        onInput=${(event) => event.target.validity.valid && event.target.value !== ''
          && set('seed')(Number(event.target.value))} />
    </div>
    <${LogSlider} label="Selection temperature" value=${controls.selectionTemperature} min=${0.1} max=${10}
      usual=${defaults.selection_temperature} show=${String} disabled=${!controls.sampled}
      onInput=${set('selectionTemperature')} />
    <p><button type="button" onClick=${() => change(DEFAULTS)}>All defaults</button></p>
  </fieldset>`;
}

export const PASTED = 'pasted';

export function Candidates({ lists, source, chosen, choose, pasted, paste, fault }) {
  const [listId, textId, faultId] = [useId(), useId(), useId()];
  return html`<fieldset class="card">
    <legend>Candidates</legend>
    <label for=${listId}>${source === 'file' ? 'A list of the log' : 'A list'}</label>
    <select id=${listId} value=${chosen} onChange=${(event) => choose(event.target.value)}>
      ${lists.map((list, index) => html`<option value=${String(index)}>${list.name}</option>`)}
      <option value=${PASTED}>Paste one</option>
    </select>
    ${chosen === PASTED && html`
      <label for=${textId}>Request, JSON list of ids, or ids</label>
      <textarea id=${textId} rows="7" spellcheck="false" value=${pasted} aria-describedby=${fault ? faultId : null}
        aria-invalid=${Boolean(fault)} onInput=${(event) => paste(event.target.value)}></textarea>
      ${fault && html`<p class="fault" id=${faultId}>${fault}</p>`}`}
  </fieldset>`;
}

const WHO = [
  ['nobody', 'Nobody'],
  ['known', 'A known user'],
  ['history', 'This history'],
];

// `user`: {who, id, history}, the history oldest first.
export function User({ user, change, known, types, title, items, forget }) {
  const [idId, addId, choicesId, itemsId] = [useId(), useId(), useId(), useId()];
  const [added, setAdded] = useState('');
  const add = (event) => {
    event.preventDefault();
    if (added.trim()) change({ ...user, history: [...user.history, { item_id: added.trim(), type: types[0] }] });
    setAdded('');
  };
  const without = (index) => change({ ...user, history: user.history.filter((_, other) => other !== index) });
  return html`<fieldset class="card">
    <legend>User</legend>
    <div class="choice">
      ${WHO.map(([who, text]) => html`<label><input type="radio" name="who" value=${who}
        checked=${user.who === who} onChange=${() => change({ ...user, who })} /> ${text}</label>`)}
    </div>
    ${user.who === 'known' && html`
      <label for=${idId}>User id</label>
      <input id=${idId} list=${choicesId} value=${user.id} autocomplete="off" spellcheck="false"
        onInput=${(event) => change({ ...user, id: event.target.value })} />
      <datalist id=${choicesId}>${known.map((id) => html`<option value=${id} />`)}</datalist>`}
    ${user.who === 'history' && html`
      <ol class="history" aria-label="Liked, the oldest first">
        ${user.history.map((event, index) => types.includes(event.type) && html`<li>
          <span>${title(event.item_id)}</span>
          <button class="plain" type="button" onClick=${() => without(index)}
            aria-label=${`Take ${title(event.item_id)} out of the history`}>×</button>
        </li>`)}
      </ol>
      <p class="note">${told(user.history, types)}</p>
      <form class="add" onSubmit=${add}>
        <label for=${addId}>Liked item</label>
        <input id=${addId} list=${itemsId} value=${added} autocomplete="off" spellcheck="false"
          onInput=${(event) => setAdded(event.target.value)} />
        <datalist id=${itemsId}>${items.slice(0, 200).map((id) => html`<option value=${id}>${title(id)}</option>`)}</datalist>
        <button>Add</button>
      </form>
      <p><button type="button" disabled=${!user.history.length} onClick=${forget}>Forget it all</button></p>`}
  </fieldset>`;
}

function told(history, types) {
  const liked = history.filter((event) => types.includes(event.type)).length;
  const others = history.length - liked ? `; ${history.length - liked} more were seen` : '';
  return history.length ? `${liked} liked${others}.` : 'Nothing yet: add an item, or like one in the list.';
}
