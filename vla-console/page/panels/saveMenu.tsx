// What can be saved of an episode, and the link that shows a colleague the same one.

import { useSignal } from "@preact/signals";
import { episodeJson } from "../episode/episodeJson";
import type { RunDesk } from "../episode/runDesk";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { LinkIcon, SaveIcon } from "../ui/icons";

export function SaveMenu({ desk }: { desk: RunDesk }) {
  const isOpen = useSignal(false);
  const link = useSignal("");
  const isMaking = useSignal(false);
  const { run } = desk;
  const recordings = run.end.value?.recordings ?? {};
  const name = `episode-${run.start.value?.seed ?? 0}`;
  const copy = async () => {
    history.replaceState(null, "", await desk.link());
    link.value = location.href;
    await navigator.clipboard?.writeText(link.value).catch(() => {});
  };
  const saveDataset = async () => {
    isMaking.value = true;
    const zip = await desk.dataset();
    isMaking.value = false;
    if (zip === null)
      isOpen.value = false; // What went wrong is said over the scene.
    else download(`${name}-lerobot.zip`, new Blob([bytesOf(zip)], { type: "application/zip" }));
  };
  return (
    <>
      <Button
        label="Save"
        icon={<SaveIcon />}
        aria-haspopup="dialog"
        onClick={() => {
          link.value = "";
          isOpen.value = true;
        }}
      />
      {isOpen.value && (
        <Dialog
          title="Save the episode"
          onClose={() => {
            isOpen.value = false;
          }}
        >
          <div class="choices">
            <Button
              label="Episode as JSON"
              disabled={run.start.value === null}
              onClick={() => download(`${name}.json`, new Blob([episodeJson(run)], { type: "application/json" }))}
            />
            <Button
              label="Animation (WebP)"
              disabled={recordings.webp === undefined}
              onClick={() =>
                download(`${name}.webp`, new Blob([bytesOf(recordings.webp ?? "")], { type: "image/webp" }))
              }
            />
            <Button
              label="MuJoCo state log"
              disabled={recordings.state_log === undefined}
              onClick={() =>
                download(`${name}.xml`, new Blob([recordings.state_log ?? ""], { type: "application/xml" }))
              }
            />
            {desk.connection.info.value?.recordings.includes("lerobot") && (
              <Button
                label={isMaking.value ? "LeRobot episode: running it again to record it…" : "LeRobot episode"}
                disabled={run.end.value === null || run.request.value === null || isMaking.value}
                onClick={() => void saveDataset()}
              />
            )}
            <Button label="Copy link" icon={<LinkIcon />} kind="primary" onClick={() => void copy()} />
          </div>
          {run.end.value === null && <p class="muted">Recordings come when the episode has ended.</p>}
          {link.value !== "" && (
            <label class="field">
              <span>The link holds scene, request and seed: it shows the same episode. It is copied.</span>
              <input
                type="text"
                readOnly
                aria-label="Link"
                value={link.value}
                onFocus={(event) => event.currentTarget.select()}
              />
            </label>
          )}
        </Dialog>
      )}
    </>
  );
}

function bytesOf(base64: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

function download(name: string, content: Blob): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
