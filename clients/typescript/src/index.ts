export * from "./api.js";
export type { ConnectOptions } from "./channel.js";
export { Client, connect } from "./client.js";
export { FlowFollower, Follower, type FlowFollowOptions, type FollowOptions } from "./follower.js";
export { HttpClient, type HttpOptions } from "./http.js";
export type { Credentials, Sign } from "./login.js";
export {
  Aborted,
  CallTooLarge,
  CannotConnect,
  ClientError,
  Closed,
  ConnectionLost,
  NoReply,
  RpcError,
  type CallOptions,
} from "./rpc.js";
export { RunnerSubscription, type RunnerNotice } from "./runner-subscription.js";
export { Failure, RunnerService, serveRunner, type Result, type RunnerOptions, type Work } from "./runner.js";
export type { Socket, SocketClass, SocketOptions } from "./websocket/socket.js";
