// Stock TinyBase: adds a pet, waits for one from Python, and says what there is.
import {createMergeableStore} from 'tinybase';
import {createWsSynchronizer} from 'tinybase/synchronizers/synchronizer-ws-client';
import {WebSocket} from 'ws';

const store = createMergeableStore();
const synchronizer = await createWsSynchronizer(store, new WebSocket('ws://localhost:8047/petShop'));
await synchronizer.startSync();
store.setCell('pets', 'felix', 'species', 'cat');

while (!store.hasRow('pets', 'fido')) {
  await new Promise((resolve) => setTimeout(resolve, 50));
}
console.log('Node:', JSON.stringify(store.getRow('pets', 'fido')));
await synchronizer.destroy();
