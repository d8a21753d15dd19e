// A chat with the bundle under /model/, on WebGPU where the browser has it, else on the CPU.
// In the address: ?device=wasm forces the CPU, ?tokens=64 limits an answer.
import {
  AutoModelForCausalLM,
  AutoTokenizer,
  InterruptableStoppingCriteria,
  TextStreamer,
  env,
} from '@huggingface/transformers';

const find = (id) => document.getElementById(id);
const asked = new URLSearchParams(location.search);
const limit = Number(asked.get('tokens') ?? 256);
const messages = [];
const stop = new InterruptableStoppingCriteria();
let busy = false;

env.allowRemoteModels = false;
env.allowLocalModels = true;
env.localModelPath = '/';
env.backends.onnx.wasm.wasmPaths = '/lib/onnxruntime-web/dist/';
// Browsers count hardware threads and phones have slow cores among them; more than four rarely help there. A page that is
// not isolated has no shared memory, and so one.
env.backends.onnx.wasm.numThreads = self.crossOriginIsolated
  ? Math.min(4, navigator.hardwareConcurrency ?? 1)
  : 1;

// What a test reads: loading, ready, busy, failed.
function state(name, text) {
  document.body.dataset.state = name;
  find('status').textContent = text;
}

function turn(role, text) {
  const element = document.createElement('div');
  element.className = `turn ${role}`;
  element.textContent = text;
  find('talk').append(element);
  element.scrollIntoView({ block: 'end' });
  return element;
}

async function chooseDevice(dtype) {
  if (asked.get('device')) return asked.get('device');
  const adapter = navigator.gpu && (await navigator.gpu.requestAdapter());
  if (!adapter) return 'wasm';
  const half = dtype.endsWith('f16') || dtype === 'fp16';
  return half && !adapter.features.has('shader-f16') ? 'wasm' : 'webgpu';
}

async function load() {
  const settings = await (await fetch('/model/config.json')).json();
  const manifest = await fetch('/model/edgepeft.json').then((reply) => (reply.ok ? reply.json() : {}));
  find('name').textContent = manifest.result?.base ?? 'edgepeft';
  const device = await chooseDevice(settings['transformers.js_config']?.dtype ?? 'fp32');
  const sizes = new Map();
  const tokenizer = await AutoTokenizer.from_pretrained('model');
  const model = await AutoModelForCausalLM.from_pretrained('model', {
    device,
    progress_callback: (event) => {
      if (event.status !== 'progress') return;
      sizes.set(event.file, event.loaded);
      const loaded = [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0);
      state('loading', `Loading… ${(loaded / 1e6).toFixed(0)} MB`);
    },
  });
  document.body.dataset.device = device;
  return { tokenizer, model, device };
}

async function answer({ tokenizer, model, device }, text) {
  messages.push({ role: 'user', content: text });
  turn('user', text);
  const shown = turn('assistant', '');
  const inputs = tokenizer.apply_chat_template(messages, { add_generation_prompt: true, return_dict: true });
  const started = performance.now();
  let first = 0;
  let count = 0;
  const streamer = new TextStreamer(tokenizer, {
    skip_prompt: true,
    skip_special_tokens: true,
    callback_function: (piece) => {
      shown.textContent += piece;
      shown.scrollIntoView({ block: 'end' });
    },
    token_callback_function: () => {
      first ||= performance.now();
      count += 1;
      const speed = count > 1 ? ((count - 1) * 1000) / (performance.now() - first) : 0;
      const wait = ((first - started) / 1000).toFixed(2);
      state('busy', `${device}: ${count} tokens, ${speed.toFixed(1)} tokens/s, first after ${wait} s`);
    },
  });
  stop.reset();
  const output = await model.generate({
    ...inputs,
    max_new_tokens: limit,
    do_sample: false,
    repetition_penalty: 1.0,
    streamer,
    stopping_criteria: stop,
  });
  const ids = output.tolist()[0].slice(inputs.input_ids.dims[1]).map(Number);
  shown.dataset.ids = JSON.stringify(ids);
  messages.push({ role: 'assistant', content: shown.textContent });
}

function listen(loaded) {
  const form = find('form');
  const field = find('prompt');
  const button = find('send');
  field.disabled = button.disabled = false;
  field.focus();
  field.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (busy) {
      stop.interrupt();
      return;
    }
    const text = field.value.trim();
    if (!text) return;
    busy = true;
    field.value = '';
    button.textContent = 'Stop';
    state('busy', `${loaded.device}: reading…`);
    try {
      await answer(loaded, text);
      state('ready', find('status').textContent);
    } catch (error) {
      turn('error', String(error));
      state('failed', 'That went wrong.');
    }
    busy = false;
    button.textContent = 'Send';
  });
}

try {
  state('loading', 'Loading…');
  const loaded = await load();
  listen(loaded);
  state('ready', `Ready on ${loaded.device}.`);
} catch (error) {
  turn('error', String(error));
  // onnxruntime's build for WebGPU has no lookup of blocks for the processor.
  if (/GatherBlockQuantized/.test(String(error)))
    turn('error', 'This bundle needs WebGPU with what its numbers ask for; the target wasm-int4 runs in every browser.');
  state('failed', 'The model could not be loaded.');
}
