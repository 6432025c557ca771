// What the API answers, as far as it is shown. `specs/openrpc.json` is the contract.

export type JobStatus = 'Dispatched' | 'WaitingForPrerequisites' | 'Started' | 'Error' | 'Finished';
export type FlowStatus = 'Dispatched' | 'Started' | 'Error' | 'Finished';
export type Texts = Record<string, string>;

export interface Flow {
  id: number;
  caller_id: number;
  context_id: number;
  jobs: number[];
  env_vars: Texts;
  result: Texts;
  status: FlowStatus;
  created_at: number;
  updated_at: number;
  name?: string;
  tags?: string[];
  paused?: boolean;
}

export interface Job {
  id: number;
  caller_id: number;
  context_id: number;
  script: string;
  script_type: string;
  timeout: number;
  retries: number;
  lost_retries?: number;
  env_vars: Texts;
  prerequisites: string[];
  depends: number[];
  result: Texts;
  status: JobStatus;
  created_at: number;
  updated_at: number;
  name?: string;
  tags?: string[];
}

export interface JobProgress {
  id: number;
  script_type: string;
  depends: number[];
  status: JobStatus;
  attempt: number;
  runner_id?: number;
  queued_at?: number;
  started_at?: number;
  ended_at?: number;
  lost?: number;
  retry_at?: number;
  failure?: string;
  name?: string;
}

export interface FlowReport {
  flow: Flow;
  counts: Record<string, number>;
  jobs: JobProgress[];
  missing?: number[];
  started_at?: number;
  ended_at?: number;
  last_event: string;
}

export interface FlowEvent {
  event_id: string;
  kind: 'flow' | 'job' | 'log';
  at: number;
  status?: string;
  job_id?: number;
  flow_id?: number;
  attempt?: number;
  runner_id?: number;
  topic?: string;
  reason?: string;
  lost?: boolean;
  stream?: string;
  lines?: string[];
  missed?: boolean;
  paused?: boolean;
}

export interface LogReport {
  at: number;
  attempt: number;
  stream: string;
  lines: string[];
}

export interface Context {
  id: number;
  admins: number[];
  readers: number[];
  executors: number[];
  paused?: boolean;
  paused_script_types?: string[];
  created_at: number;
  updated_at: number;
}

export interface Runner {
  id: number;
  pubkey: string;
  address: string;
  topic: string;
  local: boolean;
  created_at: number;
  updated_at: number;
  failed_in_a_row?: number;
  lost_in_a_row?: number;
  held_back_for?: number;
  draining?: boolean;
  connected?: boolean;
  connected_since?: number;
  capacity?: number;
  attempts?: number;
  jobs?: { caller_id: number; id: number }[];
}

export interface Message {
  id: number;
  caller_id: number;
  context_id: number;
  message: string;
  message_type: string;
  message_format_type: string;
  job: Job[];
  logs: string[];
  status: string;
  transport_status?: string;
  created_at: number;
  updated_at: number;
}

export interface Stats {
  flows: Record<string, number>;
  jobs: Record<string, number>;
  script_types: Record<string, { jobs: number; queued: number; oldest: number }>;
  runners: { connected: number; busy: number };
}

export interface FlowsDone {
  matched: number;
  done: number;
  refused: { id: number; detail: string }[];
  cursor?: string;
}

export interface Page<T> {
  items: T[];
  cursor?: string;
}

export interface TokenInfo {
  id: string;
  principal: string;
  label: string;
  access: string;
  contexts?: number[];
  created_at: number;
  expires_at: number;
  used_at?: number;
}
