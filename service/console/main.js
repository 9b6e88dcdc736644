// The console: what is asked, what came of it, and why. State is here; parts that show it are in files of their own.
import { render } from 'preact';
import { useCallback, useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { call } from './api.js';
import { parseCandidates } from './candidates.js';
import { Candidates, Controls, DEFAULTS, KeyForm, PASTED, User } from './controls.js';
import { html } from './html.js';
import { Live } from './live.js';
import { curl, rerankBody, withoutReasoning } from './request.js';
import { Slates } from './slates.js';
import { Trace } from './trace.js';

const DEBOUNCE_MS = 150;
const KEY = 'eglr.console.key';

// Of this tab alone: whose history is written here.
const OWN_USER = `console-${Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, '0')).join('')}`;
const OWN_CONTEXT = `v1/users/${OWN_USER}/context`;

function stored() {
  try { return sessionStorage.getItem(KEY) ?? ''; } catch { return ''; }
}

function store(key) {
  try { sessionStorage.setItem(KEY, key); } catch { /* then it is in memory only */ }
}

// What the service says of itself, before anything can be asked.
function Console() {
  const [key, setKey] = useState(stored);
  const [known, setKnown] = useState(null);
  const [fault, setFault] = useState(null);
  const [tries, setTries] = useState(0);
  useEffect(() => {
    const asked = new AbortController();
    const { signal } = asked;
    Promise.all([call('console/setup', { key, signal }), call('v1/models', { key, signal })]).then(
      ([setup, { models }]) => { setKnown({ setup, models }); setFault(null); },
      (error) => { if (!signal.aborted) { setKnown(null); setFault({ status: error.status, message: error.message, key }); } },
    );
    return () => asked.abort();
  }, [key, tries]);
  const useKey = useCallback((given) => { store(given); setKey(given); setTries((n) => n + 1); }, []);
  const tryAgain = () => { setFault(null); setTries((n) => n + 1); };
  const locked = fault && [401, 403].includes(fault.status); // until the next answer: what is typed stays
  return html`
    <header class="top"><h1>Console</h1><p>What this service makes of a list, and why.</p></header>
    <main>
      ${locked && html`<${KeyForm} onKey=${useKey} wanted=${fault.key ? sentence(fault.message) : 'This service asks for one.'} />`}
      ${fault && !locked && html`<div class="card" role="alert"><p class="fault">${sentence(fault.message)}</p>
        <button type="button" onClick=${tryAgain}>Try again</button></div>`}
      ${known && known.models.length > 0 && html`<${Workbench} ...${known} apiKey=${key} forgetKey=${() => useKey('')} />`}
    </main>`;
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}${text.endsWith('.') ? '' : '.'}`;

function Workbench({ setup, models, apiKey, forgetKey }) {
  const [which, setWhich] = useState(0);
  const model = models[Math.min(which, models.length - 1)];
  const [chosen, setChosen] = useState(setup.lists.length ? '0' : PASTED);
  const [pasted, setPasted] = useState('');
  const [controls, setControls] = useState(DEFAULTS);
  const [compared, setCompared] = useState(() => matchMedia('(min-width: 700px)').matches);
  const list = chosen === PASTED ? null : setup.lists[Number(chosen)];
  const [user, setUser] = useState(() => userOf(list));
  const [liked, setLiked] = useState('');
  const [liking, setLiking] = useState(false);

  const parsed = useMemo(() => (list ? { request: list.request } : parseCandidates(pasted)), [list, pasted]);
  const title = useCallback((id) => list?.titles?.[id] ?? id, [list]);
  const likedInLog = useMemo(() => new Set(list?.liked ?? []), [list]);

  const choose = (value) => {
    setChosen(value);
    setUser(userOf(value === PASTED ? null : setup.lists[Number(value)]));
    setLiked('');
  };
  const paste = (text) => {
    setPasted(text);
    const id = parseCandidates(text).request?.user_id;
    if (typeof id === 'string') setUser((before) => ({ ...before, who: 'known', id }));
  };

  const userId = { nobody: null, known: user.id || null, history: OWN_USER }[user.who];
  const body = useMemo(() => parsed.request && rerankBody(parsed.request, {
    model: model.name, version: model.version, user: userId, controls, limits: setup.limits,
  }), [parsed, model, userId, controls, setup]);
  const history = user.who === 'history' ? JSON.stringify({ profile: user.profile, history: user.history }) : null;
  const { answer, fault, busy, again, written } = useRerank(body, compared, history, apiKey);

  const like = async (id) => {
    const event = { item_id: id, type: model.event_types[0] };
    if (user.who === 'nobody') {
      setUser({ ...user, who: 'history', history: [...user.history, event] });
      setLiked(`${title(id)} is liked, by a history that begins with it.`);
      return;
    }
    setLiking(true);
    try {
      const told = await feedback(answer.reranked, userId, event, apiKey);
      setLiked(told ? `${title(id)} does not count: ${told}.` : `${title(id)} is liked; this is the next list.`);
      if (user.who === 'history' && !told) {
        const grown = { ...user, history: [...user.history, event] };
        written.current = JSON.stringify({ profile: grown.profile, history: grown.history });
        setUser(grown);
      } else again();
    } catch (error) {
      setLiked(`That could not be told: ${error.message}.`);
    } finally {
      setLiking(false);
    }
  };
  const forget = () => setUser({ ...user, profile: {}, history: [] });

  useEffect(() => {
    const leave = () => { if (written.current !== null) call(OWN_CONTEXT, { method: 'DELETE', key: apiKey, keepalive: true }).catch(() => {}); };
    addEventListener('pagehide', leave);
    return () => removeEventListener('pagehide', leave);
  }, [apiKey]);

  const users = [...new Set([...setup.lists.map((one) => one.request.user_id), parsed.request?.user_id].filter(Boolean))];
  return html`<div class="bench">
    <div class="side">
      <section class="card"><label for="model">Model</label>
        <select id="model" value=${String(which)} onChange=${(event) => setWhich(Number(event.target.value))}>
          ${models.map((one, index) => html`<option value=${String(index)}>${one.name} ${one.version}</option>`)}
        </select>
        ${apiKey && html`<p><button type="button" onClick=${forgetKey}>Forget the API key</button></p>`}
      </section>
      <${Candidates} lists=${setup.lists} source=${setup.source} chosen=${chosen} choose=${choose} pasted=${pasted}
        paste=${paste} fault=${parsed.fault} />
      <${User} user=${user} change=${setUser} known=${users} types=${model.event_types} title=${title}
        items=${parsed.request?.items.map((item) => item.id) ?? []} forget=${forget} />
      <${Controls} model=${model} limits=${setup.limits} controls=${controls} change=${setControls} />
    </div>
    <div class="answers">
      <section class="card" aria-labelledby="lists" aria-busy=${busy}>
        <div class="title"><h2 id="lists">Before and after</h2>
          <label><input type="checkbox" checked=${compared} onChange=${(event) => setCompared(event.target.checked)} />
            Beside it, without reasoning</label></div>
        <p class="status" role="status">${busy ? html`<span class="waiting">Asking …</span>` : liked}</p>
        ${fault && html`<${Fault} error=${fault} />`}
        ${answer && html`<${Answer} answer=${answer} title=${title} liked=${likedInLog} liking=${liking || busy}
          like=${model.event_types.length ? like : null} />`}
      </section>
      ${answer?.reranked.reasoning && html`<${Trace} reasoning=${answer.reranked.reasoning} title=${title}
        gate=${model.gate} ...${gateOf(answer.asked, model)} idAt=${(index) => answer.asked.items[index].id} />`}
      <${Live} apiKey=${apiKey} adminPort=${setup.admin_port} />
      ${body && html`<${Command} body=${body} keyed=${Boolean(apiKey)} />`}
    </div>
  </div>`;
}

function userOf(list) {
  const user = { who: 'nobody', id: list?.request.user_id ?? '', profile: {}, history: [] };
  return list?.user ? { ...user, who: 'history', profile: list.user.profile ?? {}, history: list.user.history ?? [] } : user;
}

function gateOf(asked, model) {
  const { entropy_threshold: threshold, max_tokens: budget } = asked.reasoning ?? {};
  const most = model.defaults.reasoning_budget;
  return { threshold: threshold ?? model.gate.threshold, budget: most && (budget ?? most) };
}

// Asks a little after the last change; what is asked later wins. `history`: of the page's own user, as JSON, or null.
function useRerank(body, compared, history, key) {
  const [state, setState] = useState({ answer: null, fault: null, busy: false });
  const [asks, setAsks] = useState(0);
  const written = useRef(null);
  useEffect(() => {
    if (!body) {
      setState({ answer: null, fault: null, busy: false });
      return undefined;
    }
    const asked = new AbortController();
    const post = (json) => call('v1/rerank', { method: 'POST', json, key, signal: asked.signal });
    const ask = async () => {
      setState((before) => ({ ...before, busy: true }));
      try {
        if (history !== null && history !== written.current) {
          await call(OWN_CONTEXT, { method: 'PUT', json: JSON.parse(history), key, signal: asked.signal });
          written.current = history;
        }
        const [reranked, plain] = await Promise.all([post(body), compared ? post(withoutReasoning(body)) : null]);
        setState({ answer: { asked: body, reranked, plain }, fault: null, busy: false });
      } catch (error) {
        if (!asked.signal.aborted) setState((before) => ({ ...before, fault: error, busy: false }));
      }
    };
    const timer = setTimeout(ask, DEBOUNCE_MS);
    return () => {
      clearTimeout(timer);
      asked.abort();
    };
  }, [JSON.stringify(body), compared, history, key, asks]);
  return { ...state, again: () => setAsks((n) => n + 1), written };
}

// Why the event counts for nothing; null where it does.
async function feedback(reranked, userId, event, key) {
  const events = [event];
  const id = reranked.recommendation_id;
  if (id === null) {
    const told = await call(`v1/users/${encodeURIComponent(userId)}/events`, { method: 'POST', json: { events }, key });
    return told.ignored[0]?.reason ?? null;
  }
  const told = await call('v1/feedback', { method: 'POST', json: { recommendation_id: id, events }, key });
  return told.ignored_events[0]?.reason ?? null;
}

function Fault({ error }) {
  const wait = error.retryAfter ? ` Again in ${error.retryAfter} s.` : '';
  return html`<div class="fault" role="alert"><p>${sentence(error.message)}${wait}</p>
    ${error.fields.length > 0 && html`<ul>${error.fields.map((fault) => html`<li><code>${fault.field}</code>: ${fault.message}</li>`)}</ul>`}
  </div>`;
}

const FELL_BACK = {
  deadline: 'the deadline passed',
  overload: 'the service is overloaded',
  model: 'the model failed',
  unknown: 'the model knows none of the items',
};

function Answer({ answer, title, liked, like, liking }) {
  const { asked, reranked, plain } = answer;
  const note = ({ reasoning, took_ms, fallback }) => (fallback ? `As sent: ${FELL_BACK[fallback]}`
    : `${reasoning?.tokens ?? 0} tokens · ${took_ms.toFixed(1)} ms`);
  const rows = asked.items.map((item, index) => ({ id: item.id, index }));
  const columns = [
    { name: 'As sent', note: `${rows.length} items`, rows },
    plain && { name: 'Without reasoning', note: note(plain), rows: plain.results },
    { name: plain ? 'With reasoning' : 'Re-ranked', note: note(reranked), rows: reranked.results, likes: true },
  ].filter(Boolean);
  const notes = [
    reranked.context === 'unavailable' && 'The context store did not answer: this is the list of an anonymous user.',
    reranked.context === 'miss' && 'Nothing is known of this user yet.',
    reranked.missing_ids.length > 0 && html`Not in the catalogue: ${some(reranked.missing_ids)}.`,
    reranked.ignored.length > 0 && html`Not used: ${some(reranked.ignored.map((one) => one.field))}.`,
    reranked.shortened_by && html`Shortened by ${some(reranked.shortened_by)}.`,
  ].filter(Boolean);
  return html`<${Slates} columns=${columns} title=${title} liked=${liked} like=${like} liking=${liking} />
    ${notes.map((text) => html`<p class="note">${text}</p>`)}`;
}

// Each by itself, whichever way it is written.
const some = (texts) => html`${texts.slice(0, 5).map((text, at) => html`${at ? ', ' : ''}<bdi>${text}</bdi>`)}${
  texts.length > 5 ? ` and ${texts.length - 5} more` : ''}`;

function Command({ body, keyed }) {
  const [told, setTold] = useState('');
  const text = curl(new URL('v1/rerank', document.baseURI).href, body, keyed);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setTold('Copied.');
    } catch {
      getSelection().selectAllChildren(document.getElementById('command'));
      setTold('Selected: copy it with the keyboard.');
    }
  };
  useEffect(() => setTold(''), [text]);
  return html`<section class="card" aria-labelledby="same"><div class="title"><h2 id="same">The same from a shell</h2>
    <button type="button" onClick=${copy}>Copy as curl</button></div>
    <p class="status" role="status">${told}</p>
    <pre id="command" tabindex="0">${text}</pre></section>`;
}

render(html`<${Console} />`, document.getElementById('console'));
