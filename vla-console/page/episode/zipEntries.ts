// The names of a zip's files, from its central directory (APPNOTE.TXT 4.3.12 and 4.3.16).

const END_OF_DIRECTORY = 0x06054b50;
const DIRECTORY_ENTRY = 0x02014b50;
const MAX_END_BYTES = 22 + 0xffff;

/** Return the files' names; none where the bytes are not a zip that this reads. */
export function zipEntries(bytes: ArrayBuffer): string[] {
  const view = new DataView(bytes);
  const end = endOfDirectory(view);
  if (end === null) return [];
  const names: string[] = [];
  let offset = view.getUint32(end + 16, true);
  while (offset + 46 <= end && view.getUint32(offset, true) === DIRECTORY_ENTRY) {
    const [name, extra, comment] = [28, 30, 32].map((field) => view.getUint16(offset + field, true)) as [
      number,
      number,
      number,
    ];
    if (offset + 46 + name > end) break;
    names.push(new TextDecoder().decode(bytes.slice(offset + 46, offset + 46 + name)));
    offset += 46 + name + extra + comment;
  }
  return names;
}

function endOfDirectory(view: DataView): number | null {
  for (let offset = view.byteLength - 22; offset >= Math.max(0, view.byteLength - MAX_END_BYTES); offset--) {
    if (view.getUint32(offset, true) === END_OF_DIRECTORY) return offset;
  }
  return null;
}
