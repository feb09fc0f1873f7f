// The one dialog: opens when htmx puts a form into it, closes on its buttons, and forgets what was in it.
export function watchDialog() {
  const dialog = document.getElementById("dialog");
  const body = document.getElementById("dialog-body");
  document.body.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target !== body || !body.childElementCount) return;
    if (!dialog.open) dialog.showModal();
    const first = body.querySelector("[aria-invalid], .wrong input, .wrong select, .wrong textarea") ??
      body.querySelector("input:not([readonly], [type=hidden]), select, textarea, button[type=submit]");
    first?.focus();
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest?.("[data-close]") || event.target === dialog) dialog.close();
    event.target.closest?.("[data-dismiss]")?.parentElement.remove();
  });
  dialog.addEventListener("close", () => body.replaceChildren());
  document.body.addEventListener("htmx:sendError", () => notify("The server does not answer: check that it runs."));
}

// Tell something in the corner, as the server's own notices do.
export function notify(text) {
  const notice = document.createElement("div");
  notice.className = "notice";
  notice.setAttribute("role", "alert");
  const paragraph = document.createElement("p");
  paragraph.textContent = text;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button tiny";
  button.dataset.dismiss = "";
  button.setAttribute("aria-label", "Dismiss");
  button.textContent = "×";
  notice.append(paragraph, button);
  document.getElementById("notices").replaceChildren(notice);
}
