// What the policy's cameras see, pixel for pixel as the policy gets it; a click shows one large.

import { useSignal } from "@preact/signals";
import type { Moment } from "../episode/moment";
import { Dialog } from "../ui/dialog";

interface Props {
  moment: Moment;
  /** The policy's cameras, before there is an image of them. */
  names: readonly string[];
}

export function Cameras({ moment, names }: Props) {
  const large = useSignal<string | null>(null);
  const images = moment.images.value;
  const shown = Object.keys(images).length ? Object.keys(images) : names;
  return (
    <section class="cameras" aria-label="Cameras">
      {shown.map((name) => (
        <button
          key={name}
          type="button"
          class="camera"
          aria-label={`Camera ${name}`}
          disabled={images[name] === undefined}
          onClick={() => {
            large.value = name;
          }}
        >
          {images[name] !== undefined && <img src={source(images[name])} alt={`what ${name} sees`} />}
          <span>{name}</span>
        </button>
      ))}
      {large.value !== null && images[large.value] !== undefined && (
        <Dialog
          title={`${large.value}, as the policy gets it`}
          onClose={() => {
            large.value = null;
          }}
        >
          <img class="camera-large" src={source(images[large.value] ?? "")} alt={`what ${large.value} sees, large`} />
        </Dialog>
      )}
    </section>
  );
}

/** Base64 says what it holds by its first letters: JPEG or PNG. */
function source(base64: string): string {
  return `data:image/${base64.startsWith("/9j/") ? "jpeg" : "png"};base64,${base64}`;
}
