import type { EpisodeRun } from "./episodeRun";

/** Return what the page has of an episode as a JSON text: the request, and the events as the server sent them. */
export function episodeJson(run: EpisodeRun): string {
  const { id, request, start, steps, changes, end } = run;
  return JSON.stringify({
    episode_id: id.value,
    request: request.value,
    start: start.value,
    steps: steps.value,
    changes: changes.value,
    end: end.value && { ...end.value, recordings: undefined },
  });
}
