// Runs a network that `lenet-edge export --format wasm` wrote, in this browser.

const MIN_BLOCK_MS = 5; // the clocks of browsers are too coarse to time a single call
const PAGE_BYTES = 65536;
const ARRAYS = { float32: Float32Array, int8: Int8Array, uint8: Uint8Array };

// Open the .wasm file at an address. Its contract, which is embedded in the file, describes inputs
// and outputs. `image` and `logits` are views into its memory; `run` computes one from the other.
export async function openNetwork(address) {
  const { module, instance } = await WebAssembly.instantiateStreaming(fetch(address));
  const [contract] = WebAssembly.Module.customSections(module, "lenet_edge");
  const facts = JSON.parse(new TextDecoder().decode(contract));
  const { inputs, outputs, labels } = facts;
  // Files of version 1 have one factor for all pixels.
  const rule = facts.preprocessing ?? { scale: [facts.pixel_scale], offset: [0] };
  const { memory, __heap_base: heap } = instance.exports;
  const name = Object.keys(instance.exports).find((key) => `${key}_batch` in instance.exports);
  const pixels = inputs[0].shape.slice(1).reduce((a, b) => a * b);
  const classes = outputs[0].shape[1];
  const [Pixels, Logits] = [ARRAYS[inputs[0].dtype], ARRAYS[outputs[0].dtype]];
  const imageAddress = heap.value;
  const logitsAddress = imageAddress + Math.ceil((pixels * Pixels.BYTES_PER_ELEMENT) / 16) * 16;
  const missingBytes = logitsAddress + classes * Logits.BYTES_PER_ELEMENT - memory.buffer.byteLength;
  if (missingBytes > 0) memory.grow(Math.ceil(missingBytes / PAGE_BYTES));
  const run = () => instance.exports[name](imageAddress, logitsAddress);
  measureSeconds(run); // warm-up: browsers recompile code that has run for a while
  return {
    image: new Pixels(memory.buffer, imageAddress, pixels),
    logits: new Logits(memory.buffer, logitsAddress, classes),
    input: inputs[0],
    output: outputs[0],
    run,
    labels: classNames(labels, Math.max(classes, 2)),
    rule,
  };
}

// Return a prediction, as the server does, for rows of pixels from 0 to 255.
export function classify(network, rows) {
  const { image, run, labels, rule } = network;
  const values = rows.flat().flatMap((pixel) => toInputValues(pixel, rule));
  image.set(values.map((value) => quantize(value, network.input)));
  const inference_s = measureSeconds(run);
  // One logit stands for two classes: the second one from 0 on.
  const logits = Array.from(network.logits, (value) => dequantize(value, network.output));
  const scores = logits.length === 1 ? [0, logits[0]] : logits;
  const maximum = Math.max(...scores);
  const exponentials = scores.map((score) => Math.exp(score - maximum));
  const sum = exponentials.reduce((a, b) => a + b);
  const best = logits.length === 1 ? scores.lastIndexOf(maximum) : scores.indexOf(maximum);
  return {
    label: labels[best],
    confidence: exponentials[best] / sum,
    probabilities: Object.fromEntries(exponentials.map((value, index) => [labels[index], value / sum])),
    inference_s,
  };
}

// Return a name for each class, as `class_names` in artifacts/head.py does.
function classNames(labels, count) {
  if (labels.length === 1 && count === 2) return [`not ${labels[0]}`, labels[0]];
  return labels.length ? labels : Array.from({ length: count }, (_, index) => String(index));
}

// Return the input values of one pixel, as `apply` in artifacts/preprocessing.py computes them.
function toInputValues(pixel, { scale, offset, channels }) {
  let values = channels === "bgr" ? [...pixel].reverse() : pixel;
  if (channels === "gray" && pixel.length === 3) {
    values = Array(3).fill(0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2]);
  }
  return values.map((value, i) => value * scale[i % scale.length] + offset[i % offset.length]);
}

// Return a number as a tensor stores it. Integers take the nearest one that they can hold; halves
// go to the even neighbour, as in NumPy.
function quantize(value, { dtype, scale, zero_point: zero }) {
  if (dtype === "float32") return value;
  const steps = Math.fround(value / scale);
  const below = Math.floor(steps);
  const integer = steps - below === 0.5 ? below + (below & 1) : Math.round(steps);
  const [least, most] = dtype === "int8" ? [-128, 127] : [0, 255];
  return Math.min(Math.max(integer + zero, least), most);
}

// Return the number that a stored value stands for.
function dequantize(value, { dtype, scale, zero_point: zero }) {
  return dtype === "float32" ? value : scale * (value - zero);
}

// Return the mean duration of a call, from a block of calls that is long enough to time.
function measureSeconds(run) {
  for (let calls = 1; ; calls *= 2) {
    const start = performance.now();
    for (let call = 0; call < calls; call += 1) run();
    const blockMs = performance.now() - start;
    if (blockMs >= MIN_BLOCK_MS) return blockMs / 1e3 / calls;
  }
}
