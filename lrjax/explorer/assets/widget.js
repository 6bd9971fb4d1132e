/* The explorer in a notebook: the page in a frame, whose fragment is the widget's `state` (lrjax/explorer/widget.py). */
function render({ model, el }) {
  const address = URL.createObjectURL(new Blob([model.get("html")], { type: "text/html" }));
  const frame = document.createElement("iframe");
  frame.title = "lrjax explorer";
  frame.style.cssText = "width: 100%; height: 900px; border: 0";
  frame.src = `${address}#${model.get("state")}`;
  const shown = () => frame.contentWindow.location.hash.slice(1);
  const tell = () => {
    model.set("state", shown());
    model.save_changes();
  };
  const follow = () => {
    if (frame.contentWindow && model.get("state") !== shown()) frame.contentWindow.location.hash = model.get("state");
  };
  frame.addEventListener("load", () => {
    frame.contentWindow.addEventListener("explored", tell);
    tell();
  });
  model.on("change:state", follow);
  el.append(frame);
  return () => {
    model.off("change:state", follow);
    URL.revokeObjectURL(address);
  };
}
export default { render };
