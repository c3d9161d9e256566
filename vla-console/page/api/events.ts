// Server-sent events from a fetch: an EventSource can neither be aborted cleanly nor tell a refusal's reason.

export interface ServerEvent {
  name: string;
  id: number;
  data: unknown;
}

/** Yield the events of a stream as they come; the JSON of each is parsed. */
export async function* readEvents(body: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<ServerEvent> {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    while (true) {
      const { value, done } = await reader.read();
      if (done) return;
      text += value;
      const blocks = text.split("\n\n");
      text = blocks.pop() ?? "";
      for (const block of blocks) {
        const event = parseEvent(block);
        if (event !== null) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parseEvent(block: string): ServerEvent | null {
  let name = "message";
  let id = -1;
  const data: string[] = [];
  for (const line of block.split("\n")) {
    const [field = "", value = ""] = split(line);
    if (field === "event") name = value;
    else if (field === "id") id = Number(value);
    else if (field === "data") data.push(value);
  }
  return data.length ? { name, id, data: JSON.parse(data.join("\n")) } : null;
}

function split(line: string): [string, string] {
  const colon = line.indexOf(":");
  return colon < 0 ? [line, ""] : [line.slice(0, colon), line.slice(colon + 1).replace(/^ /, "")];
}
