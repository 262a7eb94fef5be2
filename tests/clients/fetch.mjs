// Node's fetch against the service: `node fetch.mjs URL`.

import assert from "node:assert/strict";
import { subscribe } from "node:diagnostics_channel";

const url = process.argv[2];
const timeout = () => AbortSignal.timeout(60_000);

let connections = 0;
subscribe("undici:client:connected", () => connections++);

const page = await fetch(`${url}/`, { signal: timeout() });
assert.equal(page.status, 200);
assert.match(await page.text(), /<title>Baiwan<\/title>/);

for (let number = 0; number < 50; number++) {
  const text = `text ${number} ${"t".repeat(number * 100)}`;
  const answer = await fetch(`${url}/echo`, { method: "POST", body: text, signal: timeout() });
  assert.equal(await answer.text(), `Echo: ${text}`);
}
// A request that comes before the last answer is put away gets a second connection.
assert.ok(connections <= 2, `${connections} connections: keep-alive did not hold`);

// A stream goes out in chunks, and comes back while it does: a piece is made when the one before it is back.
let sendNext;
const pieces = new ReadableStream({
  start(controller) {
    sendNext = (piece) => (piece === null ? controller.close() : controller.enqueue(new TextEncoder().encode(piece)));
    sendNext("piece 0;");
  },
});
const echo = await fetch(`${url}/echo`, { method: "POST", body: pieces, duplex: "half", signal: timeout() });
let received = "";
let next = 1;
for await (const bytes of echo.body) {
  received += new TextDecoder().decode(bytes);
  if (received.endsWith(`piece ${next - 1};`)) {
    sendNext(next < 20 ? `piece ${next};` : null);
    next++;
  }
}
const expected = Array.from({ length: 20 }, (_, number) => `piece ${number};`).join("");
assert.equal(received, `Echo: ${expected}`);

// Given up in the middle: the server goes on.
const giveUp = new AbortController();
const big = await fetch(`${url}/echo`, { method: "POST", body: "b".repeat(5_000_000), signal: giveUp.signal });
await big.body.getReader().read();
giveUp.abort();
const health = await fetch(`${url}/health`, { signal: timeout() });
assert.equal((await health.json()).status, "healthy");

const created = await fetch(`${url}/api/users`, {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ name: "fetch" }),
  signal: timeout(),
});
assert.equal(created.status, 201);
const user = await fetch(new URL(created.headers.get("location"), url), { signal: timeout() });
assert.equal((await user.json()).name, "fetch");
