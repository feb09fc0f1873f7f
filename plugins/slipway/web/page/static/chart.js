// The endpoint's figures over the last two minutes: asked for two seconds after the last answer, drawn as lines.
const EVERY = 2000;
const KEPT = 60;
const WIDTH = 600;
const HEIGHT = 120;

export function watchChart() {
  const chart = document.getElementById("chart");
  if (!chart) return;
  const points = [];
  let before = null;

  async function look() {
    if (document.hidden) return;
    let now;
    try {
      const answer = await fetch(chart.dataset.url);
      now = await answer.json();
      if (!answer.ok) throw new Error(now.error);
    } catch (problem) {
      figure("note", problem.message || "The figures cannot be read.");
      before = null;
      return;
    }
    now.at = performance.now();
    // A server that was started anew counts from nothing again.
    if (before && now.requests >= before.requests) add(before, now);
    before = now;
  }

  function add(old, now) {
    const seconds = (now.at - old.at) / 1000;
    const count = now.requests - old.requests;
    points.push({ rate: count / seconds, errors: Math.max(now.errors - old.errors, 0) / seconds });
    if (points.length > KEPT) points.shift();
    figure("rate", number(points.at(-1).rate));
    figure("errors", number(points.at(-1).errors));
    figure("latency", count > 0 ? milliseconds((now.seconds - old.seconds) / count) : "–");
    figure("p99", count > 0 ? milliseconds(quantile(old.buckets, now.buckets, 0.99)) : "–");
    figure("note", "");
    const top = Math.max(1, ...points.map((point) => Math.max(point.rate, point.errors)));
    for (const line of ["rate", "errors"]) {
      const path = points.map((point, i) => `${i ? "L" : "M"}${x(i)} ${HEIGHT - 4 - (point[line] / top) * (HEIGHT - 12)}`);
      chart.querySelector(`[data-line=${line}]`).setAttribute("d", path.join(""));
    }
  }

  const x = (i) => WIDTH - (points.length - 1 - i) * (WIDTH / (KEPT - 1));
  const figure = (name, text) => { chart.querySelector(`[data-figure=${name}]`).textContent = text; };
  // The next look begins when the last one is over: a target that is slow is not asked more and more.
  async function watch() {
    await look();
    setTimeout(watch, EVERY);
  }
  watch();
}

// The upper bound of the bucket that holds the quantile, of what came between two looks.
function quantile(old, now, share) {
  const counts = now.map(([bound, count], i) => [bound, count - (old[i]?.[1] ?? 0)]);
  const all = counts.at(-1)?.[1] ?? 0;
  return counts.find(([, count]) => count >= all * share)?.[0];
}

const number = (value) => (value >= 100 ? value.toFixed(0) : value.toFixed(1));
const milliseconds = (seconds) => seconds == null ? "–" : `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
