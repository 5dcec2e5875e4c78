"use strict";
// Shows what runs now without a reload. The page is whole without it.
const shown = document.getElementById("running");
async function look() {
  if (document.hidden) return;
  const answer = await fetch(shown.dataset.from, { headers: { Accept: "text/html" } });
  if (!answer.ok || answer.redirected) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const found = page.getElementById("running");
  if (found && found.innerHTML !== shown.innerHTML) shown.replaceChildren(...found.childNodes);
}
if (shown) setInterval(() => look().catch(() => {}), 5000);
