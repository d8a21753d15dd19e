// What a sample does before the runtime loads; import it first.
import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';

// onnxruntime reports to its makers unless this is set when it loads.
process.env.ORT_DISABLE_TELEMETRY = '1';

// One thread for each core: a second one in the same core, or beyond the processors that this process may use, makes
// the others wait.
const smt = '/sys/devices/system/cpu/smt/active';
const perCore = existsSync(smt) && readFileSync(smt, 'utf8').trim() === '1' ? 2 : 1;
export const threads = Math.max(1, Math.floor(availableParallelism() / perCore));
