// Sends the drawing as a PNG file, and a photo as the chosen file, to the server, and shows the
// predictions that come back as JSON. The page stores nothing and contacts no other server.

import { decodeStrokes, encodeStrokes } from "./link.js";
import { classify, openNetwork } from "./wasm.js";

const MAX_BYTES = 16 * 2 ** 20; // the limit of the server
const SHOWN_CLASSES = 10;
const LISTED_CLASSES = 12;
const PREDICT_EVERY_MS = 200; // while the user draws

const byId = (id) => document.getElementById(id);
const paper = byId("paper");
const pen = paper.getContext("2d");
const cards = []; // first those of the server's models, in the order of its list
const browserModels = []; // { card, network } for each model that this browser runs
let requestPending = false;
let nextRequest = null; // arguments of the request that follows the pending one
let stroke = null; // id and last position of the drawing pointer
let timer = null;
let strokes = []; // of the drawing, each a list of positions; empty for other images
let lastImage = null; // arguments of the last request, for models that are resumed
let generation = 0; // number of clears; predictions for an earlier drawing are dropped

function cloneTemplate(id) {
  return byId(id).content.firstElementChild.cloneNode(true);
}

function showStatus(text, isError = true) {
  byId("status").textContent = text;
  byId("status").classList.toggle("wrong", isError);
}

// Models

async function loadModels() {
  const response = await fetch("models");
  const { subject, models, in_browser, error } = await response.json();
  if (!response.ok) throw new Error(error);
  if (subject !== "digit") showImageTexts([...models, ...in_browser].map(({ labels }) => labels));
  for (const model of models) addPause(addCard(model, `${model.target}, on the server`));
  byId("pause-all").hidden = models.length < 2;
  showPauses();
  await Promise.all(
    in_browser.map(async (model) => {
      const card = addCard(model, "in your browser");
      try {
        browserModels.push({ card, network: await openNetwork(model.address) });
      } catch (error) {
        card.failure = { error: `This browser cannot run the model: ${error.message}` };
        showPrediction(card, null);
      }
    }),
  );
}

// The page itself has the texts for digits. Others name the classes in their own words.
function showImageTexts(labelsOfModels) {
  const [labels] = labelsOfModels;
  const isShared = labels.length && labelsOfModels.every((others) => String(others) === String(labels));
  const isShort = isShared && labels.length <= 3 && labels.join().length <= 40;
  const title = isShort ? `${labels.join(" or ")}?` : "Classify an image";
  document.title = `${title} – lenet-edge`;
  document.querySelector("h1").textContent = title;
  const rest = labels.length - LISTED_CLASSES;
  const names = labels.slice(0, rest > 1 ? LISTED_CLASSES : undefined).join(", ");
  const classes = isShared && !isShort ? `The classes are ${names}${rest > 1 ? ` and ${rest} more` : ""}. ` : "";
  byId("about").textContent = `${classes}Each model classifies the image. Its latency is measured where it runs.`;
  byId("models").classList.toggle("words", labels.some((label) => label.length > 8));
  byId("hint").textContent = "Drop or paste a photo here, or draw with a finger, a pen or the mouse";
  paper.setAttribute("aria-label", "Drawing area");
}

function addCard({ file, size_bytes, labels }, about) {
  const element = cloneTemplate("model");
  element.querySelector("h2").append(...withLineBreaks(file));
  element.querySelector(".about").textContent = about;
  byId("models").append(element);
  const size = `${Math.round(size_bytes / 1000)} kB`;
  const card = { element, file, size, labels, failure: null, isPaused: false };
  cards.push(card);
  showPrediction(card, null);
  return card;
}

// Pauses: the server does not run a paused model.

function serverCards() {
  return cards.filter(({ pause }) => pause);
}

function addPause(card) {
  card.pause = card.element.querySelector(".pause");
  card.pause.hidden = false;
  card.pause.addEventListener("click", () => setPaused([card], !card.isPaused));
}

byId("pause-all").addEventListener("click", () => {
  setPaused(serverCards(), !serverCards().every(({ isPaused }) => isPaused));
});

function setPaused(changed, isPaused) {
  for (const card of changed) {
    card.isPaused = isPaused;
    if (isPaused) showPrediction(card, null);
  }
  showPauses();
  if (!isPaused && lastImage) predict(...lastImage);
}

function showPauses() {
  for (const { element, file, isPaused, pause } of serverCards()) {
    element.classList.toggle("paused", isPaused);
    pause.textContent = isPaused ? "Resume" : "Pause";
    pause.setAttribute("aria-label", `${pause.textContent} ${file}`);
  }
  const areAllPaused = serverCards().every(({ isPaused }) => isPaused);
  byId("pause-all").textContent = `${areAllPaused ? "Resume" : "Pause"} all models of the server`;
}

function formatPercent(share) {
  return `${Number((100 * share).toFixed(1))} %`;
}

// Allow line breaks in a file name after each "_" and before each ".".
function withLineBreaks(name) {
  return name.split(/(?<=_)|(?=\.)/).flatMap((part) => [part, document.createElement("wbr")]);
}

function formatDuration(seconds) {
  if (seconds < 1e-3) return `${(1e6 * seconds).toFixed(1)} µs`;
  return `${(1e3 * seconds).toFixed(1)} ms`;
}

// Show a prediction or an error on a card; null shows an empty card.
function showPrediction({ element, size, labels, failure, isPaused }, result) {
  const prediction = failure ?? (isPaused ? null : result);
  const succeeded = prediction && !prediction.error;
  const output = element.querySelector("output");
  // Independent labels: those of 0.5 and more.
  const label = prediction?.labels ? prediction.labels.join(" + ") || "none" : prediction?.label;
  output.textContent = succeeded ? label : "–";
  output.classList.toggle("long", output.textContent.length > 2);
  output.classList.toggle("none", !succeeded);
  element.querySelector(".confidence").textContent = succeeded ? formatPercent(prediction.confidence) : "";
  element.classList.toggle("failed", Boolean(prediction?.error));
  element.querySelector(".time").textContent =
    prediction?.error ?? (isPaused ? `paused · ${size}` : succeeded ? `${formatDuration(prediction.inference_s)} · ${size}` : size);
  const shares = succeeded ? prediction.probabilities : Object.fromEntries(labels.map((label) => [label, 0]));
  let rows = Object.entries(shares);
  if (labels.length) rows.sort(([a], [b]) => labels.indexOf(a) - labels.indexOf(b));
  if (rows.length > SHOWN_CLASSES) rows = rows.sort((a, b) => b[1] - a[1]).slice(0, SHOWN_CLASSES);
  const bars = element.querySelector(".bars");
  while (bars.children.length > rows.length) bars.lastElementChild.remove();
  while (bars.children.length < rows.length) bars.append(cloneTemplate("bar"));
  rows.forEach(([name, share], index) => {
    const bar = bars.children[index];
    const isBest = prediction?.labels?.includes(name) ?? name === prediction?.label;
    bar.classList.toggle("best", Boolean(succeeded) && isBest);
    bar.querySelector(".label").textContent = name;
    bar.querySelector(".fill").style.width = `${100 * share}%`;
    bar.querySelector(".share").textContent = succeeded ? formatPercent(share) : "";
  });
}

// Show the preprocessed image: rows of pixels with 1 or 3 channels from 0 to 255.
function showInput(rows) {
  const canvas = byId("seen");
  canvas.height = rows.length;
  canvas.width = rows[0].length;
  const pixels = rows.flat().flatMap((p) => [p[0], p[1] ?? p[0], p[2] ?? p[0], 255]);
  const image = new ImageData(new Uint8ClampedArray(pixels), canvas.width, canvas.height);
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// Requests: one at a time, then one with the latest image

async function predict(body, type) {
  lastImage = [body, type];
  if (requestPending) {
    nextRequest = [body, type];
    return;
  }
  const running = serverCards().filter(({ isPaused }) => !isPaused);
  if (!running.length && !browserModels.length) return;
  requestPending = true;
  const startGeneration = generation;
  try {
    const address = `predict?models=${running.map((card) => cards.indexOf(card)).join()}`;
    const response = await fetch(address, { method: "POST", headers: { "Content-Type": type }, body });
    const { answers, seen, error } = await response.json();
    if (startGeneration === generation) {
      showStatus(response.ok ? "" : error);
      answers?.forEach((prediction, index) => showPrediction(running[index], prediction));
      if (response.ok) {
        showInput(seen);
        for (const { card, network } of browserModels) showPrediction(card, classify(network, seen));
      }
    }
  } catch {
    showStatus("The server does not respond. Check that it is running.");
  }
  requestPending = false;
  if (nextRequest) {
    const request = nextRequest;
    nextRequest = null;
    predict(...request);
  }
}

function predictDrawing() {
  clearTimeout(timer);
  timer = null;
  paper.toBlob((blob) => predict(blob, "image/png"));
}

// Drawing

function clear() {
  generation += 1;
  nextRequest = lastImage = null;
  clearTimeout(timer);
  timer = null;
  showStrokes([]);
  paper.classList.remove("photo");
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, paper.width, paper.height);
  byId("hint").hidden = false;
  byId("seen").getContext("2d").clearRect(0, 0, 28, 28);
  showStatus("");
  for (const card of cards) showPrediction(card, null);
}

function positionOf(event) {
  const box = paper.getBoundingClientRect();
  return [
    ((event.clientX - box.left) * paper.width) / box.width,
    ((event.clientY - box.top) * paper.height) / box.height,
  ];
}

function drawLine(from, to) {
  pen.lineWidth = 18;
  pen.lineCap = "round";
  pen.lineJoin = "round";
  pen.strokeStyle = "#000";
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(...to);
  pen.stroke();
}

paper.addEventListener("pointerdown", (event) => {
  if (stroke || event.button !== 0) return;
  event.preventDefault();
  if (paper.classList.contains("photo")) clear();
  byId("hint").hidden = true;
  paper.setPointerCapture(event.pointerId);
  stroke = { pointerId: event.pointerId, position: positionOf(event) };
  showStrokes([...strokes, [stroke.position]]);
  drawLine(stroke.position, stroke.position);
});

paper.addEventListener("pointermove", (event) => {
  if (stroke?.pointerId !== event.pointerId) return;
  const coalesced = event.getCoalescedEvents?.() ?? [];
  for (const move of coalesced.length ? coalesced : [event]) {
    const position = positionOf(move);
    drawLine(stroke.position, position);
    stroke.position = position;
    strokes.at(-1).push(position);
  }
  timer ??= setTimeout(predictDrawing, PREDICT_EVERY_MS);
});

for (const type of ["pointerup", "pointercancel"]) {
  paper.addEventListener(type, (event) => {
    if (stroke?.pointerId !== event.pointerId) return;
    stroke = null;
    predictDrawing();
  });
}

byId("clear").addEventListener("click", clear);

// Links to a drawing: it is in the fragment, which browsers send to no server

function showStrokes(drawn) {
  strokes = drawn;
  byId("link").disabled = !drawn.length;
  if (location.hash) history.replaceState(null, "", location.pathname); // that of another drawing
}

function openLink(fragment) {
  if (!fragment) return;
  clear();
  const drawn = decodeStrokes(fragment, paper.width);
  if (!drawn) {
    showStatus("The link has no drawing. Copy all of it.");
    return;
  }
  byId("hint").hidden = true;
  for (const line of drawn) {
    line.forEach((position, index) => drawLine(line[Math.max(index - 1, 0)], position));
  }
  showStrokes(drawn);
  history.replaceState(null, "", fragment);
  predictDrawing();
}

byId("link").addEventListener("click", async () => {
  history.replaceState(null, "", encodeStrokes(strokes, paper.width));
  try {
    await navigator.clipboard.writeText(location.href);
    showStatus("The link is copied. The drawing is in it, and on no server.", false);
  } catch {
    showStatus("The link is in the address bar. The drawing is in it, and on no server.", false);
  }
});

addEventListener("hashchange", () => openLink(location.hash));

// Photos

async function loadPhoto(file) {
  if (!file) return;
  clear();
  byId("hint").hidden = true;
  if (file.size > MAX_BYTES) {
    showStatus("The file is larger than 16 MiB. Choose a smaller image.");
    return;
  }
  try {
    const image = await createImageBitmap(file);
    const scale = Math.min(paper.width / image.width, paper.height / image.height);
    const [width, height] = [image.width * scale, image.height * scale];
    paper.classList.add("photo");
    pen.drawImage(image, (paper.width - width) / 2, (paper.height - height) / 2, width, height);
  } catch {
    showStatus("This browser cannot show the file. Choose a PNG or JPEG image.");
    return;
  }
  predict(file, ["image/png", "image/jpeg"].includes(file.type) ? file.type : "application/octet-stream");
}

for (const id of ["photo", "camera"]) {
  byId(id).addEventListener("change", (event) => {
    loadPhoto(event.target.files[0]);
    event.target.value = ""; // so that choosing the same file again is a change
  });
}

for (const type of ["dragover", "dragleave", "drop"]) {
  addEventListener(type, (event) => {
    event.preventDefault(); // otherwise the browser opens the file instead of this page
    byId("drop").classList.toggle("over", type === "dragover");
    if (type === "drop") loadPhoto(event.dataTransfer.files[0]);
  });
}

addEventListener("paste", (event) => {
  const [file] = event.clipboardData.files;
  if (file) loadPhoto(file);
  else showStatus("The clipboard has no image. Copy one first.");
});

// Browsers let a page read the clipboard only on this machine, or over HTTPS.
byId("paste").hidden = !navigator.clipboard?.read;
byId("paste").addEventListener("click", async () => {
  try {
    for (const item of await navigator.clipboard.read()) {
      const type = item.types.find((name) => name === "image/png" || name === "image/jpeg");
      if (type) {
        loadPhoto(await item.getType(type));
        return;
      }
    }
    showStatus("The clipboard has no image. Copy one first.");
  } catch {
    showStatus("The browser does not let this page read the clipboard. Press Ctrl+V.");
  }
});

// Samples: the models get their very pixels

async function loadSamples() {
  const { samples, channels } = await (await fetch("samples")).json();
  const buttons = samples.map(({ label, address }) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = label;
    button.setAttribute("aria-label", `Image of ${label}`);
    const image = button.appendChild(new Image());
    image.alt = "";
    image.src = address;
    button.addEventListener("click", () => predictSample(image, channels));
    return button;
  });
  // An image that is still loading has no pixels to send.
  try {
    await Promise.all(buttons.map((button) => button.firstChild.decode()));
  } catch {
    return; // the server stopped meanwhile
  }
  byId("samples").append(...buttons);
  byId("samples").hidden = !samples.length;
}

function predictSample(image, channels) {
  clear();
  byId("hint").hidden = true;
  paper.classList.add("photo");
  pen.imageSmoothingEnabled = false;
  pen.drawImage(image, 0, 0, paper.width, paper.height);
  pen.imageSmoothingEnabled = true;
  predict(JSON.stringify({ pixels: pixelsOf(image, channels) }), "application/json");
}

// Return rows of pixels; those of grey images are single numbers.
function pixelsOf(image, channels) {
  const { naturalWidth: width, naturalHeight: height } = image;
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  return Array.from({ length: height }, (_, y) =>
    Array.from({ length: width }, (_, x) => {
      const [red, green, blue] = data.subarray(4 * (y * width + x));
      return channels === 1 ? red : [red, green, blue];
    }),
  );
}

const fragment = location.hash;
clear();
loadModels()
  .then(() => Promise.all([openLink(fragment), loadSamples()]))
  .catch((error) => showStatus(error.message || "The server does not respond."));
