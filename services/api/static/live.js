// Keeps the page as new as the log: one connection, and the page itself is asked for again when something happened.
const main = document.querySelector("main");
let waiting = false;

async function renew() {
  waiting = false;
  const answer = await fetch(location.href, { headers: { accept: "text/html" } });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const focused = document.activeElement?.id;
  main.replaceChildren(...page.querySelector("main").childNodes);
  if (focused) document.getElementById(focused)?.focus();
}

// A form that somebody fills in stays as it is.
if (main && !("past" in main.dataset) && !main.querySelector("form[data-still]")) {
  const events = new EventSource("/api/events/stream");
  events.addEventListener("log", () => {
    if (waiting) return;
    waiting = true;
    setTimeout(renew, 300);
  });
}
