// The service's own metrics: from the exposition format to what happened between two looks at it.

const RERANKS = new Set(['/v1/rerank', '/v1/models/{model}/rerank', '/v2/rerank']);
const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;

function* samples(text) {
  for (const line of text.split('\n')) {
    const found = line[0] === '#' ? null : LINE.exec(line);
    if (!found) continue;
    const labels = {};
    for (const [, name, value] of (found[2] ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[name] = value;
    yield [found[1], labels, Number(found[3])];
  }
}

// Counters as they stand: `at` in seconds.
export function read(text, at) {
  const seen = { at, requests: 0, fallbacks: 0, buckets: new Map(), entropy: { before: [0, 0], after: [0, 0] } };
  for (const [name, labels, value] of samples(text)) {
    if (name === 'rerank_requests_total' && RERANKS.has(labels.endpoint)) seen.requests += value;
    else if (name === 'rerank_fallback_total') seen.fallbacks += value;
    else if (name === 'rerank_request_duration_seconds_bucket') {
      if (!RERANKS.has(labels.endpoint) || labels.outcome !== 'served') continue;
      const bound = labels.le === '+Inf' ? Infinity : Number(labels.le);
      seen.buckets.set(bound, (seen.buckets.get(bound) ?? 0) + value);
    } else if (name === 'rerank_gate_entropy_nats_sum') seen.entropy[labels.when][0] += value;
    else if (name === 'rerank_gate_entropy_nats_count') seen.entropy[labels.when][1] += value;
  }
  return seen;
}

// What happened from one look to a later one; null where nothing did that it could be told of.
export function between(before, after) {
  const requests = after.requests - before.requests;
  const mean = (when) => {
    const [sum, count] = [0, 1].map((i) => after.entropy[when][i] - before.entropy[when][i]);
    return count > 0 ? sum / count : null;
  };
  const bounds = [...after.buckets.keys()].sort((a, b) => a - b);
  const counts = bounds.map((bound) => after.buckets.get(bound) - (before.buckets.get(bound) ?? 0));
  return {
    rate: requests / (after.at - before.at),
    p50: quantile(0.5, bounds, counts),
    p99: quantile(0.99, bounds, counts),
    entropyBefore: mean('before'),
    entropyAfter: mean('after'),
    fallbacks: requests > 0 ? (after.fallbacks - before.fallbacks) / requests : null,
  };
}

// In milliseconds, as Prometheus does: linear within a bucket, the last bound above all. Counts add up.
function quantile(q, bounds, counts) {
  const all = counts.at(-1);
  if (!all) return null;
  const at = counts.findIndex((count) => count >= q * all);
  if (bounds[at] === Infinity) return 1000 * (bounds[at - 1] ?? NaN);
  const [low, below] = at ? [bounds[at - 1], counts[at - 1]] : [0, 0];
  return 1000 * (low + ((bounds[at] - low) * (q * all - below)) / (counts[at] - below));
}
