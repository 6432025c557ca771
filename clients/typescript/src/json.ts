// What is sent, as JSON, and the texts in it.

/** The JSON of a message. Throws TypeError for NaN and Infinity, which JSON.stringify would make null, and as that. */
export function encoded(message: unknown): string {
  const text = JSON.stringify(message);
  // To look at each value takes longer than to encode it; most messages have no null.
  if (text.includes("null")) refuseNoNumbers(message, "");
  return text;
}

/** The text without halves of surrogate pairs, which the coordinator does not take. */
export function wellFormed(text: string): string {
  return text.replace(/\p{Surrogate}/gu, "\ufffd");
}

/** So much of a text from there, in UTF-16; less, where that would end within a surrogate pair. */
export function pieceOf(text: string, at: number, length: number): string {
  const piece = text.slice(at, at + length);
  return at + length < text.length && /[\ud800-\udbff]$/.test(piece) ? piece.slice(0, -1) : piece;
}

function refuseNoNumbers(value: unknown, place: string): void {
  if (typeof value === "number" && !Number.isFinite(value)) {
    throw new TypeError(`${place.slice(1)} is ${value}, which is no number in JSON`);
  }
  if (typeof value === "object" && value !== null) {
    for (const [name, member] of Object.entries(value)) refuseNoNumbers(member, `${place}.${name}`);
  }
}
