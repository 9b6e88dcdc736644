// Re-rank a list, and report a click: `node rerank.mjs http://localhost:8080`, once compiled.
import type { components } from "./eglr.d.ts";

type Body = components["schemas"];

declare const process: { argv: string[] };
const url = process.argv[2] ?? "http://localhost:8080";

/** The re-ranked ids, or those given if the service does not answer in time. */
async function rerank(ids: string[], userId: string, deadlineMs = 100): Promise<[string[], string | null]> {
  const body: Body["RerankRequest"] = {
    user_id: userId,
    items: ids.map((id) => ({ id })),
    deadline_ms: deadlineMs,
    top_n: 10,
  };
  try {
    const answer = await fetch(`${url}/v1/rerank`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(deadlineMs + 50),
    });
    if (!answer.ok) throw new Error(((await answer.json()) as Body["ErrorResponse"]).error);
    const ranking = (await answer.json()) as Body["RerankResponse"];
    return [ranking.results.map((result) => result.id), ranking.recommendation_id];
  } catch (error) {
    console.warn(`the given order: ${error}`);
    return [ids, null];
  }
}

/** Report a click. With an `event_id` it may be sent again: it counts once. */
async function click(recommendationId: string, itemId: string): Promise<void> {
  const body: Body["FeedbackRequest"] = {
    recommendation_id: recommendationId,
    events: [{ item_id: itemId, type: "click", event_id: crypto.randomUUID() }],
  };
  const answer = await fetch(`${url}/v1/feedback`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  if (answer.status !== 202) throw new Error(((await answer.json()) as Body["ErrorResponse"]).error);
}

const [ids, recommendationId] = await rerank(["1", "2", "3", "4"], "u1", 1000);
console.log(ids.join(" "));
if (recommendationId !== null) await click(recommendationId, ids[0]!);
