// Read texts with a bundle of an encoder in Node: node read.mjs BUNDLE TEXT...
// A bundle that reads two texts together takes them in turn: TEXT SECOND TEXT SECOND...
// Needs `npm install --ignore-scripts` in samples/. Each line is JSON: labels, tagged tokens, a vector, or the
// numbers of the head.
import { threads } from './setup.mjs';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { AutoModelForSequenceClassification, AutoTokenizer, env, pipeline } from '@huggingface/transformers';

const [folder, ...texts] = process.argv.slice(2);
if (!texts.length) {
  console.error('usage: node read.mjs BUNDLE TEXT...');
  process.exit(2);
}

// The bundle is a folder here, and nothing is fetched from elsewhere.
env.allowRemoteModels = false;
const bundle = resolve(folder);
const { task, pooling, paired } = JSON.parse(readFileSync(`${bundle}/edgepeft.json`, 'utf8')).result;
const how = { device: 'cpu', session_options: { intraOpNumThreads: threads } };
if (paired) {
  const tokenizer = await AutoTokenizer.from_pretrained(bundle);
  const model = await AutoModelForSequenceClassification.from_pretrained(bundle, how);
  for (let at = 0; at + 1 < texts.length; at += 2) {
    const { logits } = await model(tokenizer(texts[at], { text_pair: texts[at + 1] }));
    console.log(JSON.stringify(Array.from(logits.data)));
  }
  process.exit(0);
}
const kind = task === 'multi-label-classification' ? 'text-classification' : task;
const read = await pipeline(kind, bundle, how);
const options =
  task === 'feature-extraction'
    ? { pooling: pooling.mode, normalize: pooling.normalize }
    : kind === 'text-classification'
      ? { top_k: null }
      : {};

for (const text of texts) {
  const found = await read(text, options);
  console.log(JSON.stringify(task === 'feature-extraction' ? Array.from(found.data) : found));
}
