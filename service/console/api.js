// Requests to the service this page is from, and what is wrong with their answers.

export class ApiError extends Error {
  // status: of the answer; 0 where there is none.
  constructor(status, message, fields = [], retryAfter = null) {
    super(message);
    Object.assign(this, { status, fields, retryAfter });
  }
}

// The answer's JSON, its text where `text` is set, or null where it is empty. `path` is relative to the page's.
export async function call(path, { method = 'GET', json, key, signal, text = false, keepalive = false } = {}) {
  const headers = {};
  if (json !== undefined) headers['content-type'] = 'application/json';
  if (key) headers['x-api-key'] = key;
  let answer;
  try {
    const body = json === undefined ? undefined : JSON.stringify(json);
    answer = await fetch(path, { method, headers, body, signal, keepalive });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError(0, /header/i.test(error.message) ? 'this is not an API key' : 'the service does not answer');
  }
  const content = await answer.text();
  if (!answer.ok) {
    let told = null;
    try { told = JSON.parse(content); } catch { /* a proxy's page */ }
    const message = told?.error ?? `${answer.status} ${answer.statusText}`;
    throw new ApiError(answer.status, message, told?.fields ?? [], answer.headers.get('retry-after'));
  }
  if (text) return content;
  return content ? JSON.parse(content) : null;
}
