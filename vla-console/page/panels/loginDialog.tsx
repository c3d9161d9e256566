// The dialog that asks for a server's API key.

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { wantedLogin } from "../api/login";
import { Button } from "../ui/button";
import { Field } from "../ui/field";

export function LoginDialog() {
  const wanted = wantedLogin.value;
  return wanted === null ? null : <KeyForm key={wanted.entry.base} />;
}

/** It stays until there is a valid key: without one the page can show nothing. */
function KeyForm() {
  const wanted = wantedLogin.value;
  const key = useSignal("");
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  if (wanted === null) return null;
  return (
    <dialog ref={dialog} class="dialog" aria-label="Log in" onCancel={(event) => event.preventDefault()}>
      <form
        class="dialog-body"
        onSubmit={(event) => {
          event.preventDefault();
          void wanted.send(key.value.trim());
        }}
      >
        <header>
          <h2>Log in</h2>
        </header>
        <Field label={`API key of ${wanted.entry.name}`} wide>
          <input
            type="password"
            autocomplete="current-password"
            required
            value={key.value}
            onInput={({ currentTarget }) => {
              key.value = currentTarget.value;
            }}
          />
        </Field>
        {wanted.error.value && <p role="alert">{wanted.error.value}</p>}
        <Button label="Log in" kind="primary" type="submit" />
      </form>
    </dialog>
  );
}
