// Which scene: a bundled one with its robot, or a file of the visitor's own.

import { useId, useRef } from "preact/hooks";
import type { RunDesk } from "../episode/runDesk";
import { Button } from "../ui/button";
import { FolderIcon } from "../ui/icons";

export function SceneMenu({ desk }: { desk: RunDesk }) {
  const id = useId();
  const file = useRef<HTMLInputElement>(null);
  const { bundled, shown } = desk.scene;
  const name = shown.value?.name ?? "";
  const names = name === "" || bundled.value.includes(name) ? bundled.value : [...bundled.value, name];
  return (
    <>
      <span class="inline">
        <label for={id}>Scene</label>
        <select id={id} value={name} onChange={({ currentTarget }) => void desk.openScene(currentTarget.value)}>
          {names.map((option) => (
            <option key={option} value={option} selected={option === name}>
              {/^[0-9a-f]{64}$/.test(option) ? `scene ${option.slice(0, 8)}` : option}
            </option>
          ))}
        </select>
      </span>
      <Models desk={desk} />
      <Button label="Open scene…" icon={<FolderIcon />} onClick={() => file.current?.click()} />
      <input
        ref={file}
        type="file"
        hidden
        aria-label="File"
        accept=".xml,.mjcf,.zip"
        onChange={({ currentTarget }) => {
          const [chosen] = currentTarget.files ?? [];
          if (chosen) void desk.openFile(chosen);
          currentTarget.value = "";
        }}
      />
    </>
  );
}

/** Which model of a zip with several. */
function Models({ desk }: { desk: RunDesk }) {
  const { file, models, model } = desk.scene;
  if (models.value.length === 0) return null;
  return (
    <span class="inline">
      <select
        aria-label="Model in the zip"
        value={model.value}
        onChange={({ currentTarget }) => file.value && void desk.openFile(file.value, currentTarget.value)}
      >
        <option value="">model of the zip</option>
        {models.value.map((name) => (
          <option key={name} value={name}>
            {name}
          </option>
        ))}
      </select>
    </span>
  );
}
