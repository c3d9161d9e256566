// What went wrong, in words: what happened, and what to do.

import type { ReadonlySignal } from "@preact/signals";
import type { ServerError } from "../api/server";
import type { RunDesk } from "../episode/runDesk";
import { Button } from "../ui/button";
import { CloseIcon } from "../ui/icons";

interface Notice {
  message: string;
  hint: string;
  dismiss?: () => void;
}

export function Notices({ desk }: { desk: RunDesk }) {
  const notices = noticesOf(desk);
  if (notices.length === 0) return null;
  return (
    <div class="notices" role="alert">
      {notices.map(({ message, hint, dismiss }) => (
        <div key={message} class="alert">
          <div>
            <strong>{message}</strong>
            {hint && <p>{hint}</p>}
          </div>
          {dismiss && <Button label="Dismiss" icon={<CloseIcon />} kind="quiet" iconOnly onClick={dismiss} />}
        </div>
      ))}
    </div>
  );
}

function noticesOf({ connection, scene, run, glance, server }: RunDesk): Notice[] {
  const notices: Notice[] = [];
  const info = connection.info.value;
  if (connection.isLost.value) {
    const hint = "the page goes on as soon as it is back; what came of the episode can still be replayed";
    notices.push({ message: `${server.name} does not answer: the server is lost`, hint });
  } else if (info?.model_status === "broken") {
    notices.push({ message: "the model could not be loaded", hint: info.reason ?? "" });
  }
  const refusal = run.error.value === null ? [errorOf(glance.refusal)] : [];
  for (const { value, clear } of [errorOf(scene.error), errorOf(run.error), ...refusal]) {
    if (value === null || (connection.isLost.value && value.code === "unreachable")) continue;
    notices.push({ message: value.message, hint: value.hint, dismiss: clear });
  }
  return notices;
}

function errorOf(error: ReadonlySignal<ServerError | null> & { value: ServerError | null }) {
  return {
    value: error.value,
    clear: () => {
      error.value = null;
    },
  };
}
