// Follows Airflow's theme: the frame around this page, or what it has kept in the browser's store. Runs before the
// first paint, so it is a plain script.
(() => {
  "use strict";
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");

  function airflow() {
    try {
      return window.parent !== window ? window.parent.document.documentElement : null;
    } catch {
      return null; // framed by another site, which the headers forbid
    }
  }

  // Airflow's own colours, which an installation may have set, over ours.
  const COLOURS = { "--bg": "bg", "--fg": "fg", "--brand": "brand-solid", "--focus": "brand-focus-ring" };

  function follow() {
    const frame = airflow();
    let theme = frame && (frame.classList.contains("dark") ? "dark" : frame.classList.contains("light") ? "light" : "");
    if (!theme) {
      try {
        theme = localStorage.getItem("theme");
      } catch {
        theme = null;
      }
    }
    const isDark = theme === "dark" || (theme !== "light" && dark.matches);
    root.classList.toggle("dark", isDark);
    if (!frame) return;
    const style = getComputedStyle(frame);
    for (const [ours, theirs] of Object.entries(COLOURS)) {
      const value = style.getPropertyValue(`--chakra-colors-${theirs}`).trim();
      if (value) root.style.setProperty(ours, value);
    }
  }

  follow();
  dark.addEventListener("change", follow);
  addEventListener("storage", (event) => event.key === "theme" && follow());
  const frame = airflow();
  if (frame) new MutationObserver(follow).observe(frame, { attributes: true, attributeFilter: ["class", "style"] });
})();
