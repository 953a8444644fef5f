// A network of `lenet-edge export --format wasm`, run by this browser itself.

const BLOCK_MS = 5; // a browser's clock is too coarse for one call
const PAGE_BYTES = 65536;

// The file says of itself what goes in and what comes out; images and logits lie in its memory.
export async function openNetwork(address) {
  const { module, instance } = await WebAssembly.instantiateStreaming(fetch(address));
  const [contract] = WebAssembly.Module.customSections(module, "lenet_edge");
  const { inputs, outputs, labels, pixel_scale: scale } = JSON.parse(new TextDecoder().decode(contract));
  const { memory, __heap_base: free } = instance.exports;
  const name = Object.keys(instance.exports).find((one) => `${one}_batch` in instance.exports);
  const pixels = inputs[0].shape.slice(1).reduce((a, b) => a * b);
  const classes = outputs[0].shape[1];
  const [from, to] = [free.value, free.value + 4 * pixels];
  const missing = to + 4 * classes - memory.buffer.byteLength;
  if (missing > 0) memory.grow(Math.ceil(missing / PAGE_BYTES));
  const run = () => instance.exports[name](from, to);
  secondsOf(run); // browsers compile once more, and better, what has run for a while
  return {
    image: new Float32Array(memory.buffer, from, pixels),
    logits: new Float32Array(memory.buffer, to, classes),
    run,
    labels: labels.length ? labels : Array.from({ length: classes }, (_, place) => String(place)),
    scale,
  };
}

// What the server says of its own models, said of rows of pixels from 0 to 255.
export function classify({ image, logits, run, labels, scale }, rows) {
  image.set(rows.flat(2).map((pixel) => pixel * scale));
  const inference_s = secondsOf(run);
  const most = Math.max(...logits);
  const parts = Array.from(logits, (logit) => Math.exp(logit - most));
  const whole = parts.reduce((a, b) => a + b);
  const best = logits.indexOf(most);
  return {
    label: labels[best],
    confidence: parts[best] / whole,
    probabilities: Object.fromEntries(parts.map((part, place) => [labels[place], part / whole])),
    inference_s,
  };
}

function secondsOf(run) {
  for (let calls = 1; ; calls *= 2) {
    const begin = performance.now();
    for (let call = 0; call < calls; call += 1) run();
    const block_ms = performance.now() - begin;
    if (block_ms >= BLOCK_MS) return block_ms / 1e3 / calls;
  }
}
