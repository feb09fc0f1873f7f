// Links out of Airflow's frame. The frame may neither leave itself nor open windows, so a link that is meant for the
// whole window (`data-top`) or a new one (`target=_blank`) is followed by the page around it.
export function watchLinks() {
  if (window.parent === window) return;
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-top], a[target=_blank]");
    if (!link || event.defaultPrevented) return;
    const around = window.parent.document;
    const twin = around.createElement("a");
    twin.href = link.href;
    twin.rel = "noopener";
    if (link.target === "_blank" || event.ctrlKey || event.metaKey) twin.target = "_blank";
    event.preventDefault();
    around.body.append(twin);
    twin.click();
    twin.remove();
  });
}
