// TinyBase's clients, stock: stores by name, on servers of any make. The tasks are those of peers/clients.py.

import {createRequire} from 'node:module';
import {loadTinyBase} from '../../tests/conformance/node/tinybase.mjs';
import {rowsOf, serveTasks} from './worker.mjs';

const {WebSocket} = createRequire(new URL('../../tests/conformance/node/', import.meta.url))('ws');
const {version, createStore, createClient} = await loadTinyBase();

const stores = new Map();
const clients = new Map();
let expected;

/** Seconds of the monotonic clock, which all processes share. */
const now = () => Number(process.hrtime.bigint()) / 1e9;

const TRANSACTIONS_ROWS = 10_000;
const STEP = 7919;

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
    fill: ({store, rows, cells}) => {
      const entries = Object.entries(rowsOf(rows, cells));
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
    expect: ({store, until}) => {
      expected = arrival(stores.get(store), until);
      return {};
    },
    arrived: async () => ({at: await expected}),
    storm: async ({url, count, until}) => {
      const began = now();
      let frames = 0;
      let bytes = 0;
      const join = async () => {
        const store = createStore();
        const webSocket = new WebSocket(url, {perMessageDeflate: false});
        webSocket.on('message', (data) => {
          frames++;
          bytes += data.length;
        });
        const arrived = arrival(store, until);
        const client = await createClient(store, webSocket, {timeout: 60});
        await client.startSync();
        return [await arrived, client];
      };
      const joined = await Promise.all(Array.from({length: count}, join));
      const seconds = Math.max(...joined.map(([at]) => at)) - began;
      await Promise.all(joined.map(([, client]) => client.destroy()));
      return {seconds, frames, bytes};
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
    write_each: ({store, rows, first, count}) => {
      for (let number = first; number < first + count; number++) {
        const value = `changed${String(number).padStart(8, '0')}`;
        stores.get(store).setCell('table', `row${(number * STEP) % rows}`, 'cell0', value);
      }
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
