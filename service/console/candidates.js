// Candidates as they are pasted: the body of a rerank, a JSON list of ids or items, or ids between commas or lines.

// {request} or {fault}, a text.
export function parseCandidates(text) {
  const given = text.trim();
  if (!given) return { fault: 'Paste a request, a JSON list of ids, or one id a line.' };
  if (!/^[[{]/.test(given)) {
    const ids = given.split(/[\n,]/).map((id) => id.trim()).filter(Boolean);
    return { request: { items: ids.map((id) => ({ id })) } };
  }
  let read;
  try { read = JSON.parse(given); } catch (error) { return { fault: `No JSON: ${error.message}` }; }
  const request = Array.isArray(read) ? { items: read } : read;
  if (!Array.isArray(request.items) || !request.items.length) return { fault: 'There are no "items" in it.' };
  const items = request.items.map((item) => (typeof item === 'object' ? item : { id: String(item) }));
  const nameless = items.findIndex((item) => typeof item?.id !== 'string');
  if (nameless >= 0) return { fault: `items.${nameless} has no "id", which is a text.` };
  return { request: { ...request, items } };
}
