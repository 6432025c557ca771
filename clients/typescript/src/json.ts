// What is sent, as JSON.

/** The JSON of a message. Throws TypeError for NaN and Infinity, which JSON.stringify would make null, and as that. */
export function encoded(message: unknown): string {
  const text = JSON.stringify(message);
  // To look at each value takes longer than to encode it; most messages have no null.
  if (text.includes("null")) refuseNoNumbers(message, "");
  return text;
}

function refuseNoNumbers(value: unknown, place: string): void {
  if (typeof value === "number" && !Number.isFinite(value)) {
    throw new TypeError(`${place.slice(1)} is ${value}, which is no number in JSON`);
  }
  if (typeof value === "object" && value !== null) {
    for (const [name, member] of Object.entries(value)) refuseNoNumbers(member, `${place}.${name}`);
  }
}
