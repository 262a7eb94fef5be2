// The dashboard: asks once a second for what is new, keeps fifteen minutes of it, and shows them. A server that does not answer is said
// to be away, and asked on; of one that has started anew, the lines go on behind a gap.

import { element, makeCharts, write } from "./charts.js";

const PERIOD_MS = 1_000;
const PATIENCE_MS = 5_000;
const SECONDS_MAX = 900;
// Rows that lie further apart than this are not joined by a line.
const GAP_S = 2.5;
// From where on something stands out.
const FULL = 0.8;
const ERRORS = 0.01;
const LATE_US = 100_000;
const SLOW_US = 1_000_000;

const byId = (id) => document.getElementById(id);
const setText = (target, text) => {
  if (target.textContent !== text) target.textContent = text;
};
const last = (numbers) => numbers.at(-1) ?? null;
const total = (numbers) => numbers.reduce((one, other) => one + (other ?? 0), 0);
const most = (numbers) => numbers.reduce((one, other) => (other == null ? one : Math.max(one ?? 0, other)), null);

const STATES = ["idle", "receiving", "handling", "sending", "upgraded", "closing"];
const ANSWERS = ["2xx", "3xx", "4xx", "5xx", "429", "503"];
const PERCENTILES = ["p50", "p90", "p99", "p99_9"];

function emptyStore(cores) {
  const group = (keys) => Object.fromEntries(keys.map((key) => [key, []]));
  const perCore = () => Array.from({ length: cores }, () => []);
  return {
    at: [],
    connections: group(STATES),
    answers: group(ANSWERS),
    latency: group(PERCENTILES),
    lagP99: perCore(),
    lagMax: perCore(),
    inFlight: [],
    resident: [],
    bytesPerConnection: [],
    received: [],
    sent: [],
  };
}

// Each column of the store with the one of the answer that it continues.
function pairs(store, seconds) {
  return [
    ...STATES.map((key) => [store.connections[key], seconds.connections[key]]),
    ...ANSWERS.map((key) => [store.answers[key], seconds.answers_per_second[key]]),
    ...PERCENTILES.map((key) => [store.latency[key], seconds.latency_us[key]]),
    ...store.lagP99.map((column, core) => [column, seconds.lag_p99_us[core]]),
    ...store.lagMax.map((column, core) => [column, seconds.lag_max_us[core]]),
    [store.inFlight, seconds.in_flight],
    [store.resident, seconds.resident_bytes],
    [store.bytesPerConnection, seconds.bytes_per_connection],
    [store.received, seconds.received_bytes_per_second],
    [store.sent, seconds.sent_bytes_per_second],
  ];
}

function append(store, seconds) {
  const columns = pairs(store, seconds);
  seconds.at_ms.forEach((ms, row) => {
    const at = ms / 1000;
    // Of a server that has started anew on a clock that was set back.
    if (at <= last(store.at)) return;
    if (at - last(store.at) > GAP_S && store.at.length > 0) {
      store.at.push(last(store.at) + 1);
      for (const [column] of columns) column.push(null);
    }
    store.at.push(at);
    for (const [column, from] of columns) column.push(from[row]);
  });
  const surplus = store.at.length - SECONDS_MAX;
  if (surplus > 0) for (const column of [store.at, ...columns.map(([column]) => column)]) column.splice(0, surplus);
}

const page = {
  data: null,
  next: null,
  store: emptyStore(0),
  charts: [],
  lastAnswer: null,
  // When the server started that followed the one before, if that happened while the page was open.
  startedAnew: null,
  // Why the last question had no answer.
  trouble: null,
  paused: false,
  asking: false,
};

const view = {
  get store() {
    return page.store;
  },
  minutes: () => Number(document.querySelector("input[name=minutes]:checked").value),
  range: () => {
    const end = last(page.store.at) ?? Date.now() / 1000;
    return [end - view.minutes() * 60, end];
  },
};

// False where the answer is of a server that has started anew: then all that it has must be asked for.
function take(data) {
  const before = page.data?.server;
  const cores = data.seconds.lag_p99_us.length;
  const isAnew = before !== undefined && before.instance !== data.server.instance;
  if (page.charts.length === 0 || page.store.lagP99.length !== cores) {
    page.store = emptyStore(cores);
    page.charts = makeCharts(byId("charts"), cores, view);
  }
  page.data = data;
  if (isAnew) {
    page.startedAnew = data.server.started_ms;
    page.next = null;
    return false;
  }
  page.next = data.next;
  append(page.store, data.seconds);
  return true;
}

async function ask() {
  if (page.asking) return;
  page.asking = true;
  try {
    const query = page.next === null ? "" : `?after=${page.next}`;
    const answer = await fetch(`dashboard/data${query}`, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!answer.ok) throw new Error(answer.status === 401 ? "it wants the token: reload this page" : `it answers ${answer.status}`);
    const taken = take(await answer.json());
    page.trouble = null;
    page.lastAnswer = Date.now();
    page.asking = false;
    if (!taken) return void (await ask());
    show();
  } catch (error) {
    page.trouble = error instanceof TypeError || error.name === "TimeoutError" ? "" : error.message;
    showState();
  } finally {
    page.asking = false;
  }
}

function show() {
  for (const chart of page.charts) chart.update();
  showState();
  showTiles();
  showFindings();
  showRoutes();
  showErrors();
  showPairs(
    "force",
    page.data.in_force.map(([name, value]) => [name, value, ""]),
  );
  byId("checks-card").hidden = page.data.checks.length === 0;
  showPairs(
    "checks",
    page.data.checks.map(({ name, is_up: isUp, reason }) => {
      const verdict = isUp ? "ok" : (reason ?? "fails");
      return [name, isUp === null ? "not run yet" : verdict, isUp === false ? "bad" : ""];
    }),
  );
}

function stateOf() {
  if (page.trouble !== null) {
    const since = page.lastAnswer === null ? "" : ` since ${write.time(page.lastAnswer)}`;
    return ["bad", page.trouble ? `Not to be read${since}: ${page.trouble}` : `Not reachable${since}`];
  }
  if (!page.data) return ["", "Connecting"];
  const { phase, is_live: isLive, is_ready: isReady } = page.data.server;
  if (!isLive && phase !== "starting") return ["bad", "Not live: a core is stuck"];
  if (phase === "draining" || phase === "stopping") return ["warn", "Draining"];
  if (phase === "starting") return ["warn", "Starting"];
  return isReady ? ["good", "Ready"] : ["warn", "Live, not ready"];
}

function showState() {
  const [look, text] = stateOf();
  byId("state").className = `state ${look}`;
  setText(byId("state-text"), text);
  const server = page.data?.server;
  const open = last(page.store.at) === null ? null : openNow();
  document.title = `${look === "good" ? "" : "! "}${open === null || look === "bad" ? text : `${write.short(open)} connections`} · Baiwan`;
  if (!server || page.lastAnswer === null) return;
  const paused = page.paused ? ` · paused at ${write.time(page.lastAnswer)}` : "";
  setText(byId("about"), `${server.version} · up ${span(server.now_ms - server.started_ms)}${paused}`);
}

function span(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const [days, hours, minutes] = [Math.floor(seconds / 86_400), Math.floor(seconds / 3_600) % 24, Math.floor(seconds / 60) % 60];
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  return minutes > 0 ? `${minutes} min` : `${seconds} s`;
}

const openNow = () => total(STATES.map((state) => last(page.store.connections[state])));

// Sums of the last rows.
function lately(column, rows = 60) {
  return total(column.slice(-rows));
}

const answersLately = () => total(["2xx", "3xx", "4xx", "5xx"].map((key) => lately(page.store.answers[key])));

function showTiles() {
  const { store, data } = page;
  const answers = (key) => last(store.answers[key]);
  const all = answersLately();
  const lag = store.lagP99.map(last);
  const worst = most(lag);
  const perConnection = last(store.bytesPerConnection);
  tile("Connections", write.count(openNow()), `of ${write.count(data.server.connections_max)}`);
  tile(
    "Requests a second",
    write.count(total(["2xx", "3xx", "4xx", "5xx"].map(answers))),
    `${write.count(last(store.inFlight))} in flight`,
  );
  tile("Latency p99", write.duration(last(store.latency.p99)), `p50 ${write.duration(last(store.latency.p50))}`);
  tile("5xx, last minute", write.share(all > 0 ? lately(store.answers["5xx"]) / all : null), `${write.count(answers("5xx"))} a second`);
  tile(
    "Refused a second",
    write.count(total([answers("429"), answers("503")])),
    `429: ${write.count(answers("429"))}, 503: ${write.count(answers("503"))}`,
  );
  tile(
    "Loop lag p99",
    write.duration(worst),
    worst === null ? "" : `core ${lag.indexOf(worst)}, max ${write.duration(most(store.lagMax.map(last)))}`,
  );
  const few = `per connection: from ${write.count(data.server.connections_for_memory)} on`;
  tile(
    "Memory",
    write.bytes(last(store.resident) || null),
    perConnection === null ? few : `${write.count(perConnection)} B each`,
  );
}

const tiles = new Map();

function tile(label, value, beside) {
  if (!tiles.has(label)) {
    const parts = [element("dd", { className: "value" }), element("dd", { className: "beside" })];
    byId("tiles").append(element("div", {}, element("dt", {}, label), ...parts));
    tiles.set(label, parts);
  }
  const [main, small] = tiles.get(label);
  setText(main, value);
  setText(small, beside);
}

function findings() {
  const { store, data } = page;
  const found = data.server.warnings.map((text) => ["bad", text]);
  if (page.startedAnew !== null && data.server.now_ms - page.startedAnew < SECONDS_MAX * 1000) {
    found.push(["warn", `The server started anew at ${write.time(page.startedAnew)}.`]);
  }
  const failing = data.checks.filter((check) => check.is_up === false);
  found.push(...failing.map(({ name, reason }) => ["bad", `Check ${name} fails${reason ? `: ${reason}` : "."}`]));
  const [all, failed] = [answersLately(), lately(store.answers["5xx"])];
  if (failed > 0 && failed / all >= ERRORS) {
    const [worst] = data.routes.filter((route) => route.errors > 0).sort((one, other) => other.errors - one.errors);
    found.push([
      "bad",
      `${write.share(failed / all)} of the answers of the last minute are 5xx${worst ? `, most on ${worst.route}` : ""}.`,
    ]);
  }
  const limited = lately(store.answers["429"]) / all;
  if (limited >= ERRORS)
    found.push(["warn", `${write.share(limited)} of the answers of the last minute are 429: clients ask more than their limit.`]);
  const late = store.lagP99.map((column) => most(column.slice(-10)));
  if (most(late) >= LATE_US)
    found.push([
      "bad",
      `Core ${late.indexOf(most(late))} is late by ${write.duration(most(late))}: a handler holds it, or it has too much to do.`,
    ]);
  const slow = most(store.latency.p99.slice(-10));
  if (slow >= SLOW_US) found.push(["warn", `One request in a hundred takes longer than ${write.duration(slow)}.`]);
  const full = openNow() / data.server.connections_max;
  if (full >= FULL) found.push(["warn", `${write.share(full)} of the connections that may be are taken.`]);
  return found.length > 0 ? found : [["", "Nothing stands out."]];
}

function showFindings() {
  replaceRows("findings", findings(), ([look, text]) => element("li", { className: look }, text));
}

const shown = new Map();

// Makes the rows anew only where they differ from those that are there, so that a selection in them lives on.
function replaceRows(id, rows, make) {
  const key = JSON.stringify(rows);
  if (shown.get(id) === key) return;
  shown.set(id, key);
  byId(id).replaceChildren(...rows.flatMap(make));
}

function showRoutes() {
  const { routes, routes_window_ms: windowMs } = page.data;
  setText(byId("routes-window"), windowMs > 0 ? `last ${Math.round(windowMs / 1000)} s` : "");
  byId("routes-none").hidden = routes.length > 0;
  replaceRows("routes", routes, (route) => {
    const share = route.errors / route.requests;
    const rate = windowMs > 0 ? (route.requests * 1000) / windowMs : null;
    return element(
      "tr",
      {},
      element("th", { scope: "row" }, element("code", {}, route.route)),
      element("td", {}, rate !== null && rate < 10 ? rate.toFixed(1) : write.count(rate)),
      element("td", {}, routeLatency(route.p99_us)),
      element("td", { className: share >= ERRORS ? "bad" : "" }, write.share(share)),
    );
  });
}

// Their histogram begins at 5 ms: what is shorter is not told apart.
const routeLatency = (us) => (us !== null && us < 5_000 ? "< 5 ms" : write.duration(us));

function showErrors() {
  const { errors } = page.data;
  byId("errors-none").hidden = errors.length > 0;
  byId("errors").tabIndex = errors.length > 0 ? 0 : -1;
  replaceRows("errors", errors, (error) => {
    const head = element(
      "div",
      { className: "head" },
      element("time", { dateTime: new Date(error.at_ms).toISOString() }, write.time(error.at_ms)),
      element("span", { className: "status" }, String(error.status)),
      element("code", {}, `${error.method ?? ""} ${error.route}`.trim()),
      element("span", {}, `after ${write.duration(error.duration_us)}`),
    );
    const id = error.request_id === null ? [] : [element("div", { className: "id" }, "request ", element("code", {}, error.request_id))];
    return element("li", {}, head, ...id);
  });
}

function showPairs(id, rows) {
  replaceRows(id, rows, ([name, value, look]) => [element("dt", {}, name), element("dd", { className: look }, value)]);
}

byId("pause").addEventListener("click", () => {
  page.paused = !page.paused;
  byId("pause").setAttribute("aria-pressed", String(page.paused));
  showState();
  if (!page.paused) ask();
});
for (const input of document.querySelectorAll("input[name=minutes]")) {
  input.addEventListener("change", () => page.charts.forEach((chart) => chart.update()));
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => page.charts.forEach((chart) => chart.redraw()));
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !page.paused) ask();
});
setInterval(() => {
  if (!document.hidden && !page.paused) ask();
}, PERIOD_MS);
showState();
ask();
