// TinyBase's store, for W1, W2 and W6.

import {readFileSync} from 'node:fs';
import {loadTinyBase} from '../../tests/conformance/node/tinybase.mjs';
import {cellsOf, rowsOf, serveTasks, timed, weighed} from './worker.mjs';

const {version, createStore} = await loadTinyBase();

const newStore = () => createStore('benchmark');
const merge = (store, text) => store.applyMergeableChanges(JSON.parse(text));

// TinyBase computes hashes as it goes, so there is nothing to add for them.
const timedStore = async (store, work) => ({
  ...(await timed(work)),
  hashes: store.getMergeableContentHashes(),
});

await serveTasks(
  {tinybase: version},
  {
    together: ({rows}) => {
      const store = newStore();
      const cells = cellsOf(rows);
      return timedStore(store, () =>
        store.transaction(() => {
          for (const [rowId, cellId, value] of cells) {
            store.setCell('table', rowId, cellId, value);
          }
        }),
      );
    },
    singly: ({rows, count, full}) => {
      const store = newStore();
      const table = rowsOf(rows);
      const rowIds = Object.keys(table).slice(0, count);
      if (full) {
        store.setTable('table', table);
      }
      return timedStore(store, () => {
        for (const rowId of rowIds) {
          store.setCell('table', rowId, 'cell0', 'changed');
        }
      });
    },
    merge: ({text, base}) => {
      const store = newStore();
      if (base) {
        merge(store, readFileSync(base, 'utf8'));
      }
      const changes = readFileSync(text, 'utf8');
      return timedStore(store, () => merge(store, changes));
    },
    memory: ({text}) => {
      const changes = readFileSync(text, 'utf8');
      return weighed(() => {
        const store = newStore();
        merge(store, changes);
        return store;
      });
    },
  },
);
