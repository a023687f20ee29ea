"""A window: choose a photo, see it with its class. Needs nothing but petinfer and Python's own tkinter.

python examples/tk_window.py
"""

import tkinter as tk
from concurrent.futures import Future, ThreadPoolExecutor
from tkinter import filedialog, ttk

from PIL import Image, ImageOps, ImageTk

from petinfer import Classifier, PhotoError, Prediction

SIZE = 480  # px, of the picture in the window


class Window(tk.Tk):
    """The photo above, its answer and a button below; petinfer computes in a thread, so that the window goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.title("petinfer")
        self.clf = Classifier(wait=False)  # opens while the window is drawn
        self.pool, self.answer = ThreadPoolExecutor(1), tk.StringVar(value="Choose a photo")
        self.photo = ttk.Label(self)
        self.photo.pack()
        ttk.Label(self, textvariable=self.answer).pack()
        ttk.Button(self, text="Choose…", command=self.choose).pack()

    def choose(self) -> None:
        """Ask for a photo."""
        if path := filedialog.askopenfilename(title="A photo"):
            self.classify(path)

    def classify(self, path: str) -> None:
        """Compute the answer in the other thread."""
        self.answer.set("…")
        self.photo.config(image="")
        self.after(20, self.poll, path, self.pool.submit(self.clf.predict, path))

    def poll(self, path: str, future: "Future[Prediction]") -> None:
        """Show the answer once it is there: only this thread may use the window."""
        if not future.done():
            self.after(20, self.poll, path, future)
            return
        try:
            prediction = future.result()
        except PhotoError as error:
            self.answer.set(str(error))
            return
        self.answer.set(f"{prediction.label}  {prediction.probability:.1%}")
        image = ImageOps.exif_transpose(Image.open(path))
        image.thumbnail((SIZE, SIZE))
        self.picture = ImageTk.PhotoImage(image)  # Tk keeps no reference to it
        self.photo.config(image=self.picture)


if __name__ == "__main__":
    Window().mainloop()
