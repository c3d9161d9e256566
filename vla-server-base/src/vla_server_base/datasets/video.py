"""Images as video: frames are written one after another, and read back by their times."""

from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from jaxtyping import Float, UInt8

from vla_server_base.errors import DatasetError

CODEC, CODEC_NAME, PIXELS = "libx264", "h264", "yuv420p"
# A rate factor below the usual 23 loses little but half the colour resolution. A key frame every 10 frames keeps
# seeking short; without frames that refer to later ones (bf), each is shown at its own time.
OPTIONS = {"crf": "12", "preset": "fast", "g": "10", "bf": "0"}

# Timestamps of float32 are this exact after an hour.
ROUNDING_S = 5e-4


class VideoWriter:
    """Encodes frames to an MP4 file at a whole number of frames per second; the first is at time 0."""

    def __init__(self, path: Path, fps: int, height: int, width: int):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(path), "w", format="mp4")
        self._stream = self._container.add_stream(CODEC, rate=Fraction(fps), options=OPTIONS)
        self._stream.height, self._stream.width, self._stream.pix_fmt = height, width, PIXELS
        self._period = Fraction(1, fps)
        self.num_frames = 0

    def write(self, frames: UInt8[np.ndarray, "length height width 3"]) -> None:
        """Add frames."""
        for image in frames:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = self.num_frames, self._period
            self._container.mux(self._stream.encode(frame))
            self.num_frames += 1

    def close(self) -> None:
        """Complete the file."""
        self._container.mux(self._stream.encode())
        self._container.close()


def read_frames(
    path: Path, times: Float[np.ndarray, " length"], fps: float
) -> UInt8[np.ndarray, "length height width 3"]:
    """Return the frames nearest to these ascending times [s]; each is within half a frame of its time.

    Raises:
        DatasetError: the file is missing or damaged, or lacks a frame.
    """
    tolerance, frames = 0.5 / fps + ROUNDING_S, []
    if not path.exists():
        raise DatasetError(f"the video {path} is missing", hint="copy the dataset again")
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            assert stream.time_base is not None, "a stream of a file has a time base"
            container.seek(max(0, int((times[0] - tolerance) / stream.time_base)), stream=stream)
            before = None
            for frame in container.decode(stream):
                while len(frames) < len(times) and (time := times[len(frames)]) <= frame.time:
                    is_nearer = before is not None and time - before.time <= frame.time - time
                    frames.append(_at(time, before if is_nearer else frame, tolerance, path))
                before = frame
                if len(frames) == len(times):
                    break
            frames += [_at(time, before, tolerance, path) for time in times[len(frames) :]]
    except (av.error.FFmpegError, IndexError, OSError) as error:
        raise DatasetError(f"the video {path} cannot be read ({error})", hint="copy the dataset again") from error
    return np.stack(frames)


def _at(time: float, frame: av.VideoFrame | None, tolerance: float, path: Path) -> UInt8[np.ndarray, "height width 3"]:
    if frame is None or abs(frame.time - time) > tolerance:
        raise DatasetError(
            f"the video {path} has no frame at {time:.3f} s",
            hint="it is truncated, or has another rate than the dataset; copy the dataset again",
        )
    return frame.to_ndarray(format="rgb24")
