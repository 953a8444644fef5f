// The strokes of a drawing as the fragment of an address: "#drawing=" and base64url text. Each
// stroke is its number of points in two bytes, then two bytes for each point.

const PREFIX = "#drawing=";
const MAX_LENGTH = 100_000;
const MIN_STEP = 2; // points that lie closer are left out

// Return the fragment for strokes on a square of this size.
export function encodeStrokes(strokes, size) {
  const bytes = strokes.flatMap((stroke) => {
    const points = stroke
      .map((point) => point.map((value) => Math.min(Math.max(Math.round((255 * value) / size), 0), 255)))
      .filter(([x, y], index, all) => isFar([x, y], all[index - 1]) || index === all.length - 1)
      .slice(0, 65_535);
    return [points.length >> 8, points.length & 255, ...points.flat()];
  });
  const text = btoa(bytes.map((byte) => String.fromCharCode(byte)).join(""));
  return PREFIX + text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function isFar([x, y], previous) {
  return !previous || Math.hypot(x - previous[0], y - previous[1]) >= MIN_STEP;
}

// Return the strokes of a fragment, or null if it has none.
export function decodeStrokes(fragment, size) {
  if (!fragment.startsWith(PREFIX) || fragment.length > MAX_LENGTH) return null;
  let bytes;
  try {
    const text = fragment.slice(PREFIX.length).replaceAll("-", "+").replaceAll("_", "/");
    bytes = Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return null;
  }
  const strokes = [];
  for (let start = 0; start < bytes.length; ) {
    const end = start + 2 + 2 * (256 * bytes[start] + bytes[start + 1]);
    if (!(end > start + 2 && end <= bytes.length)) return null;
    const stroke = [];
    for (let index = start + 2; index < end; index += 2) {
      stroke.push([(bytes[index] * size) / 255, (bytes[index + 1] * size) / 255]);
    }
    strokes.push(stroke);
    start = end;
  }
  return strokes.length ? strokes : null;
}
