// Read texts with a bundle of an encoder in Node: node read.mjs BUNDLE TEXT...
// Needs `npm install --ignore-scripts` in samples/. Each line is JSON: labels, tagged tokens, or a vector.
import { threads } from './setup.mjs';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { env, pipeline } from '@huggingface/transformers';

const [folder, ...texts] = process.argv.slice(2);
if (!texts.length) {
  console.error('usage: node read.mjs BUNDLE TEXT...');
  process.exit(2);
}

// The bundle is a folder here, and nothing is fetched from elsewhere.
env.allowRemoteModels = false;
const bundle = resolve(folder);
const { task, pooling } = JSON.parse(readFileSync(`${bundle}/edgepeft.json`, 'utf8')).result;
const read = await pipeline(task, bundle, {
  device: 'cpu',
  session_options: { intraOpNumThreads: threads },
});
const options =
  task === 'feature-extraction'
    ? { pooling: pooling.mode, normalize: pooling.normalize }
    : task === 'text-classification'
      ? { top_k: null }
      : {};

for (const text of texts) {
  const found = await read(text, options);
  console.log(JSON.stringify(task === 'feature-extraction' ? Array.from(found.data) : found));
}
