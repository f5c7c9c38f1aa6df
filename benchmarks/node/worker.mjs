// The other end of processes.Worker, for peers on Node: tasks by name, one line of JSON each.

import {monitorEventLoopDelay} from 'node:perf_hooks';
import {createInterface} from 'node:readline';

const say = (answer) => process.stdout.write(JSON.stringify(answer) + '\n');

const CELLS_IN_ROW = 5;

/** Row id, cell id and value of every cell; data.py has the same. */
export const cellsOf = (rows, inRow = CELLS_IN_ROW) => {
  const cells = [];
  for (let row = 0; row < rows; row++) {
    for (let cell = 0; cell < inRow; cell++) {
      const value = `value${String(row * inRow + cell).padStart(7, '0')}`;
      cells.push([`row${row}`, `cell${cell}`, value]);
    }
  }
  return cells;
};

/** The same as rows by id. */
export const rowsOf = (rows, inRow = CELLS_IN_ROW) => {
  const table = {};
  for (const [rowId, cellId, value] of cellsOf(rows, inRow)) {
    (table[rowId] ??= {})[cellId] = value;
  }
  return table;
};

/** Seconds that it takes, after a garbage collection. */
export const timed = async (work) => {
  globalThis.gc();
  const start = performance.now();
  await work();
  return {seconds: (performance.now() - start) / 1000};
};

/** Bytes that what is made keeps on the heap. */
export const weighed = (make) => {
  globalThis.gc();
  const {heapUsed, external} = process.memoryUsage();
  const made = make();
  globalThis.gc();
  const now = process.memoryUsage();
  return {bytes: now.heapUsed + now.external - heapUsed - external, made: made !== undefined};
};

/** Tells for how long the event loop did nothing else. */
const watching = () => {
  const delay = monitorEventLoopDelay({resolution: 1});
  return {
    watch: () => {
      delay.enable();
      delay.reset();
      return {};
    },
    blocked: () => {
      delay.disable();
      return {seconds: delay.max / 1e9};
    },
  };
};

/** Does what is asked until nobody asks any more; `started` is what to say of a server that runs meanwhile. */
export const serveTasks = async (versions, tasks, started = {}) => {
  const all = {...tasks, ...watching()};
  process.on('SIGUSR2', () => globalThis.gc()); // so that memory can be weighed from outside
  say({versions: {...versions, node: process.version}, ...started});
  for await (const line of createInterface({input: process.stdin})) {
    const {task, ...request} = JSON.parse(line);
    try {
      say(await all[task](request));
    } catch (error) {
      console.error(error);
      say({error: String(error)});
    }
  }
  process.exit(0);
};
