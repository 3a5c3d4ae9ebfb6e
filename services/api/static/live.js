// Keeps the page as new as the log, and lets one drag it into the past. Everything works without it.
//
// All tabs of a browser share one connection: this file is also the shared worker that holds it. Where there are no
// shared workers, each tab has its own.

const EVERY_MS = 700;

const connect = (hear) => new EventSource("/api/events/stream").addEventListener("log", (event) => hear(event.lastEventId));

if ("SharedWorkerGlobalScope" in self && self instanceof SharedWorkerGlobalScope) {
  const tabs = new Set();
  let newest = "";
  self.onconnect = ({ ports: [tab] }) => {
    tabs.add(tab);
    tab.onmessage = () => tabs.delete(tab);
    if (newest) tab.postMessage(newest);
  };
  connect((position) => {
    newest = position;
    for (const tab of tabs) tab.postMessage(position);
  });
} else {
  const main = document.querySelector("main");
  if ("live" in main.dataset && !("past" in main.dataset)) follow(main);
  slide(main);
}

function follow(main) {
  let shown = Number(main.dataset.position);
  let due = false;
  const hear = (position) => {
    if (Number(position) <= shown || due) return;
    due = true;
    setTimeout(async () => {
      due = false;
      if (!document.hidden && !isBusy(main)) shown = (await show(main, location.href)) ?? shown;
    }, EVERY_MS);
  };
  if (typeof SharedWorker === "function") {
    const { port } = new SharedWorker("/static/live.js", { type: "module" });
    port.onmessage = ({ data }) => hear(data);
    addEventListener("pagehide", () => port.postMessage("bye"));
  } else {
    connect(hear);
  }
  document.addEventListener("visibilitychange", () => hear(Infinity));
}

// Who is writing into a form, or has opened one, is not disturbed.
function isBusy(main) {
  const field = document.activeElement;
  return main.contains(field) && field.matches("input, select, textarea") || main.querySelector("details[open] form") !== null;
}

// Show what an address has now in place of what is shown; returns its position in the log.
async function show(main, address) {
  const answer = await fetch(address, { headers: { accept: "text/html" } });
  if (!answer.ok) return null;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.querySelector("main");
  if (!fresh) return null;
  const focused = main.contains(document.activeElement) ? document.activeElement.id : "";
  main.replaceChildren(...fresh.childNodes);
  if (focused) document.getElementById(focused)?.focus();
  return Number(fresh.dataset.position);
}

// The slider goes from the first event (left) to now (right); the last days take most of it.
async function slide(main) {
  const bar = document.querySelector("[data-slider]");
  const details = bar?.closest("details");
  if (!bar) return;
  const [slider, output] = [bar.querySelector("input"), bar.querySelector("output")];
  const begin = async () => {
    const answer = await fetch("/api/log");
    const first = answer.ok ? Date.parse((await answer.json()).first_at) : NaN;
    if (Number.isNaN(first)) return;
    bar.hidden = false;
    const now = Date.now();
    const moment = () => new Date(now - (now - first) * ((1000 - slider.value) / 1000) ** 3);
    const place = (at) => 1000 * (1 - Math.cbrt(Math.min(1, Math.max(0, (now - at) / (now - first)))));
    const words = () => (slider.value === "1000" ? "now" : moment().toISOString().slice(0, 16).replace("T", " ") + " UTC");
    if (main.dataset.past) slider.value = place(Date.parse(main.dataset.past));
    output.value = words();
    slider.addEventListener("input", () => { output.value = words(); });
    slider.addEventListener("change", () => {
      const there = new URL(location.href);
      if (slider.value === "1000") there.searchParams.delete("at");
      else there.searchParams.set("at", moment().toISOString().slice(0, 19) + "Z");
      location.assign(there);
    });
  };
  if (details.open) await begin();
  else details.addEventListener("toggle", begin, { once: true });
}
