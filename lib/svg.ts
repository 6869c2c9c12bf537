/** Characters that XML knows only as itself: control characters, halves of surrogate pairs, two that are no characters. */
const unwritable = /[\u0000-\u001f\u007f-\u009f\ufffe\uffff]|\p{Surrogate}/gu;

/** Text as it may stand between the tags of an SVG; control characters are shown by their pictures (␀), or as U+FFFD. */
export function escapeXml(text: string): string {
  return text
    .replace(unwritable, (character) => {
      const code = character.charCodeAt(0);
      return code < 0x20 ? String.fromCharCode(0x2400 + code) : '\ufffd';
    })
    .replace(/[<>&"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
