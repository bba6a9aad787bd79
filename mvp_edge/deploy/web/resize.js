// Pictures to the model's pixels, step for step as Pillow does it in the evaluation: box reduction to three times the
// size, then an antialiased triangle filter, rows before columns, each pass rounded to 8 bits. The result is the same to
// the bit, but for tall pictures in Pillow 13 and later, which filters their columns first: one grey level of rounding.

// The largest centred rectangle of the aspect ratio outWidth:outHeight.
function coverBox(width, height, outWidth, outHeight) {
  const scale = Math.max(outWidth / width, outHeight / height);
  const boxWidth = Math.min(outWidth / scale, width);
  const boxHeight = Math.min(outHeight / scale, height);
  const left = (width - boxWidth) / 2;
  const top = (height - boxHeight) / 2;
  return [left, top, left + boxWidth, top + boxHeight];
}

// Means of whole blocks of factorX x factorY pixels within an integer box; the last blocks may be smaller.
function reduceBlocks(image, factorX, factorY, box) {
  const [left, top, right, bottom] = box;
  const width = Math.ceil((right - left) / factorX);
  const height = Math.ceil((bottom - top) / factorY);
  const data = new Uint8ClampedArray(4 * width * height);
  for (let y = 0; y < height; y++) {
    const y0 = top + y * factorY;
    const y1 = Math.min(y0 + factorY, bottom);
    for (let x = 0; x < width; x++) {
      const x0 = left + x * factorX;
      const x1 = Math.min(x0 + factorX, right);
      const count = (x1 - x0) * (y1 - y0);
      const multiplier = Math.floor(2 ** 24 / count);
      let red = count >> 1, green = red, blue = red;
      for (let v = y0; v < y1; v++) {
        for (let i = 4 * (v * image.width + x0), end = i + 4 * (x1 - x0); i < end; i += 4) {
          red += image.data[i];
          green += image.data[i + 1];
          blue += image.data[i + 2];
        }
      }
      const out = 4 * (y * width + x);
      data[out] = Math.floor(red * multiplier / 2 ** 24);
      data[out + 1] = Math.floor(green * multiplier / 2 ** 24);
      data[out + 2] = Math.floor(blue * multiplier / 2 ** 24);
    }
  }
  return { data, width, height };
}

// For each output pixel: where its window begins, and the weights of the pixels in it as 22-bit fixed-point numbers.
function triangle(size, from, to, outSize) {
  const scale = Math.fround(to - from) / outSize;
  const support = Math.max(scale, 1);
  const windows = [];
  for (let out = 0; out < outSize; out++) {
    const center = from + (out + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const last = Math.min(size, Math.trunc(center + support + 0.5));
    const weights = [];
    for (let i = first; i < last; i++) weights.push(Math.max(0, 1 - Math.abs((i - center + 0.5) / support)));
    const sum = weights.reduce((a, b) => a + b, 0);
    windows.push({ first, weights: Int32Array.from(weights, (w) => Math.trunc(0.5 + (sum ? w / sum : w) * 2 ** 22)) });
  }
  return windows;
}

// One pass of the filter, along the rows (step 4, line 4 * width) or down the columns (the other way round).
function filterPass(source, target, windows, lines, sourceStep, sourceLine, targetStep, targetLine) {
  for (let line = 0; line < lines; line++) {
    for (let out = 0; out < windows.length; out++) {
      const { first, weights } = windows[out];
      let red = 1 << 21, green = red, blue = red;
      let i = line * sourceLine + first * sourceStep;
      for (let k = 0; k < weights.length; k++, i += sourceStep) {
        red += source[i] * weights[k];
        green += source[i + 1] * weights[k];
        blue += source[i + 2] * weights[k];
      }
      const o = line * targetLine + out * targetStep;
      target[o] = red >> 22; // a clamped array: what rounding put above 255 stays 255
      target[o + 1] = green >> 22;
      target[o + 2] = blue >> 22;
    }
  }
}

// { data: RGBA, width, height } to RGBA bytes of outWidth x outHeight; alpha is not looked at.
function cover(image, outWidth, outHeight) {
  if (image.width === outWidth && image.height === outHeight) return image.data;
  let box = coverBox(image.width, image.height, outWidth, outHeight);
  const scaleX = (box[2] - box[0]) / outWidth;
  const scaleY = (box[3] - box[1]) / outHeight;
  const factorX = Math.trunc(scaleX / 3) || 1;
  const factorY = Math.trunc(scaleY / 3) || 1;
  if (factorX > 1 || factorY > 1) {
    const around = [
      Math.max(0, Math.trunc(box[0] - scaleX / 2)),
      Math.max(0, Math.trunc(box[1] - scaleY / 2)),
      Math.min(image.width, Math.ceil(box[2] + scaleX / 2)),
      Math.min(image.height, Math.ceil(box[3] + scaleY / 2)),
    ];
    image = reduceBlocks(image, factorX, factorY, around);
    box = box.map((edge, i) => (edge - around[i % 2]) / (i % 2 ? factorY : factorX));
  }
  const [left, top, right, bottom] = box.map(Math.fround);
  const wide = new Uint8ClampedArray(4 * outWidth * image.height);
  const small = new Uint8ClampedArray(4 * outWidth * outHeight);
  const columns = triangle(image.width, left, right, outWidth);
  filterPass(image.data, wide, columns, image.height, 4, 4 * image.width, 4, 4 * outWidth);
  filterPass(wide, small, triangle(image.height, top, bottom, outHeight), outWidth, 4 * outWidth, 4, 4 * outWidth, 4);
  return small;
}

// RGBA bytes to what the model takes.
function toInput(rgba, { dtype, layout, width, height }) {
  const count = width * height;
  const input = dtype === "uint8" ? new Uint8Array(3 * count) : new Float32Array(3 * count);
  const divisor = dtype === "uint8" ? 1 : 255;
  for (let i = 0; i < count; i++) {
    for (let c = 0; c < 3; c++) {
      input[layout === "NCHW" ? c * count + i : 3 * i + c] = rgba[4 * i + c] / divisor;
    }
  }
  return input;
}
