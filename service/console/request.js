// From what the controls say to the body of a rerank, and to a command that sends it.

const TRACED = 8;

// `controls`: null where the model's default holds. `user`: an id, or null.
export function rerankBody(base, { model, version, user, controls, limits }) {
  const { request_id: _, user_id: __, ...rest } = base;
  const body = { ...rest, explain: true };
  const traced = Math.min(TRACED, limits.trace_candidates);
  if (traced) body.trace_candidates = traced; else delete body.trace_candidates;
  if (model) Object.assign(body, { model, model_version: version });
  if (user) body.user_id = user;
  if (controls.topN !== null) body.top_n = controls.topN;
  if (controls.deadlineMs !== null) body.deadline_ms = controls.deadlineMs;
  const reasoning = {
    ...base.reasoning,
    ...given({
      entropy_threshold: controls.threshold,
      max_tokens: controls.budget,
      temperature: controls.reasoningTemperature,
      lookahead: controls.lookahead,
    }),
  };
  if (Object.keys(reasoning).length) body.reasoning = reasoning;
  if (controls.sampled) body.sampling = given({ temperature: controls.selectionTemperature, seed: controls.seed });
  return body;
}

export function withoutReasoning(body) {
  const { trace_candidates: _, ...plain } = body;
  return { ...plain, reasoning: { max_tokens: 0, lookahead: 0 } };
}

function given(values) {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null));
}

// For a POSIX shell. A key is named, never shown.
export function curl(url, body, keyed) {
  const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
  const key = keyed ? ' -H "X-API-Key: $EGLR_KEY"' : '';
  return `curl -s ${quoted(url)}${key} --json ${quoted(JSON.stringify(body))}`;
}
