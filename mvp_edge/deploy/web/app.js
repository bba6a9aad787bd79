// The page: pictures in, bars and milliseconds out.

const SHOWN = 5;
const MOST_PIXELS = 4e6; // larger photos are first reduced by the browser: some phones have no canvas for them

const config = JSON.parse(document.getElementById("config").textContent);
const part = (id) => document.getElementById(id);
const names = config.classes.map((name) => name.replaceAll("_", " "));
const models = []; // { title, bytes, model, times } in the order of the page's rows
let chosen = 0;
let stream = null;
let shownUrl = null;
let lastPicture = null;
let runtime = null;

function milliseconds(value) {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value >= 1 ? value.toFixed(2) : value.toPrecision(2);
}

function fileSize(bytes) {
  const [value, unit] = bytes >= 2 ** 20 ? [bytes / 2 ** 20, "MiB"] : [bytes / 2 ** 10, "KiB"];
  return `${value < 1000 ? value.toPrecision(3) : Math.round(value)} ${unit}`;
}

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function complain(message) {
  part("problem").textContent = message;
  part("problem").hidden = !message;
}

// ---- pictures -------------------------------------------------------------------------------------------------------

const easel = document.createElement("canvas");
const brush = easel.getContext("2d", { willReadFrequently: true });

// What the model gets of a picture, a video frame or a bitmap.
function prepare(source, width, height) {
  const scale = Math.min(1, Math.sqrt(MOST_PIXELS / (width * height)));
  easel.width = Math.max(1, Math.round(width * scale));
  easel.height = Math.max(1, Math.round(height * scale));
  brush.imageSmoothingQuality = "high";
  brush.fillStyle = "white";
  brush.fillRect(0, 0, easel.width, easel.height);
  brush.drawImage(source, 0, 0, easel.width, easel.height);
  return cover(brush.getImageData(0, 0, easel.width, easel.height), config.width, config.height);
}

async function decodePicture(blob) {
  try {
    // Colours as they are in the file: the evaluation does not convert colour profiles either.
    return await createImageBitmap(blob, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    const image = new Image();
    image.src = URL.createObjectURL(blob);
    await image.decode();
    return image;
  }
}

async function classify(source, width, height) {
  const start = performance.now();
  const rgba = prepare(source, width, height);
  const middle = performance.now();
  const { logits, shown } = await models[chosen].model.answer(rgba);
  const end = performance.now();
  show(rgba, softmax(logits, models[chosen].model.config.temperature), shown, middle - start, end - middle);
  return logits;
}

async function classifyBlob(blob) {
  await ready;
  complain("");
  let picture;
  try {
    picture = await decodePicture(blob);
  } catch {
    complain(`${blob.name || "This file"} is no picture that this browser can read. JPEG, PNG and WebP always work.`);
    return null;
  }
  stopCamera();
  if (shownUrl) URL.revokeObjectURL(shownUrl);
  shownUrl = URL.createObjectURL(blob);
  part("picture").src = shownUrl;
  part("picture").alt = blob.name ? `Your picture ${blob.name}` : "Your picture";
  stage("picture");
  lastPicture = blob;
  const logits = await classify(picture, picture.width, picture.height);
  remember(blob.name || "pasted picture");
  return logits;
}

// Several pictures one after the other; the last one stays on show.
async function classifyFiles(files) {
  for (const file of files) await classifyBlob(file);
}

function stage(what) {
  for (const id of ["hint", "picture", "video"]) part(id).hidden = id !== what;
}

// ---- the answer -----------------------------------------------------------------------------------------------------

const rows = [];
for (let i = 0; i < Math.min(SHOWN, config.classes.length); i++) {
  const row = make("li");
  const name = make("span", "name", names[i]);
  const share = make("span", "number", "");
  const fill = make("span", "fill");
  const track = make("span", "track");
  track.append(fill);
  row.append(name, share, track);
  part("bars").append(row);
  rows.push({ row, name, share, fill });
}

function percent(p) {
  return p > 0.9995 ? "100 %" : p < 0.0005 ? "0 %" : `${(100 * p).toFixed(p < 0.0995 ? 1 : 0)} %`;
}

function show(rgba, chances, shown, preparing, running) {
  const order = chances.map((_, i) => i).sort((a, b) => chances[b] - chances[a]);
  rows.forEach(({ row, name, share, fill }, i) => {
    name.textContent = names[order[i]];
    share.textContent = percent(chances[order[i]]);
    fill.style.setProperty("--w", `${100 * chances[order[i]]}%`);
    row.classList.toggle("first", i === 0);
  });
  latest = { best: names[order[0]], shown, chances };
  const best = shown ? names[order[0]] : "none of these";
  if (part("best").textContent !== best) part("best").textContent = best;
  part("answer").classList.toggle("none", !shown);
  part("sure").textContent = !shown ? `nearest: ${names[order[0]]}` : chances[order[0]] < 0.5 ? `only ${percent(chances[order[0]])} sure` : `${percent(chances[order[0]])} sure`;
  part("answer").classList.remove("waiting");
  const pixels = new ImageData(Uint8ClampedArray.from(rgba), config.width, config.height);
  for (let i = 3; i < pixels.data.length; i += 4) pixels.data[i] = 255;
  part("seen").getContext("2d").putImageData(pixels, 0, 0);
  part("took").textContent = `This picture: ${milliseconds(preparing)} ms to prepare, ${milliseconds(running)} ms to classify.`;
}

// ---- pictures so far -------------------------------------------------------------------------------------------------

const LISTED = 50; // rows on the page; the CSV has all
const seen = []; // { file, model, best, shown, chances }
let latest = null;

function remember(file) {
  seen.push({ file, model: models[chosen].title, ...latest });
  const { best, shown, chances } = latest;
  const row = make("li");
  row.append(make("span", "name", file), make("span", "number", shown ? `${best} ${percent(Math.max(...chances))}` : "none of these"));
  part("seen-list").prepend(row);
  while (part("seen-list").children.length > LISTED) part("seen-list").lastChild.remove();
  part("count").textContent = `${seen.length}`;
  part("list").hidden = false;
}

// A cell of a CSV file; a leading = + - @ would be a formula in a spreadsheet.
function cell(value) {
  const text = String(value).replace(/^[=+\-@\t]/, "'$&");
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function csv() {
  const head = ["file", "model", "class", "shows a listed class", ...names];
  const lines = seen.map((s) => [s.file, s.model, s.shown ? s.best : "", s.shown ? "yes" : "no", ...s.chances.map((p) => p.toFixed(4))]);
  return [head, ...lines].map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}

function save(name, text, type) {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function forget() {
  seen.length = 0;
  part("seen-list").replaceChildren();
  part("list").hidden = true;
}

// ---- the camera -----------------------------------------------------------------------------------------------------

async function startCamera() {
  complain("");
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
  } catch (error) {
    complain(error.name === "NotAllowedError" ? "The camera was not allowed; a picture works without it." : `No camera: ${error.message}`);
    return;
  }
  const video = part("video");
  video.srcObject = stream;
  await video.play();
  video.classList.toggle("mirrored", stream.getVideoTracks()[0].getSettings().facingMode === "user");
  stage("video");
  part("camera-label").textContent = "Stop";
  part("camera").setAttribute("aria-pressed", "true");
  part("answer").setAttribute("aria-live", "off"); // thirty announcements a second help nobody
  const frame = async () => {
    if (!stream) return;
    if (video.videoWidth) await classify(video, video.videoWidth, video.videoHeight);
    requestAnimationFrame(frame);
  };
  frame();
}

function stopCamera() {
  if (!stream) return;
  stream.getTracks().forEach((track) => track.stop());
  stream = null;
  part("video").srcObject = null;
  part("camera-label").textContent = "Camera";
  part("camera").setAttribute("aria-pressed", "false");
  part("answer").setAttribute("aria-live", "polite");
  stage(part("picture").getAttribute("src") ? "picture" : "hint");
}

// ---- the speed ------------------------------------------------------------------------------------------------------

async function measureAll() {
  part("measure").disabled = true;
  part("speed").setAttribute("aria-busy", "true");
  part("progress").hidden = false;
  const camera = stream !== null;
  stopCamera(); // it would take turns with the clock
  try {
    const times = await measure(models.map((m) => m.model), {
      onRound: (share) => part("progress").style.setProperty("--w", `${100 * share}%`),
    });
    times.forEach((t, i) => { models[i].times = t; });
    showTimes();
  } finally {
    part("measure").disabled = false;
    part("speed").removeAttribute("aria-busy");
    part("progress").hidden = true;
  }
  if (camera) await startCamera();
  return models.map(({ title, times }) => ({ title, ...times }));
}

// One line about a hundred calls, one by one, for a bug report.
async function timeHundred() {
  await ready;
  part("hundred").disabled = true;
  const { model, title, bytes } = models[chosen];
  const rgba = Uint8ClampedArray.from({ length: 4 * config.width * config.height }, () => 256 * Math.random());
  const times = [];
  for (let i = 0; i < 105; i++) {
    const start = performance.now();
    await model.answer(rgba);
    times.push(performance.now() - start);
    if (i % 10 === 0) await new Promise((resolve) => setTimeout(resolve));
  }
  const sorted = Float64Array.from(times.slice(5)).sort(); // the first calls warm up
  const line = `${config.made}; ${title}, ${fileSize(bytes)}, ${config.width} x ${config.height}; 100 runs: median ${milliseconds(quantile(sorted, 0.5))} ms, `
    + `p95 ${milliseconds(quantile(sorted, 0.95))} ms, least ${milliseconds(sorted[0])} ms, most ${milliseconds(sorted[99])} ms; clock step ${milliseconds(clockStep())} ms; `
    + `${runtime.threads} thread${runtime.threads > 1 ? "s" : ""} of ${navigator.hardwareConcurrency ?? "?"}; ${navigator.userAgent}`;
  part("line").textContent = line;
  part("line").hidden = false;
  part("hundred").disabled = false;
  await navigator.clipboard?.writeText(line).then(() => { part("hundred").textContent = "Copied; time again"; }, () => {});
  return line;
}

function showTimes() {
  const { times } = models[chosen];
  part("median").textContent = milliseconds(times.median);
  part("p95").textContent = `${milliseconds(times.p95)} ms`;
  part("runs").textContent = (times.samples * times.calls).toLocaleString("en");
  part("method").textContent = times.calls > 1
    ? `${times.samples} samples, each the mean of ${times.calls} calls, because this browser's clock steps by ${milliseconds(times.step)} ms.`
    : `${times.samples} calls.`;
  const slowest = Math.max(...models.map((m) => m.times.median));
  part("versus").replaceChildren(...(models.length < 2 ? [] : models.map((m, i) => {
    const row = make("li", i === chosen ? "first" : "");
    const track = make("span", "track");
    const fill = make("span", "fill");
    fill.style.setProperty("--w", `${(100 * m.times.median) / slowest}%`);
    track.append(fill);
    const name = make("span", "name", m.title);
    name.append(make("small", "", ` ${fileSize(m.bytes)}`));
    const number = make("span", "number", `${milliseconds(m.times.median)} ms`);
    number.append(make("small", "", ` p95 ${milliseconds(m.times.p95)}`));
    row.append(name, number, track);
    return row;
  })));
  const dense = models.find((m) => m.dense);
  part("gain").textContent = dense ? gain(dense.times.median / times.median) : "";
}

function gain(ratio) {
  const text = (v) => (v >= 10 ? v.toFixed(0) : v.toFixed(1));
  return ratio >= 1 ? `${text(ratio)}× faster than the dense model` : `${text(1 / ratio)}× slower than the dense model`;
}

// A script element, because a page that was opened by double-click may read no other file.
function loadDense() {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = config.dense.file;
    script.onload = () => resolve(globalThis.mvpEdgeDense);
    script.onerror = () => reject(new Error(`${config.dense.file} is not beside this page; copy the whole folder`));
    document.head.append(script);
  });
}

async function addDense() {
  await ready;
  complain("");
  part("dense").disabled = true;
  part("dense").textContent = "Loading the dense model…";
  try {
    const bytes = await unpack(await loadDense());
    delete globalThis.mvpEdgeDense;
    const model = await runtime.open(bytes, { ...config, ...config.dense });
    models.push({ title: "Whole model", bytes: config.dense.bytes, model, dense: true });
    part("dense").hidden = true;
  } catch (error) {
    complain(error.message);
    part("dense").disabled = false;
    part("dense").textContent = "Try again to compare with the dense model";
    return null;
  }
  return measureAll();
}

function choose(index) {
  chosen = index;
  if (models[index].times) showTimes();
  if (lastPicture && !stream) classifyBlob(lastPicture);
}

// ---- start ----------------------------------------------------------------------------------------------------------

async function start() {
  const [script, wasm, first] = await Promise.all([
    unpackElement("ort-script"), unpackElement("ort-wasm"), unpackElement(config.models[0].id),
  ]);
  const [started, model] = await Runtime.start(script, wasm, first, config);
  runtime = started;
  models.push({ ...config.models[0], model });
  for (const each of config.models.slice(1)) {
    models.push({ ...each, model: await runtime.open(await unpackElement(each.id), config) });
  }
  part("threads").textContent = `${runtime.threads} thread${runtime.threads > 1 ? "s" : ""}`;
}

const ready = start();

function connect() {
  part("pick").addEventListener("click", () => part("file").click());
  part("file").addEventListener("change", () => {
    classifyFiles([...part("file").files]);
    part("file").value = ""; // so that the same file can be chosen again
  });
  part("measure").addEventListener("click", measureAll);
  part("hundred").addEventListener("click", timeHundred);
  part("csv").addEventListener("click", () => save("pictures.csv", csv(), "text/csv"));
  part("forget").addEventListener("click", forget);
  part("dense")?.addEventListener("click", addDense);
  document.querySelectorAll("input[name=model]").forEach((radio, i) => radio.addEventListener("change", () => choose(i)));
  document.addEventListener("paste", (event) => {
    classifyFiles([...(event.clipboardData?.files ?? [])].filter((f) => f.type.startsWith("image/")));
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    part("drop").classList.add("over");
  });
  for (const type of ["dragleave", "drop"]) document.addEventListener(type, () => part("drop").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    classifyFiles([...event.dataTransfer.files]);
  });
  const allowed = globalThis.isSecureContext && location.protocol !== "file:" && navigator.mediaDevices?.getUserMedia;
  part("camera").disabled = !allowed;
  part("camera-note").hidden = Boolean(allowed);
  if (allowed) part("camera").addEventListener("click", () => (stream ? stopCamera() : startCamera()));
}

connect();
if (globalThis.isSecureContext && location.protocol.startsWith("http")) {
  const manifest = make("link"); // not for a page that was opened by double-click, which may read no other file
  manifest.rel = "manifest";
  manifest.href = "manifest.webmanifest";
  document.head.append(manifest);
  navigator.serviceWorker?.register("worker.js").catch((error) => console.warn(`not kept for use without a network: ${error.message}`));
}
ready.then(
  async () => {
    document.body.classList.add("ready");
    if (!lastPicture) part("sure").textContent = "show it a picture";
    await measureAll();
  },
  (error) => {
    const old = typeof DecompressionStream === "undefined" || typeof WebAssembly === "undefined";
    complain(old ? "This browser is too old: Chrome 91, Safari 16.4 or Firefox 113 is needed." : `The model does not start here: ${error.message}`);
    part("sure").textContent = "not started";
  },
);

// For tests and for the curious: the page's own functions from the console.
globalThis.mvpEdge = { ready, classify: classifyBlob, classifyFiles, csv, measure: measureAll, timeHundred, addDense, choose, prepare };
