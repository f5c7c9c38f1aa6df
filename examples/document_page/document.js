// A JSON document that pages and programs share, over a gateway `wsss` of a mergesync server. It needs nothing but a browser.

/**
 * Open the document of a room, and keep it open: it comes back by itself when the connection is lost.
 *
 * @param {string} url of the gateway, such as 'ws://localhost:8047/wsss'.
 * @param {string} roomName
 * @param {(state: any) => void} listener hears each new document, null for none yet.
 * @returns {(change: (state: any) => any) => void} changes the document: `change` is given the present one and returns
 *   the new one. It is called again if somebody else was quicker.
 */
export const openDocument = (url, roomName, listener) => {
  const id = Math.random().toString(36).slice(2);
  const changes = [];
  let socket, known, asking;

  const ask = () => {
    if (!asking && known && changes.length) {
      asking = true;
      socket.send(JSON.stringify({id, roomName, version: known.version, update: changes[0](known.state)}));
    }
  };

  const hear = (frame) => {
    const {error, data} = JSON.parse(frame.data);
    if (!data) return;
    // Who has changed it hears of that twice; anybody else's change comes once.
    if (asking && (error || data.version === known.version)) {
      asking = false;
      if (error !== 'wrong version') changes.shift();
    }
    const isNew = data.version !== known?.version;
    known = data;
    if (isNew) listener(known.state);
    ask();
  };

  const connect = () => {
    socket = new WebSocket(url);
    socket.onopen = () => socket.send(JSON.stringify({id, roomName}));
    socket.onmessage = hear;
    socket.onclose = () => {
      known = undefined;
      asking = false;
      setTimeout(connect, 500);
    };
  };
  connect();

  return (change) => {
    changes.push(change);
    ask();
  };
};
