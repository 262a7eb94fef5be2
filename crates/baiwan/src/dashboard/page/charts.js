// Charts over one time axis: what is drawn of which columns, and how numbers are written. Each reads the store that page.js fills; a
// cursor in one chart stands in all of them, and the values below a chart are those at the cursor, or the newest.

const GROUP = "time";
const COLORS = ["blue", "green", "amber", "violet", "red", "grey"];
const SHORTEST_US = 10;
// With more cores than this their lines have one colour, and only the worst is named.
const CORES_NAMED_MAX = 8;
const MISSING = "–";
// Steps between marks: in seconds, of numbers of things, and in bytes.
const TIMES = [1, 5, 10, 15, 30, 60, 120, 180, 300, 600];
const WHOLE = Array.from({ length: 45 }, (_, step) => [1, 2, 5][step % 3] * 10 ** Math.floor(step / 3));
const POWERS_OF_TWO = Array.from({ length: 50 }, (_, power) => 2 ** power);

const integers = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const write = {
  count: (number) => (number == null ? MISSING : integers.format(number)),
  short: (number) => (number == null ? MISSING : compact.format(number)),
  share: (share) => {
    if (share == null) return MISSING;
    if (share > 0 && share < 0.001) return "< 0.1 %";
    return `${(share * 100).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
  },
  duration: (us) => {
    if (us == null) return MISSING;
    if (us < 1e3) return `${Math.round(us)} µs`;
    if (us < 1e6) return `${(us / 1e3).toFixed(us < 1e4 ? 1 : 0)} ms`;
    return `${(us / 1e6).toFixed(us < 1e7 ? 1 : 0)} s`;
  },
  bytes: (bytes) => {
    if (bytes == null) return MISSING;
    let [unit, number] = ["B", bytes];
    for (const next of ["KiB", "MiB", "GiB", "TiB"]) {
      if (number < 1024) break;
      [unit, number] = [next, number / 1024];
    }
    return `${unit === "B" || number >= 100 ? Math.round(number) : number.toFixed(1)} ${unit}`;
  },
  time: (ms) => {
    const date = new Date(ms);
    return [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
  },
};

const STATES = ["idle", "receiving", "handling", "sending", "upgraded", "closing"];
const column = (group, key) => (store) => store[group][key];
const add = (one, other) => one.map((number, at) => (number == null ? null : number + other[at]));
const sum =
  (...columns) =>
  (store) =>
    columns.map((each) => each(store)).reduce(add);
const connections = (state) => column("connections", state);

function colored(keys, colors, group) {
  return keys.map((key, at) => ({ label: key.replace("_", "."), color: colors[at], of: column(group, key) }));
}

// `series` is a list, or a function of the number of cores.
const CHARTS = [
  {
    title: "Connections",
    write: write.count,
    series: [
      { label: "open", color: "blue", fill: true, of: sum(...STATES.map(connections)) },
      { label: "in an exchange", color: "green", of: sum(...["receiving", "handling", "sending"].map(connections)) },
      { label: "upgraded", color: "violet", of: connections("upgraded") },
    ],
  },
  {
    title: "Requests",
    unit: "a second",
    write: write.count,
    series: colored(["2xx", "3xx", "4xx", "5xx"], ["green", "blue", "amber", "red"], "answers"),
  },
  {
    title: "Latency",
    unit: "of each second",
    write: write.duration,
    logarithmic: true,
    series: colored(["p50", "p90", "p99", "p99_9"], ["green", "blue", "amber", "red"], "latency"),
  },
  {
    title: "Errors and refusals",
    unit: "a second",
    write: write.count,
    series: colored(["5xx", "503", "429"], ["red", "violet", "amber"], "answers"),
  },
  { title: "Loop lag by core", unit: "p99", write: write.duration, logarithmic: true, series: lagSeries },
  {
    title: "Memory per connection",
    write: write.bytes,
    series: [{ label: "bytes", color: "blue", fill: true, of: (store) => store.bytesPerConnection }],
  },
  {
    title: "Traffic",
    unit: "bytes a second",
    write: write.bytes,
    series: [
      { label: "received", color: "green", of: (store) => store.received },
      { label: "sent", color: "blue", of: (store) => store.sent },
    ],
  },
  {
    title: "Memory",
    unit: "resident",
    write: write.bytes,
    series: [{ label: "process", color: "violet", fill: true, of: (store) => store.resident }],
  },
];

function lagSeries(cores) {
  const named = cores <= CORES_NAMED_MAX;
  const lines = Array.from({ length: cores }, (_, core) => ({
    label: `core ${core}`,
    color: named ? COLORS[core % COLORS.length] : "blue",
    hidden: !named,
    of: (store) => store.lagP99[core],
  }));
  return named ? lines : [...lines, { label: "worst core", color: "red", of: (store) => worst(store.lagP99) }];
}

function worst(cores) {
  return cores[0].map((_, at) => cores.reduce((most, core) => (core[at] == null ? most : Math.max(most ?? 0, core[at])), null));
}

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

const style = () => getComputedStyle(document.documentElement);
const color = (name) => () => style().getPropertyValue(`--${name}`).trim();

function linear(u, least, most) {
  return [0, Math.max(1, (most ?? 0) * 1.1)];
}

function powers(u, least, most) {
  if (least == null || !Number.isFinite(least) || most <= 0) return [100, 10_000];
  const low = 10 ** Math.floor(Math.log10(Math.max(SHORTEST_US, least)));
  return [low, Math.max(low * 10, 10 ** Math.ceil(Math.log10(most)))];
}

const powerOfTen = (number) => (Number.isInteger(Math.round(Math.log10(number) * 1e6) / 1e6) ? number : null);

class Chart {
  constructor(parent, definition, cores, view) {
    this.definition = definition;
    this.view = view;
    this.series = typeof definition.series === "function" ? definition.series(cores) : definition.series;
    const id = `chart-${definition.title.toLowerCase().replaceAll(" ", "-")}`;
    const title = element("h2", { id }, definition.title);
    if (definition.unit) title.append(" ", element("small", {}, definition.unit));
    this.plot = element("div", { className: "plot", tabIndex: 0 });
    this.plot.setAttribute("role", "group");
    this.plot.setAttribute("aria-labelledby", id);
    this.legend = element("dl", { className: "legend" });
    this.values = this.series
      .filter((series) => !series.hidden)
      .map((series) => {
        const value = element("dd");
        this.legend.append(element("div", { className: `swatch-${series.color}` }, element("dt", {}, series.label), value));
        return [series, value];
      });
    this.at = element("dd");
    this.atRow = element("div", { hidden: true }, element("dt", { className: "bare" }, "at"), this.at);
    this.legend.append(this.atRow);
    const section = element("section", { className: "card" }, title, this.plot, this.legend);
    section.setAttribute("aria-labelledby", id);
    parent.append(section);
    this.uplot = new uPlot(this.options(), this.columns(), this.plot);
    this.plot.querySelector("canvas").setAttribute("aria-hidden", "true");
    this.plot.addEventListener("keydown", (event) => this.onKey(event));
    this.plot.addEventListener("blur", () => this.unpoint());
    new ResizeObserver(() => this.resize()).observe(this.plot);
  }

  size() {
    return { width: Math.max(120, Math.floor(this.plot.clientWidth)), height: 150 };
  }

  options() {
    const { definition, view } = this;
    const grid = { stroke: color("line"), width: 1 };
    const line = { stroke: color("faint"), font: "11px system-ui, sans-serif", grid, ticks: { show: false } };
    return {
      ...this.size(),
      padding: [8, 16, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: GROUP }, drag: { x: false, y: false, setScale: false }, points: { size: 6 }, y: false },
      scales: {
        x: { time: true, range: () => view.range() },
        y: definition.logarithmic ? { distr: 3, range: powers } : { range: linear },
      },
      axes: [
        {
          ...line,
          space: () => (view.minutes() > 1 ? 45 : 70),
          size: 24,
          incrs: TIMES,
          values: (u, times) => times.map((at) => this.tick(at)),
        },
        {
          ...line,
          size: 62,
          space: 28,
          gap: 4,
          ...(definition.logarithmic ? {} : { incrs: definition.write === write.bytes ? POWERS_OF_TWO : WHOLE }),
          grid: { ...grid, ...(definition.logarithmic ? { filter: (u, numbers) => numbers.map(powerOfTen) } : {}) },
          values: (u, numbers) => numbers.map((number) => this.mark(number)),
        },
      ],
      series: [
        {},
        ...this.series.map((series) => ({
          label: series.label,
          stroke: color(series.color),
          width: series.hidden ? 1 : 1.5,
          alpha: series.hidden ? 0.35 : 1,
          fill: series.fill ? color("fill") : undefined,
          points: { show: false },
        })),
      ],
      hooks: { setCursor: [() => this.tell()] },
    };
  }

  tick(at) {
    const time = write.time(at * 1000);
    if (this.view.minutes() === 1) return time;
    return at % 60 === 0 ? time.slice(0, 5) : "";
  }

  mark(number) {
    if (number == null) return "";
    const { write: own } = this.definition;
    return own === write.count ? write.short(number) : own(number).replace(".0 ", " ");
  }

  columns() {
    const { store } = this.view;
    return [store.at, ...this.series.map((series) => this.drawn(series.of(store)))];
  }

  // A logarithm of 0 there is none, and what is shorter than this nobody waits for.
  drawn(numbers) {
    return this.definition.logarithmic ? numbers.map((number) => (number == null ? null : Math.max(SHORTEST_US, number))) : numbers;
  }

  update() {
    this.uplot.setData(this.columns());
    this.tell();
  }

  redraw() {
    this.uplot.redraw(false, true);
  }

  resize() {
    const size = this.size();
    if (size.width !== this.uplot.width) this.uplot.setSize(size);
  }

  // Which row the values are of: that at the cursor, or the newest.
  row() {
    const { store } = this.view;
    return this.uplot?.cursor.idx ?? store.at.length - 1;
  }

  tell() {
    const { store } = this.view;
    const [row, pointed] = [this.row(), this.uplot?.cursor.idx != null];
    for (const [series, value] of this.values) value.textContent = this.definition.write(series.of(store)[row]);
    this.atRow.hidden = !pointed;
    if (pointed) this.at.textContent = write.time(store.at[row] * 1000);
  }

  onKey(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
    const { store } = this.view;
    if (event.key === "Escape") this.unpoint();
    if (!step || store.at.length === 0) return;
    event.preventDefault();
    const [from] = this.view.range();
    const first = store.at.findIndex((at) => at >= from);
    const row = Math.min(store.at.length - 1, Math.max(first, this.row() + step));
    this.legend.setAttribute("aria-live", "polite");
    this.uplot.setCursor({ left: this.uplot.valToPos(store.at[row], "x"), top: 10 });
  }

  unpoint() {
    this.legend.removeAttribute("aria-live");
    this.uplot.setCursor({ left: -10, top: -10 });
  }
}

// All charts within `parent`, for so many cores. `view` has the store, and the range of time that is shown.
export function makeCharts(parent, cores, view) {
  parent.replaceChildren();
  return CHARTS.map((definition) => new Chart(parent, definition, cores, view));
}
