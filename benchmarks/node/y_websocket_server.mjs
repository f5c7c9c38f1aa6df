// y-websocket's server on a free port, as its own bin/server has it.

import {once} from 'node:events';
import {createServer} from 'node:http';
import {createRequire} from 'node:module';
import {serveTasks} from './worker.mjs';

const require = createRequire(import.meta.url);
const {WebSocketServer} = require('ws');
const {setupWSConnection} = require('./node_modules/y-websocket/bin/utils.cjs');
const {dependencies} = require('./package.json');

const server = createServer();
const webSocketServer = new WebSocketServer({noServer: true});
webSocketServer.on('connection', setupWSConnection);
server.on('upgrade', (request, socket, head) =>
  webSocketServer.handleUpgrade(request, socket, head, (webSocket) =>
    webSocketServer.emit('connection', webSocket, request),
  ),
);
server.listen({port: 0, host: '127.0.0.1', backlog: 4096});
await once(server, 'listening');
await serveTasks(
  {'y-websocket': dependencies['y-websocket'], yjs: dependencies.yjs},
  {},
  {port: server.address().port},
);
