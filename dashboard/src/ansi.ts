// Log lines with the colours their scripts gave them. Of terminal sequences only colours and weight mean anything here.

export interface Span {
  text: string;
  style: string;
}

// A control sequence; a string sequence such as a title or a link; another escape of two characters.
const ESCAPE = /\x1b(?:\[([0-?]*)([ -/]*[@-~])|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\|$)|[ -/]*[0-~]|$)/g;
const OTHER_CONTROLS = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const COLOURS = ['black', 'red', 'green', 'yellow', 'blue', 'magenta', 'cyan', 'white'];

/** The parts of a line that look alike. Control characters that remain are made visible. */
export function spans(line: string): Span[] {
  const end = line.endsWith('\r') ? line.length - 1 : line.length;
  const text = line.slice(0, end);
  const found: Span[] = [];
  let colour = '';
  let weight = '';
  let at = 0;
  const add = (part: string) => {
    if (part) found.push({ text: part.replace(OTHER_CONTROLS, visible), style: `${colour}${weight}`.trim() });
  };
  for (const match of text.matchAll(ESCAPE)) {
    add(text.slice(at, match.index));
    at = match.index + match[0].length;
    if (match[2] !== 'm') continue;
    for (const code of (match[1] ?? '').split(';').map(Number)) {
      if (code === 0) colour = weight = '';
      else if (code === 1) weight = ' bold';
      else if (code === 2) weight = ' dim';
      else if (code === 22) weight = '';
      else if (code >= 30 && code <= 37) colour = `ansi-${COLOURS[code - 30]}`;
      else if (code >= 90 && code <= 97) colour = `ansi-${COLOURS[code - 90]}`;
      else if (code === 39) colour = '';
      else if (code === 38 || code === 48) break; // what follows are not codes, and its colours are not ours
    }
  }
  add(text.slice(at));
  return found;
}

function visible(character: string): string {
  return `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`;
}
