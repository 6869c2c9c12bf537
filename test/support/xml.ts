/** One piece of a document: a tag with its attributes, or text. */
const piece =
  /<(?<close>\/)?(?<name>[A-Za-z][\w.-]*)(?<attributes>(?:\s+[\w:.-]+="[^"<]*")*)\s*(?<empty>\/)?>|(?<text>[^<]+)/uy;
/** What XML 1.0 allows in a document. */
const allowed = /^[\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]*$/u;

export interface Element {
  name: string;
  attributes: Record<string, string>;
  text: string;
}

/**
 * The elements of an XML document, in the order of their starts, each with the text directly in it.
 * @throws Error where the document is not well-formed
 */
export function parseXml(document: string): Element[] {
  if (!allowed.test(document)) throw new Error('a character that XML does not allow');
  const elements: Element[] = [];
  const open: Element[] = [];
  for (piece.lastIndex = 0; piece.lastIndex < document.length;) {
    const at = piece.lastIndex;
    const groups = piece.exec(document)?.groups;
    if (!groups) throw new Error(`no tag and no text at ${at}: ${document.slice(at, at + 40)}`);
    const { close, name, attributes = '', empty, text } = groups;
    if (text !== undefined) {
      const parent = open.at(-1);
      if (parent) parent.text += unescapeXml(text);
      else if (text.trim() !== '') throw new Error(`text outside of elements at ${at}`);
    } else if (close) {
      if (open.pop()?.name !== name) throw new Error(`</${name}> at ${at} closes another element`);
    } else {
      if (open.length === 0 && elements.length > 0) throw new Error(`a second root <${name}>`);
      const pairs = [...attributes.matchAll(/([\w:.-]+)="([^"]*)"/g)].map(
        ([, key, value]) => [key as string, unescapeXml(value as string)] as const,
      );
      const element = { name: name as string, attributes: Object.fromEntries(pairs), text: '' };
      if (Object.keys(element.attributes).length !== pairs.length) throw new Error(`<${name}>: an attribute twice`);
      elements.push(element);
      if (!empty) open.push(element);
    }
  }
  if (open.length > 0) throw new Error(`<${open.at(-1)?.name}> is not closed`);
  return elements;
}

function unescapeXml(text: string): string {
  const names: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };
  return text.replace(/&(?:#(\d+)|(\w+));|&/g, (whole, code?: string, name?: string) => {
    const character = code === undefined ? names[name ?? ''] : String.fromCodePoint(Number(code));
    if (character === undefined) throw new Error(`'${whole}' is no reference`);
    return character;
  });
}
