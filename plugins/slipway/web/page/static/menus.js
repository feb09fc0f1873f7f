// Menus: one open at a time, closed by Escape or a click elsewhere, walked through with the arrow keys.
export function watchMenus() {
  const open = () => document.querySelector("details.menu[open]");
  document.addEventListener("toggle", (event) => {
    const menu = event.target;
    if (!menu.matches?.("details.menu") || !menu.open) return;
    for (const other of document.querySelectorAll("details.menu[open]")) if (other !== menu) other.open = false;
    const body = menu.querySelector(".menu-body");
    body.classList.toggle("above", menu.getBoundingClientRect().bottom > innerHeight * 0.6 && scrollY + menu.getBoundingClientRect().top > 420);
  }, true);
  document.addEventListener("click", (event) => {
    const menu = open();
    if (menu && (!menu.contains(event.target) || event.target.closest("button[hx-get]"))) menu.open = false;
  });
  document.addEventListener("keydown", (event) => {
    const menu = open();
    if (!menu) return;
    if (event.key === "Escape") {
      menu.open = false;
      menu.querySelector("summary").focus();
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const items = [...menu.querySelectorAll(".menu-body button:enabled, .menu-body a")];
      if (!items.length) return;
      event.preventDefault();
      const step = event.key === "ArrowDown" ? 1 : -1;
      const at = items.indexOf(document.activeElement);
      items[(at + step + items.length) % items.length].focus();
    }
  });
  // One that was opened before htmx was there has not been asked for yet.
  addEventListener("load", () => {
    const menu = open();
    if (menu) window.htmx.trigger(menu, "toggle");
  });
  // htmx asks again at each toggle; closing needs no answer.
  document.body.addEventListener("htmx:beforeRequest", (event) => {
    if (event.target.matches("details.menu") && !event.target.open) event.preventDefault();
  });
}
