// The drawing goes to the server as a PNG, a photo as the file that it is; the answers come back
// as JSON. Nothing is kept, and nothing is asked of any other server.

import { classify, openNetwork } from "./wasm.js";

const MAX_BYTES = 16 * 2 ** 20; // the server's limit
const SHOWN_CLASSES = 10;
const ASK_EVERY_MS = 200; // while one draws

const byId = (id) => document.getElementById(id);
const paper = byId("paper");
const pen = paper.getContext("2d");
const cards = []; // in the order of the models, which the answers have too; then those run here
const networks = []; // that this browser runs itself, each with its card
let asked = false; // a request is on its way
let next = null; // what to ask when it is back
let drawing = null; // the pointer that draws, and where it was
let timer = null;
let generation = 0; // of the drawing; answers to one that was cleared are dropped

function copyOf(id) {
  return byId(id).content.firstElementChild.cloneNode(true);
}

function say(text) {
  byId("status").textContent = text;
}

// The models

async function showModels() {
  const reply = await fetch("models");
  const { models, in_browser, error } = await reply.json();
  if (!reply.ok) throw new Error(error);
  for (const model of models) addCard(model, `${model.target}, on the server`);
  await Promise.all(
    in_browser.map(async (model) => {
      const card = addCard(model, "in your browser");
      try {
        networks.push({ card, network: await openNetwork(model.address) });
      } catch (failed) {
        card.failure = { error: `This browser cannot run it: ${failed.message}` };
        show(card, null);
      }
    }),
  );
}

function addCard({ file, size_bytes, labels }, about) {
  const card = copyOf("model");
  card.querySelector("h2").append(...breakable(file));
  card.querySelector(".about").textContent = about;
  byId("models").append(card);
  cards.push({ card, size: `${Math.round(size_bytes / 1000)} kB`, labels, failure: null });
  show(cards.at(-1), null);
  return cards.at(-1);
}

function percent(share) {
  return `${Number((100 * share).toFixed(1))} %`;
}

// A file's name, that a narrow card may break at its joints.
function breakable(name) {
  return name.split(/(?<=_)|(?=\.)/).flatMap((part) => [part, document.createElement("wbr")]);
}

function duration(seconds) {
  if (seconds < 1e-3) return `${(1e6 * seconds).toFixed(1)} µs`;
  return `${(1e3 * seconds).toFixed(1)} ms`;
}

function show({ card, size, labels, failure }, given) {
  const answer = failure ?? given;
  const said = answer && !answer.error;
  const output = card.querySelector("output");
  output.textContent = said ? answer.label : "–";
  output.classList.toggle("long", output.textContent.length > 2);
  output.classList.toggle("none", !said);
  card.querySelector(".sure").textContent = said ? percent(answer.confidence) : "";
  card.classList.toggle("failed", Boolean(answer?.error));
  card.querySelector(".time").textContent =
    answer?.error ?? (said ? `${duration(answer.inference_s)} · ${size}` : size);
  let rows = Object.entries(said ? answer.probabilities : Object.fromEntries(labels.map((l) => [l, 0])));
  if (labels.length) rows.sort(([a], [b]) => labels.indexOf(a) - labels.indexOf(b));
  if (rows.length > SHOWN_CLASSES) rows = rows.sort((a, b) => b[1] - a[1]).slice(0, SHOWN_CLASSES);
  const bars = card.querySelector(".bars");
  while (bars.children.length > rows.length) bars.lastElementChild.remove();
  while (bars.children.length < rows.length) bars.append(copyOf("bar"));
  rows.forEach(([label, share], place) => {
    const bar = bars.children[place];
    bar.classList.toggle("best", said && label === answer.label);
    bar.querySelector(".label").textContent = label;
    bar.querySelector(".fill").style.width = `${100 * share}%`;
    bar.querySelector(".share").textContent = said ? percent(share) : "";
  });
}

function showSeen(rows) {
  const seen = byId("seen");
  seen.height = rows.length;
  seen.width = rows[0].length;
  const pixels = rows.flat().flatMap((p) => [p[0], p[1] ?? p[0], p[2] ?? p[0], 255]);
  const image = new ImageData(new Uint8ClampedArray(pixels), seen.width, seen.height);
  seen.getContext("2d").putImageData(image, 0, 0);
}

// Asking: one request at a time, and then the newest drawing

async function ask(body, type) {
  if (asked) {
    next = [body, type];
    return;
  }
  asked = true;
  const about = generation;
  try {
    const reply = await fetch("predict", { method: "POST", headers: { "Content-Type": type }, body });
    const found = await reply.json();
    if (about === generation) {
      say(reply.ok ? "" : found.error);
      found.answers?.forEach((answer, place) => show(cards[place], answer));
      if (reply.ok) {
        showSeen(found.seen);
        for (const { card, network } of networks) show(card, classify(network, found.seen));
      }
    }
  } catch {
    say("The server does not answer. Is it still running?");
  }
  asked = false;
  if (next) {
    const later = next;
    next = null;
    ask(...later);
  }
}

function askDrawing() {
  clearTimeout(timer);
  timer = null;
  paper.toBlob((blob) => ask(blob, "image/png"));
}

// Drawing

function clear() {
  generation += 1;
  next = null;
  clearTimeout(timer);
  timer = null;
  paper.classList.remove("photo");
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, paper.width, paper.height);
  byId("hint").hidden = false;
  byId("seen").getContext("2d").clearRect(0, 0, 28, 28);
  say("");
  for (const card of cards) show(card, null);
}

function place(event) {
  const box = paper.getBoundingClientRect();
  return [
    ((event.clientX - box.left) * paper.width) / box.width,
    ((event.clientY - box.top) * paper.height) / box.height,
  ];
}

function line(from, to) {
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
  if (drawing || event.button !== 0) return;
  event.preventDefault();
  if (paper.classList.contains("photo")) clear();
  byId("hint").hidden = true;
  paper.setPointerCapture(event.pointerId);
  drawing = { id: event.pointerId, at: place(event) };
  line(drawing.at, drawing.at);
});

paper.addEventListener("pointermove", (event) => {
  if (drawing?.id !== event.pointerId) return;
  const events = event.getCoalescedEvents?.() ?? [];
  for (const one of events.length ? events : [event]) {
    const to = place(one);
    line(drawing.at, to);
    drawing.at = to;
  }
  timer ??= setTimeout(askDrawing, ASK_EVERY_MS);
});

for (const end of ["pointerup", "pointercancel"]) {
  paper.addEventListener(end, (event) => {
    if (drawing?.id !== event.pointerId) return;
    drawing = null;
    askDrawing();
  });
}

byId("clear").addEventListener("click", clear);

// Photos

async function take(file) {
  if (!file) return;
  clear();
  byId("hint").hidden = true;
  if (file.size > MAX_BYTES) {
    say("The file is larger than 16 MiB. Make the image smaller.");
    return;
  }
  try {
    const image = await createImageBitmap(file);
    const scale = Math.min(paper.width / image.width, paper.height / image.height);
    const [width, height] = [image.width * scale, image.height * scale];
    paper.classList.add("photo");
    pen.drawImage(image, (paper.width - width) / 2, (paper.height - height) / 2, width, height);
  } catch {
    say("This is not an image that can be shown. Take a PNG or JPEG file.");
    return;
  }
  ask(file, ["image/png", "image/jpeg"].includes(file.type) ? file.type : "application/octet-stream");
}

byId("photo").addEventListener("change", (event) => {
  take(event.target.files[0]);
  event.target.value = ""; // so that the same file can be taken again
});

for (const kind of ["dragover", "dragleave", "drop"]) {
  addEventListener(kind, (event) => {
    event.preventDefault(); // or the browser leaves the page for the file
    byId("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files[0]);
  });
}

addEventListener("paste", (event) => take(event.clipboardData.files[0]));

clear();
showModels().catch((error) => say(error.message || "The server does not answer."));
