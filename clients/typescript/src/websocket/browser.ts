// Wherever there is a WebSocket already.

import type { SocketClass } from "./socket.js";

export const PlatformSocket: SocketClass | undefined = (globalThis as { WebSocket?: SocketClass }).WebSocket;
