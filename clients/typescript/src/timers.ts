// Timers for times that may be far off.

/** Milliseconds, 24.8 days: the platforms' timers take what is more for 1 ms. */
export const FARTHEST_MS = 2 ** 31 - 1;

export type Timer = ReturnType<typeof setTimeout>;

/** Call it after so many milliseconds; never, if that is farther off than a timer goes. */
export function after(ms: number, act: () => void): Timer | undefined {
  return ms > FARTHEST_MS ? undefined : setTimeout(act, ms);
}
