"""From a video, frames or an image to model inputs."""
