// TinyBase's half of store_vs_tinybase.py, driven by JSON lines: `node --expose-gc store.mjs FOLDER ROWS`.
//
// A request {"work": "..."} gives {"us": microseconds, "hashes": [tables, values]}. Names and sizes are those of the
// Python half; what is set up before the clock starts and what is timed must be the same in both.

import {readFileSync} from 'node:fs';
import {join} from 'node:path';
import {createInterface} from 'node:readline';
import {loadTinyBase} from '../../tests/conformance/node/tinybase.mjs';

const CELLS_IN_ROW = 5;
const [folder, rowsText] = process.argv.slice(2);
const rowCount = Number(rowsText);
const {version, createStore, createClient} = await loadTinyBase();

const cells = [];
const rows = [];
for (let row = 0; row < rowCount; row++) {
  const content = {};
  for (let cell = 0; cell < CELLS_IN_ROW; cell++) {
    const value = `value${String(row * CELLS_IN_ROW + cell).padStart(7, '0')}`;
    cells.push([`row${row}`, `cell${cell}`, value]);
    content[`cell${cell}`] = value;
  }
  rows.push([`row${row}`, content]);
}
const singles = cells.filter((_, index) => index % CELLS_IN_ROW === 0);
const texts = Object.fromEntries(
  ['all', 'conflicting', 'frame'].map((name) => [name, readFileSync(join(folder, `${name}.json`), 'utf8')]),
);

const newStore = (now) => createStore('benchmark', now === undefined ? undefined : () => now);
const merge = (store, text) => store.applyMergeableChanges(JSON.parse(text));
const full = () => {
  const store = newStore();
  merge(store, texts.all);
  return store;
};

/** A synchronizer on a socket that is none; frames are put in by hand. */
const connected = async (store) => {
  const listeners = {};
  const socket = {
    readyState: 1,
    OPEN: 1,
    bufferedAmount: 0,
    addEventListener: (event, listener) => (listeners[event] = listener),
    removeEventListener: () => {},
    send: () => {},
    close: () => {},
  };
  const synchronizer = await createClient(store, socket, {timeout: 0.001});
  await synchronizer.startSync();
  return [synchronizer, (data) => listeners.message({data})];
};

/** Each gives [what is set up, what is timed]; what is timed leaves a store. */
const works = {
  'set cells in one transaction': () => [
    newStore(),
    (store) =>
      store.transaction(() => {
        for (const [rowId, cellId, value] of cells) {
          store.setCell('table', rowId, cellId, value);
        }
      }),
  ],
  'set rows in one transaction': () => [
    newStore(),
    (store) =>
      store.transaction(() => {
        for (const [rowId, row] of rows) {
          store.setRow('table', rowId, row);
        }
      }),
  ],
  'single-cell transactions': () => [
    newStore(),
    (store) => {
      for (const [rowId, cellId, value] of singles) {
        store.setCell('table', rowId, cellId, value);
      }
    },
  ],
  'single-cell transactions in a full store': () => [
    full(),
    (store) => {
      for (const [rowId, cellId] of singles) {
        store.setCell('table', rowId, cellId, 'changed');
      }
    },
  ],
  'single-cell transactions, hashes after each': () => [
    newStore(),
    (store) => {
      for (const [rowId, cellId, value] of singles) {
        store.setCell('table', rowId, cellId, value);
        store.getMergeableContentHashes();
      }
    },
  ],
  'decode + merge into an empty store': () => [newStore(), (store) => merge(store, texts.all)],
  'decode + merge the same again': () => [full(), (store) => merge(store, texts.all)],
  'decode + merge, half of it newer': () => [full(), (store) => merge(store, texts.conflicting)],
  'frame through the synchronizer into an empty store': async () => {
    const store = newStore();
    const [synchronizer, receive] = await connected(store);
    const merged = new Promise((resolve) => store.addDidFinishTransactionListener(resolve));
    return [
      store,
      async () => {
        receive(texts.frame);
        await merged;
      },
      () => synchronizer.destroy(),
    ];
  },
};

const time = async (work) => {
  const [store, timed, after] = await works[work]();
  globalThis.gc();
  const start = performance.now();
  await timed(store);
  const hashes = store.getMergeableContentHashes();
  const us = (performance.now() - start) * 1000;
  await after?.();
  return {us, hashes};
};

const memory = () => {
  globalThis.gc();
  const before = process.memoryUsage().heapUsed;
  const store = full();
  const hashes = store.getMergeableContentHashes();
  globalThis.gc();
  return {bytes: process.memoryUsage().heapUsed - before, hashes};
};

const write = (line) => process.stdout.write(JSON.stringify(line) + '\n');
write({node: process.version, tinybase: version});
for await (const line of createInterface({input: process.stdin})) {
  const {work} = JSON.parse(line);
  write(work === 'memory' ? memory() : await time(work));
}
