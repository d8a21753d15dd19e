// Ask a bundle in Node: node answer.mjs BUNDLE [--ids] [--tokens 256] PROMPT...
// Needs `npm install --ignore-scripts` in samples/. With --ids a line is the answer's token ids as JSON.
import { threads } from './setup.mjs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { AutoModelForCausalLM, AutoTokenizer, TextStreamer, env } from '@huggingface/transformers';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { ids: { type: 'boolean', default: false }, tokens: { type: 'string', default: '256' } },
});
const [folder, ...prompts] = positionals;
if (!prompts.length) {
  console.error('usage: node answer.mjs BUNDLE [--ids] [--tokens 256] PROMPT...');
  process.exit(2);
}

// The bundle is a folder here, and nothing is fetched from elsewhere.
env.allowRemoteModels = false;
const bundle = resolve(folder);
const tokenizer = await AutoTokenizer.from_pretrained(bundle);
const model = await AutoModelForCausalLM.from_pretrained(bundle, {
  device: 'cpu',
  session_options: { intraOpNumThreads: threads },
});

for (const prompt of prompts) {
  const inputs = tokenizer.apply_chat_template([{ role: 'user', content: prompt }], {
    add_generation_prompt: true,
    return_dict: true,
  });
  const streamer = values.ids
    ? null
    : new TextStreamer(tokenizer, { skip_prompt: true, skip_special_tokens: true });
  const output = await model.generate({
    ...inputs,
    max_new_tokens: Number(values.tokens),
    do_sample: false,
    repetition_penalty: 1.0,
    streamer,
  });
  if (values.ids) {
    const answer = output.tolist()[0].slice(inputs.input_ids.dims[1]);
    console.log(JSON.stringify(answer.map(Number)));
  }
}
