// The other end of processes.Worker, for peers on Node: tasks by name, one line of JSON each.

import {createInterface} from 'node:readline';

export const say = (answer) => process.stdout.write(JSON.stringify(answer) + '\n');

/** Collects garbage on SIGUSR2, so that memory can be weighed from outside. */
export const collectOnSignal = () => process.on('SIGUSR2', () => globalThis.gc());

export const CELLS_IN_ROW = 5;

/** Row id, cell id and value of every cell; data.py has the same. */
export const cellsOf = (rows) => {
  const cells = [];
  for (let row = 0; row < rows; row++) {
    for (let cell = 0; cell < CELLS_IN_ROW; cell++) {
      const value = `value${String(row * CELLS_IN_ROW + cell).padStart(7, '0')}`;
      cells.push([`row${row}`, `cell${cell}`, value]);
    }
  }
  return cells;
};

/** The same as rows by id. */
export const rowsOf = (rows) => {
  const table = {};
  for (const [rowId, cellId, value] of cellsOf(rows)) {
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

/** Does what is asked until nobody asks any more. */
export const serveTasks = async (versions, tasks) => {
  collectOnSignal();
  say({versions: {...versions, node: process.version}});
  for await (const line of createInterface({input: process.stdin})) {
    const {task, ...request} = JSON.parse(line);
    try {
      say(await tasks[task](request));
    } catch (error) {
      console.error(error);
      say({error: String(error)});
    }
  }
  process.exit(0);
};
