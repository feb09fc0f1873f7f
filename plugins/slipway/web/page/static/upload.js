// The import page: a file is dropped or chosen, sent as it is with a progress bar, and then the run is started.
export function watchImport() {
  const form = document.getElementById("import");
  if (!form) return;
  const drop = document.getElementById("drop");
  const input = document.getElementById("file");
  const error = document.getElementById("import-error");
  let file = null;
  let sending = null;

  const choose = (chosen) => {
    file = chosen ?? null;
    error.textContent = "";
    if (file && file.size > Number(form.dataset.limit)) {
      error.textContent = `${file.name} is larger than this Airflow takes.`;
      file = null;
    }
    document.getElementById("chosen").textContent = file ? `${file.name}, ${size(file.size)}` : "";
  };
  input.addEventListener("change", () => choose(input.files[0]));
  for (const kind of ["dragenter", "dragover"]) drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.remove("over"); });
  drop.addEventListener("drop", (event) => choose(event.dataTransfer.files[0]));
  // A zip that is dropped beside the field must not replace the page.
  for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
  document.getElementById("stop").addEventListener("click", () => sending?.abort());

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    error.textContent = "";
    const values = new FormData(form);
    if (!file && !values.get("bundle_uri")) {
      error.textContent = "Choose a zip first, or name a place to take it from.";
      return;
    }
    const button = form.querySelector("button[type=submit]");
    button.disabled = true;
    try {
      if (file) values.set("bundle_uri", await send(file));
      await start(values);
    } catch (problem) {
      error.textContent = problem.message;
    } finally {
      button.disabled = false;
      document.getElementById("upload").hidden = true;
    }
  });

  function send(chosen) {
    const bar = document.getElementById("bar");
    const percent = document.getElementById("percent");
    document.getElementById("upload").hidden = false;
    return new Promise((resolve, reject) => {
      sending = new XMLHttpRequest();
      sending.open("PUT", form.dataset.upload);
      sending.setRequestHeader("X-CSRF-Token", token());
      sending.setRequestHeader("X-Filename", encodeURIComponent(chosen.name));
      sending.setRequestHeader("Content-Type", "application/zip");
      sending.setRequestHeader("HX-Request", "true");
      sending.upload.onprogress = ({ loaded, total }) => {
        bar.value = (loaded / total) * 100;
        percent.textContent = `${Math.floor(bar.value)} % of ${size(total)}`;
      };
      sending.onload = () => sending.status === 201 ? resolve(JSON.parse(sending.responseText).uri) : reject(new Error(sentence(sending.responseText)));
      sending.onerror = () => reject(new Error("The upload broke: the server took no more of it."));
      sending.onabort = () => reject(new Error("The upload was cancelled."));
      sending.send(chosen);
    });
  }

  async function start(values) {
    const headers = { "X-CSRF-Token": token(), "HX-Request": "true" };
    const answer = await fetch(form.dataset.start, { method: "POST", headers, body: new URLSearchParams(values) });
    const where = answer.headers.get("HX-Redirect");
    if (!where) throw new Error(sentence(await answer.text()));
    location.assign(where);
  }
}

const token = () => JSON.parse(document.body.getAttribute("hx-headers"))["X-CSRF-Token"];

// The sentences of an answer that is HTML, without its markup.
function sentence(html) {
  const parsed = new DOMParser().parseFromString(html, "text/html");
  const said = [...parsed.querySelectorAll("p")].map((p) => p.textContent.trim()).filter(Boolean);
  return said.join(" ") || "The server refused it.";
}

function size(bytes) {
  for (const unit of ["bytes", "KiB", "MiB"]) {
    if (bytes < 1024) return `${unit === "bytes" ? bytes : bytes.toFixed(1)} ${unit}`;
    bytes /= 1024;
  }
  return `${bytes.toFixed(1)} GiB`;
}
