import type { ComponentChildren } from "preact";

interface Props {
  title: string;
  /** What stands at the right of the title: a number, a button. */
  aside?: ComponentChildren;
  /** Opens and closes with a click on its title. */
  folds?: boolean;
  open?: boolean;
  children: ComponentChildren;
}

export function Panel({ title, aside, folds = false, open = false, children }: Props) {
  if (folds) {
    return (
      <details class="panel" open={open}>
        <summary>
          <h2>{title}</h2>
          {aside}
        </summary>
        {children}
      </details>
    );
  }
  return (
    <section class="panel" aria-label={title}>
      <header>
        <h2>{title}</h2>
        {aside}
      </header>
      {children}
    </section>
  );
}
