// hocuspocus on a free port: `hocuspocus_server.mjs memory|sqlite FOLDER`.

import {SQLite} from '@hocuspocus/extension-sqlite';
import {Server} from '@hocuspocus/server';
import {createRequire} from 'node:module';
import {join} from 'node:path';
import {serveTasks} from './worker.mjs';

const [storage, folder] = process.argv.slice(2);
const {dependencies} = createRequire(import.meta.url)('./package.json');

// By itself it saves after 2 to 10 s; here as soon as it can, so that what is durable can be counted.
const saving =
  storage === 'sqlite'
    ? {extensions: [new SQLite({database: join(folder, 'hocuspocus.db')})], debounce: 0, maxDebounce: 0}
    : {};
const server = new Server({port: 0, address: '127.0.0.1', quiet: true, ...saving});
await server.listen();
await serveTasks({hocuspocus: dependencies['@hocuspocus/server']}, {}, {port: server.address.port});
