// What the pages do in the browser besides htmx. Each module finds its own elements and does nothing without them.
import { watchDialog } from "./dialog.js";
import { watchCopies } from "./copy.js";
import { watchLinks } from "./links.js";
import { watchMenus } from "./menus.js";
import { watchImport } from "./upload.js";
import { watchChart } from "./chart.js";

watchDialog();
watchCopies();
watchLinks();
watchMenus();
watchImport();
watchChart();
addEventListener("load", () => { document.documentElement.dataset.ready = ""; });
