// TinyBase's clients, stock: stores by name, on servers of any make. The tasks are those of peers/clients.py.

import {createRequire} from 'node:module';
import {loadTinyBase} from '../../tests/conformance/node/tinybase.mjs';
import {rowsOf, serveTasks} from './worker.mjs';

const {WebSocket} = createRequire(new URL('../../tests/conformance/node/', import.meta.url))('ws');
const {version, createStore, createClient} = await loadTinyBase();

const stores = new Map();
const clients = new Map();

/** Seconds of the monotonic clock, which all processes share. */
const now = () => Number(process.hrtime.bigint()) / 1e9;

const TRANSACTIONS_ROWS = 10_000;

const isThere = (store, {rows, row, value}) =>
  (rows === undefined || store.getRowCount('table') >= rows) &&
  (row === undefined || store.getCell('table', row, 'cell0') === value);

/** When what is waited for is there; found out by a listener, not by polling. */
const arrival = (store, until) =>
  new Promise((resolve) => {
    if (isThere(store, until)) {
      resolve(now());
      return;
    }
    const id = store.addDidFinishTransactionListener(() => {
      if (isThere(store, until)) {
        const at = now();
        store.delListener(id);
        resolve(at);
      }
    });
  });

const connect = async (name, url) => {
  const webSocket = new WebSocket(url, {perMessageDeflate: false, maxPayload: 1 << 30});
  const client = await createClient(stores.get(name), webSocket, {timeout: 30});
  clients.set(name, client);
  await client.startSync();
};

await serveTasks(
  {tinybase: version},
  {
    new: ({store}) => {
      stores.set(store, createStore());
      return {};
    },
    fill: ({store, rows}) => {
      const entries = Object.entries(rowsOf(rows));
      for (let at = 0; at < entries.length; at += TRANSACTIONS_ROWS) {
        stores.get(store).transaction(() => {
          for (const [rowId, row] of entries.slice(at, at + TRANSACTIONS_ROWS)) {
            stores.get(store).setRow('table', rowId, row);
          }
        });
      }
      return {};
    },
    copy: ({store, to}) => {
      stores.set(to, createStore());
      stores.get(to).setMergeableContent(stores.get(store).getMergeableContent());
      return {};
    },
    connect: async ({store, url}) => {
      await connect(store, url);
      return {};
    },
    join: async ({store, url, until}) => {
      const began = now();
      stores.set(store, createStore());
      const arrived = arrival(stores.get(store), until);
      await connect(store, url);
      return {seconds: (await arrived) - began};
    },
    reconnect: async ({store, url, watched, until}) => {
      const began = now();
      const arrived = arrival(stores.get(watched), until);
      await connect(store, url);
      return {seconds: (await arrived) - began};
    },
    wait: async ({store, until}) => {
      await arrival(stores.get(store), until);
      return {};
    },
    change: ({store, rows, count, value}) => {
      stores.get(store).transaction(() => {
        for (let number = 0; number < count; number++) {
          stores.get(store).setCell('table', `row${Math.floor((number * rows) / count)}`, 'cell0', value);
        }
      });
      return {};
    },
    disconnect: async ({store}) => {
      await clients.get(store)?.destroy();
      clients.delete(store);
      return {};
    },
    drop: async ({store}) => {
      await clients.get(store)?.destroy();
      clients.delete(store);
      stores.delete(store);
      return {};
    },
    digest: ({store}) => ({digest: JSON.stringify(stores.get(store).getMergeableContentHashes())}),
  },
);
