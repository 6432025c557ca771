// The client: the calls of a Channel, the API's methods, and subscriptions.

import {
  bind,
  type Api,
  type EventSubscriptions,
  type FlowSubscribeParams,
  type RunnerSubscribeParams,
} from "./api.js";
import { Channel, type ConnectOptions } from "./channel.js";
import { FlowFollower, Follower, type FlowFollowOptions, type FollowOptions } from "./follower.js";
import { RunnerSubscription } from "./runner-subscription.js";

// Its methods are those of the API, `flow.submit` as `client.flow.submit(params)`.
export interface Client extends Api {}

/** Made by `connect`. */
export class Client extends Channel {
  constructor(url: string, options: ConnectOptions = {}) {
    super(url, options);
    Object.assign(
      this,
      bind((method, params, callOptions) => this.call(method, params, callOptions)),
    );
  }

  /** A flow's events, until it has ended. */
  followFlow(params: FlowSubscribeParams, options: FlowFollowOptions = {}): FlowFollower {
    return new FlowFollower(this, params, options);
  }

  /** The events of any subscription, without an end. */
  follow<M extends keyof EventSubscriptions>(
    method: M,
    params: EventSubscriptions[M]["params"],
    options: FollowOptions = {},
  ): Follower<M> {
    return new Follower(this, method, params, options);
  }

  /** A runner's assignments. Throws RpcError if the runner was not created, or cannot be subscribed to. */
  subscribeRunner(params: RunnerSubscribeParams): Promise<RunnerSubscription> {
    return new RunnerSubscription(this, params).ready();
  }
}

/**
 * A client of the coordinator at this URL, which connects by itself, now and whenever the connection is lost.
 *
 * It is there at once, calls wait for the connection. What was not answered when a connection is lost is sent again on
 * the next one, first and in the order it was called in: every method of the API may be repeated.
 *
 * url: ws://HOST:PORT or wss://HOST:PORT of the WebSocket, or http://HOST:PORT or https://HOST:PORT of the HTTP API,
 * beside which it is at /ws.
 */
export function connect(url: string, options: ConnectOptions = {}): Client {
  return new Client(url, options);
}
