// Unpacking what the page carries, running models, and timing them on this device.

// The gzipped, base64-coded text of an element to bytes; the text is let go.
async function unpackElement(id) {
  const element = document.getElementById(id);
  const bytes = await unpack(element.textContent);
  element.remove();
  return bytes;
}

async function unpack(text) {
  const packed = atob(text.trim());
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i++) bytes[i] = packed.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Threads need a page that is isolated from others, which only a server can say; everything else runs on one.
function wantedThreads() {
  return globalThis.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
}

// The runtime's module, from bytes: nothing is fetched.
async function importOrt(script, wasm, threads) {
  const ort = await import(URL.createObjectURL(new Blob([script], { type: "text/javascript" })));
  ort.env.logLevel = "error";
  ort.env.wasm.wasmBinary = wasm.slice().buffer;
  ort.env.wasm.numThreads = threads;
  return ort;
}

class Runtime {
  constructor(ort, threads) {
    this.ort = ort;
    this.threads = threads;
  }

  // A runtime that has run `probe`, a small model; where threads are allowed but fail, one that uses a single thread.
  static async start(script, wasm, probe, config) {
    let failure;
    for (const threads of new Set([wantedThreads(), 1])) {
      try {
        const runtime = new Runtime(await importOrt(script, wasm, threads), threads);
        const model = await runtime.open(probe, config);
        await model.logits(new Uint8ClampedArray(4 * config.width * config.height));
        return [runtime, model];
      } catch (error) {
        failure = error;
      }
    }
    throw failure;
  }

  async open(bytes, config) {
    const session = await this.ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
    return new Model(this.ort, session, config);
  }
}

class Model {
  constructor(ort, session, config) {
    this.ort = ort;
    this.session = session;
    this.config = config;
  }

  feed(rgba) {
    const { dtype, layout, width, height } = this.config;
    const dims = layout === "NCHW" ? [1, 3, height, width] : [1, height, width, 3];
    return { [this.config.input]: new this.ort.Tensor(dtype, toInput(rgba, this.config), dims) };
  }

  async logits(rgba) {
    return (await this.answer(rgba)).logits;
  }

  // Logits, and whether the picture shows any of the classes; true where the model cannot tell.
  async answer(rgba) {
    const outputs = await this.session.run(this.feed(rgba));
    const { output, known } = this.config;
    const shown = !known || outputs[known.name].data[0] >= known.threshold;
    return { logits: Array.from(outputs[output].data), shown };
  }
}

function softmax(logits, temperature = 1) {
  const top = Math.max(...logits);
  const powers = logits.map((v) => Math.exp((v - top) / temperature));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((v) => v / sum);
}

// The smallest step of this browser's clock in milliseconds; browsers blunt it, some to a whole millisecond.
function clockStep() {
  let step = Infinity;
  for (let i = 0; i < 8; i++) {
    const start = performance.now();
    let now = start;
    while (now === start) now = performance.now();
    step = Math.min(step, now - start);
  }
  return step;
}

async function timeCalls(model, feed, calls) {
  const start = performance.now();
  for (let i = 0; i < calls; i++) await model.session.run(feed);
  return (performance.now() - start) / calls;
}

function quantile(sorted, share) {
  const place = share * (sorted.length - 1);
  const low = Math.floor(place);
  return sorted[low] + (place - low) * (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]);
}

// Time models in turns, so that a change of clock speed hits all of them alike. A sample is the mean of as many calls as
// the clock needs to see it; what is told are quantiles of the samples.
async function measure(models, { seconds = 2, rounds = 8, onRound = () => {} } = {}) {
  const step = clockStep();
  const plans = [];
  for (const model of models) {
    const { width, height } = model.config;
    const feed = model.feed(Uint8ClampedArray.from({ length: 4 * width * height }, () => 256 * Math.random()));
    await timeCalls(model, feed, 3);
    let once = Infinity;
    for (let i = 0; i < 5; i++) once = Math.min(once, await timeCalls(model, feed, 2));
    const calls = Math.max(1, Math.min(500, Math.ceil((20 * step) / Math.max(once, step / 50))));
    const samples = Math.max(4, Math.min(25, Math.round(100 / (calls * once)))); // a block takes about 0.1 s
    plans.push({ model, feed, calls, samples, times: [] });
  }
  const end = performance.now() + 1000 * seconds * models.length;
  for (let round = 0; round < rounds && (round < 3 || performance.now() < end); round++) {
    for (const { model, feed, calls, samples, times } of plans) {
      await timeCalls(model, feed, calls); // the model before has filled the caches with its own weights
      for (let i = 0; i < samples; i++) times.push(await timeCalls(model, feed, calls));
    }
    onRound((round + 1) / rounds);
    await new Promise((resolve) => setTimeout(resolve)); // let the page breathe
  }
  return plans.map(({ calls, times }) => {
    const sorted = Float64Array.from(times).sort();
    return { median: quantile(sorted, 0.5), p95: quantile(sorted, 0.95), samples: times.length, calls, step };
  });
}
