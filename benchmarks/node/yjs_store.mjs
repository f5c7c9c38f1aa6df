// Yjs.

import {createRequire} from 'node:module';
import * as Y from 'yjs';
import {serveDocuments} from './documents.mjs';

const {version} = createRequire(import.meta.url)('yjs/package.json');

await serveDocuments(
  {yjs: version},
  {
    make: () => new Y.Doc(),
    transact: (doc, write) => {
      doc.transact(() => write(doc.getMap('table')));
      return doc;
    },
    addRow: (table, rowId) => table.set(rowId, new Y.Map()),
    rowOf: (table, rowId) => table.get(rowId),
    setCell: (row, cellId, value) => row.set(cellId, value),
    update: (doc) => Y.encodeStateAsUpdate(doc),
    apply: (doc, update) => {
      Y.applyUpdate(doc, update);
      return doc;
    },
  },
);
