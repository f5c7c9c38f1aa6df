// TinyBase's server on a free port: `tinybase_server.mjs memory|file|sqlite|none FOLDER`.
//
// `memory` has server stores that are saved nowhere; `none` has no server stores at all.

import {once} from 'node:events';
import {createRequire} from 'node:module';
import {join} from 'node:path';
import {loadTinyBase} from '../../tests/conformance/node/tinybase.mjs';
import {serveTasks} from './worker.mjs';

const [storage, folder] = process.argv.slice(2);
const requireTested = createRequire(new URL('../../tests/conformance/node/', import.meta.url));
const {WebSocketServer} = requireTested('ws');
const tinybase = await loadTinyBase();
const {createStore, createServer, createStoragePersister, createFilePersister, load} = tinybase;

const fileOf = (pathId, ending) => join(folder, `${encodeURIComponent(pathId)}.${ending}`);

const sqlitePersisters = async () => {
  const Database = createRequire(import.meta.url)('better-sqlite3');
  const {createBetterSqlite3Persister} = await load('persisters/persister-better-sqlite3');
  return (pathId) => createBetterSqlite3Persister(createStore(), new Database(fileOf(pathId, 'db')), 'mergesync');
};

const persisters = {
  none: () => undefined,
  memory: () => () => createStoragePersister(createStore(), async () => undefined, async () => {}),
  file: () => (pathId) => createFilePersister(createStore(), fileOf(pathId, 'json')),
  sqlite: sqlitePersisters,
};

const createPersisterForPath = await persisters[storage]();
const webSocketServer = new WebSocketServer({port: 0, host: '127.0.0.1', backlog: 4096});
createServer(webSocketServer, {
  createPersisterForPath,
  onIgnoredError: () => {}, // clients that only listen do not answer it
});
await once(webSocketServer, 'listening');
await serveTasks(
  {tinybase: tinybase.version, ws: requireTested('ws/package.json').version},
  {},
  {port: webSocketServer.address().port},
);
