// Lists side by side, and lines from where an item stood to where it stands.
import { html } from './html.js';

const ROW = 38;
const SHOWN = 100;

// `columns`: {name, note, rows: [{index, ...}]}. `index` is an item's place in the request.
export function Slates({ columns, title, liked, like, liking }) {
  const shown = columns.map((column) => column.rows.slice(0, SHOWN));
  const height = ROW * Math.max(...shown.map((rows) => rows.length));
  const parts = columns.flatMap((column, at) => [
    at > 0 && html`<${Lines} from=${shown[at - 1]} to=${shown[at]} height=${height} />`,
    html`<section class="slate" aria-label=${column.name}>
      <ol>${shown[at].map((row, place) => html`<${Row} key=${row.index} row=${row} place=${place} title=${title}
        first=${at === 0} liked=${liked} like=${column.likes ? like : null} liking=${liking} />`)}</ol>
      ${column.rows.length > SHOWN && html`<p class="rest">and ${column.rows.length - SHOWN} more</p>`}
    </section>`,
  ]);
  return html`
    <div class="heads" style=${{ gridTemplateColumns: grid(columns.length) }}>
      ${columns.flatMap((column, at) => [
        at > 0 && html`<span></span>`,
        html`<header><h3>${column.name}</h3><p>${column.note}</p></header>`,
      ])}
    </div>
    <div class="slates" role="region" aria-label="The lists" tabindex="0"
      style=${{ gridTemplateColumns: grid(columns.length) }}>${parts}</div>`;
}

const grid = (count) => Array(count).fill('minmax(0, 1fr)').join(' var(--gap) ');

function Row({ row, place, title, first, liked, like, liking }) {
  const moved = row.index - place;
  const name = title(row.id);
  const told = moved > 0 ? `up ${moved}` : moved < 0 ? `down ${-moved}` : 'not moved';
  return html`<li class=${first || !moved ? 'row' : moved > 0 ? 'row up' : 'row down'} title=${`${name} (${row.id})`}>
    <span class="place">${place + 1}</span>
    <span class="name">${name}${liked.has(row.id) && html`<span class="liked" title="liked in the log"> ★</span>`}</span>
    ${!first && html`<span class="moved"><span aria-hidden="true">${moved > 0 ? `▲${moved}` : moved < 0 ? `▼${-moved}` : '='}</span>
      <span class="hidden">${told}</span></span>`}
    ${like && html`<button class="plain like" type="button" disabled=${liking} aria-label=${`Like ${name}`}
      onClick=${() => like(row.id)}>♥</button>`}
  </li>`;
}

function Lines({ from, to, height }) {
  const places = new Map(from.map((row, place) => [row.index, place]));
  const middle = (place) => ROW * (place + 0.5);
  const lines = to.flatMap((row, place) => {
    const before = places.get(row.index);
    if (before === undefined) return [];
    const kind = before === place ? 'same' : before > place ? 'up' : 'down';
    const path = `M0 ${middle(before)} C50 ${middle(before)} 50 ${middle(place)} 100 ${middle(place)}`;
    return [html`<path key=${row.index} class=${kind} d=${path} />`];
  });
  return html`<svg class="lines" viewBox=${`0 0 100 ${height}`} height=${height} preserveAspectRatio="none"
    aria-hidden="true">${lines}</svg>`;
}
