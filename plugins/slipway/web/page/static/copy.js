// Copy buttons: `data-copy` holds the text.
export function watchCopies() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    const done = await copy(button.dataset.copy);
    const before = button.getAttribute("aria-label");
    button.setAttribute("aria-label", done ? "Copied" : "Could not copy");
    button.classList.toggle("copied", done);
    setTimeout(() => {
      button.setAttribute("aria-label", before);
      button.classList.remove("copied");
    }, 1500);
  });
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Over plain HTTP from another machine a browser has no clipboard for scripts, but for what is selected.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
