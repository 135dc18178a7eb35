// Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
// What becomes of an anomaly map: values at another size, its regions, and the heat map over the image.

const OUTLINE_PARTS = 400; // an outline is this many times thinner than the picture is long

/** Return, per output position, both neighbours and the weight of the second (half-pixel centres, edges held). */
function neighbours(inputSize, outputSize) {
  return Array.from({ length: outputSize }, (_, position) => {
    const place = Math.max(((position + 0.5) * inputSize) / outputSize - 0.5, 0);
    const first = Math.min(Math.trunc(place), inputSize - 1);
    return [first, Math.min(first + 1, inputSize - 1), place - first];
  });
}

/**
 * Resize a map bilinearly.
 * @param {{values: Float32Array, height: number, width: number}} map
 * @returns {{values: Float32Array, height: number, width: number}}
 */
export function resizeMap(map, height, width) {
  const columns = neighbours(map.width, width);
  const values = new Float32Array(height * width);
  let place = 0;
  for (const [above, below, low] of neighbours(map.height, height)) {
    for (const [left, right, share] of columns) {
      const top = map.values[above * map.width + left] * (1 - share) + map.values[above * map.width + right] * share;
      const bottom = map.values[below * map.width + left] * (1 - share) + map.values[below * map.width + right] * share;
      values[place++] = top * (1 - low) + bottom * low;
    }
  }
  return { values, height, width };
}

/**
 * Find the 8-connected regions of the pixels from a threshold on, the highest peak first.
 * @returns {{box: {xmin: number, ymin: number, xmax: number, ymax: number}, area: number, peak: number}[]}
 */
export function findRegions({ values, height, width }, threshold) {
  const seen = new Uint8Array(values.length);
  const regions = [];
  for (let start = 0; start < values.length; start++) {
    if (seen[start] || values[start] < threshold) continue;
    const box = { xmin: width, ymin: height, xmax: 0, ymax: 0 };
    const region = { box, area: 0, peak: 0 };
    const waiting = [start];
    seen[start] = 1;
    while (waiting.length) {
      const place = waiting.pop();
      const x = place % width;
      const y = (place - x) / width;
      region.area++;
      region.peak = Math.max(region.peak, values[place]);
      box.xmin = Math.min(box.xmin, x);
      box.ymin = Math.min(box.ymin, y);
      box.xmax = Math.max(box.xmax, x + 1);
      box.ymax = Math.max(box.ymax, y + 1);
      for (let row = Math.max(y - 1, 0); row <= Math.min(y + 1, height - 1); row++) {
        for (let column = Math.max(x - 1, 0); column <= Math.min(x + 1, width - 1); column++) {
          const next = row * width + column;
          if (!seen[next] && values[next] >= threshold) {
            seen[next] = 1;
            waiting.push(next);
          }
        }
      }
    }
    regions.push(region);
  }
  return regions.sort((one, other) => other.peak - one.peak);
}

/** Map a value to a level: 0 (transparent) at 0, 127.5 at `middle`, 255 at `maximum`. */
function levelOf(value, middle, maximum) {
  const level = value < middle ? (value / middle) * 127.5 : 127.5 + ((value - middle) / (maximum - middle)) * 127.5;
  return Math.round(Math.min(Math.max(level, 0), 255));
}

/** Return the colours of all 256 levels, mixed from three. */
function colourTable(colours) {
  return Array.from({ length: 256 }, (_, level) => {
    const [from, to, share] = level < 127.5 ? [0, 1, level / 127.5] : [1, 2, level / 127.5 - 1];
    return colours[from].map((value, channel) => Math.round(value + (colours[to][channel] - value) * share));
  });
}

/** Remove `radius` pixels from all edges of a mask of 0 and 1; the picture's own border is no edge. */
function erode(mask, height, width, radius) {
  const along = (source, lines, length, lineStep, step) => {
    const result = new Uint8Array(source.length);
    for (let line = 0; line < lines; line++) {
      const start = line * lineStep;
      let empty = 0; // pixels outside the mask within the radius
      for (let x = 0; x < Math.min(radius, length); x++) empty += 1 - source[start + x * step];
      for (let x = 0; x < length; x++) {
        if (x + radius < length) empty += 1 - source[start + (x + radius) * step];
        if (x > radius) empty -= 1 - source[start + (x - radius - 1) * step];
        result[start + x * step] = empty ? 0 : 1;
      }
    }
    return result;
  };
  return along(along(mask, height, width, width, 1), width, height, 1, width);
}

/**
 * Draw the heat map over a picture, as `draw_overlay` of the Python package does.
 * @param {ImageData} picture Changed in place.
 * @param {{values: Float32Array, height: number, width: number}} map
 * @param {{colours: number[][], middle: number, maximum: number, opacity: number, threshold: number}} settings
 */
export function paintOverlay(picture, map, { colours, middle, maximum, opacity, threshold }) {
  const { data, height, width } = picture;
  const levels = resizeMap({ ...map, values: map.values.map((value) => levelOf(value, middle, maximum)) }, height, width);
  const table = colourTable(colours);
  for (let place = 0; place < levels.values.length; place++) {
    const level = Math.round(levels.values[place]);
    const share = (level / 255) * opacity;
    for (let channel = 0; channel < 3; channel++) {
      data[place * 4 + channel] += (table[level][channel] - data[place * 4 + channel]) * share;
    }
  }
  let mask = Uint8Array.from(resizeMap(map, height, width).values, (value) => (value >= threshold ? 1 : 0));
  const radius = Math.max(1, Math.round(Math.max(height, width) / OUTLINE_PARTS));
  for (const grey of [255, 0]) { // white with a black seam shows on any background
    const inner = erode(mask, height, width, radius);
    for (let place = 0; place < mask.length; place++) {
      if (mask[place] && !inner[place]) data.fill(grey, place * 4, place * 4 + 3);
    }
    mask = inner;
  }
}
