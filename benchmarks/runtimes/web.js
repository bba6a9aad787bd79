// One model behind the page's own runtime. Tensors come and go as bytes in base64, so that no bit is lost.

async function start({ script, wasm, model }) {
  const ort = await importOrt(await unpack(script), await unpack(wasm), 1);
  return new Runtime(ort, 1).open(await unpack(model));
}

async function logits({ ort, session }, { dtype, dims, data }) {
  const bytes = await unpack(data);
  const values = dtype === "uint8" ? bytes : new Float32Array(bytes.buffer);
  const outputs = await session.run({ [session.inputNames[0]]: new ort.Tensor(dtype, values, dims) });
  const found = outputs[session.outputNames[0]];
  if (found.type !== "float32") throw new Error(`the output is ${found.type}, not float32`);
  const { buffer, byteOffset, byteLength } = found.data;
  const codes = Array.from(new Uint8Array(buffer, byteOffset, byteLength), (code) => String.fromCharCode(code));
  return { dims: found.dims, data: btoa(codes.join("")) };
}
