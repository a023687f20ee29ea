"""A page with Gradio: drop a photo or take one with the camera, see its classes.

python examples/gradio_page.py       # on http://127.0.0.1:7860; GRADIO_SERVER_PORT names another port
"""

import gradio as gr

from petinfer import Classifier, PhotoError

clf = Classifier(max_pixels=25_000_000)


def classify(path: str | None) -> dict[str, float]:
    """Each class with its probability."""
    if path is None:
        raise gr.Error("Choose a photo first")
    try:
        return clf.predict(path).probabilities
    except PhotoError as error:
        raise gr.Error(str(error)) from None


page = gr.Interface(
    classify,
    gr.Image(type="filepath", image_mode=None, label="Photo"),  # the file as it is: otherwise Gradio encodes it anew
    gr.Label(label="Class"),
    title="petinfer",
    flagging_mode="never",
    analytics_enabled=False,
)

if __name__ == "__main__":
    page.queue(max_size=16).launch(max_file_size="10mb")  # more visitors than 16 are told that the queue is full
