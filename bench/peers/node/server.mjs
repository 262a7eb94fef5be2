// The same answers from Node's own http module, in one process. Its deadlines and limits are off.
import http from "node:http";

const HELLO = "hello";
const TEXT = "text/plain; charset=utf-8";
const SLEEP_MS = 1;
// More connections than this may not wait to be accepted; the kernel takes somaxconn if that is less.
const BACKLOG = 65_535;
// Every so many requests of /mixed, one computes, for so long, with so many steps between two looks at the clock.
const COMPUTING_EVERY = 100;
const COMPUTING_US = 10_000;
const STEPS = 10_000;

let held = 0;
let mixed = 0;

// Node has no clock of a thread's CPU time; the process's others are idle meanwhile.
function cpuUs() {
  const { user, system } = process.cpuUsage();
  return user + system;
}

function compute() {
  const end = cpuUs() + COMPUTING_US;
  let state = 1;
  while (cpuUs() < end) {
    for (let step = 0; step < STEPS; step += 1) state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
  }
  return state;
}

function answer(response, body, type = TEXT) {
  response.writeHead(200, { "content-type": type, "content-length": Buffer.byteLength(body) });
  response.end(body);
}

const routes = {
  "/": (request, response) => answer(response, HELLO),
  "/json": (request, response) =>
    answer(response, JSON.stringify({ message: HELLO, number: 42 }), "application/json"),
  "/echo": (request, response) => {
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", () => answer(response, Buffer.concat(parts), "application/octet-stream"));
  },
  "/sleep": (request, response) => setTimeout(() => answer(response, "slept"), SLEEP_MS),
  "/pending": () => {
    held += 1;
  },
  "/held": (request, response) => answer(response, String(held)),
  "/sse": (request, response) => {
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
    response.write("data: hello\n\n");
  },
  "/mixed": (request, response) => {
    mixed += 1;
    if (mixed % COMPUTING_EVERY === 0) compute();
    answer(response, HELLO);
  },
};

if (process.argv.at(-1) === "--version") {
  console.log(`Node ${process.versions.node}`);
} else {
  const options = { keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0, noDelay: true };
  const server = http.createServer(options, (request, response) => {
    const route = routes[request.url];
    if (route) return route(request, response);
    response.writeHead(404);
    response.end();
  });
  server.timeout = 0;
  server.maxRequestsPerSocket = 0;
  server.listen({ host: "127.0.0.1", port: 0, backlog: BACKLOG }, () =>
    console.log(`127.0.0.1:${server.address().port}`),
  );
}
